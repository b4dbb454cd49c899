/** process of the specification, and what of linux a process can see of itself: read back from inside, for both kinds. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { Process } from '../../lib/index.ts';
import { capabilityNumber } from '../harness/capabilities.ts';
import { text, waitFor } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const few = ['CAP_KILL', 'CAP_CHOWN', 'CAP_NET_RAW'];
const mask = (names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(capabilityNumber(name))), 0n)
    .toString(16)
    .padStart(16, '0');

const properties = {
  user: { uid: 1234, gid: 1235, additionalGids: [7, 3000000000], umask: 0o27 },
  cwd: '/tmp/made/for/it',
  env: ['PATH=/bin', 'TWICE=1', 'EMPTY=', 'TWICE=2', 'HOME=/nowhere'],
  capabilities: {
    bounding: few,
    permitted: few.slice(0, 2),
    effective: few.slice(0, 1),
    inheritable: few.slice(0, 2),
    ambient: few.slice(0, 1),
  },
  rlimits: [
    { type: 'RLIMIT_NOFILE', soft: 100, hard: 200 },
    { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
  ],
  noNewPrivileges: true,
  oomScoreAdj: 321,
  scheduler: { policy: 'SCHED_BATCH', nice: 7, flags: ['SCHED_FLAG_RESET_ON_FORK'] },
  ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 6 },
};

test('process: the first one and one that is exec’d are what the section says', {
  requires: ['root', 'probe'],
  proves: [
    'process.user',
    'process.cwd',
    'process.env',
    'process.args',
    'process.capabilities',
    'process.rlimits',
    'process.noNewPrivileges',
    'process.oomScoreAdj',
    'process.scheduler.policy',
    'process.scheduler.nice',
    'process.scheduler.flags',
    'process.ioPriority',
  ],
  trap: [4, 5, 6, 24],
}, async t => {
  const on = await fixture(t, { process: properties, writable: true });
  const container = await on.create();
  const holder = new Process({ ...on.config.process, args: ['/bin/sh', '-c', 'read line'], stdin: 'pipe' });
  await container.run(holder);
  const look = { ...on.config.process, args: ['/bin/probe', 'json'], stdout: 'pipe' } as const;
  const second = new Process(look);
  await container.start(second);
  const exec = JSON.parse(await text(second.stdout ?? assert.fail()));
  await second.wait();
  holder.stdin?.end('\n');
  await holder.wait();
  await container.destroy();
  const again = await on.create();
  const only = new Process(look);
  await again.run(only);
  const first = JSON.parse(await text(only.stdout ?? assert.fail()));
  await only.wait();
  await again.destroy();

  for (const [kind, seen] of Object.entries({ first, exec })) {
    assert.deepEqual(seen.uid, [1234, 1234, 1234], kind);
    assert.deepEqual(seen.gid, [1235, 1235, 1235], kind);
    assert.deepEqual(seen.groups, [7, 3000000000], kind);
    assert.equal(seen.cwd, '/tmp/made/for/it', kind);
    assert.deepEqual(seen.env, ['PATH=/bin', 'EMPTY=', 'TWICE=2', 'HOME=/nowhere'], kind);
    const { status } = seen;
    assert.equal(status.Umask, '0027', kind);
    assert.equal(status.NoNewPrivs, '1', kind);
    assert.equal(status.CapBnd, mask(few), kind);
    assert.equal(status.CapPrm, mask(few.slice(0, 1)), `${kind}: execve leaves a user the ambient ones`);
    assert.equal(status.CapInh, mask(few.slice(0, 2)), kind);
    assert.equal(status.CapAmb, mask(few.slice(0, 1)), kind);
    assert.equal(status.CapEff, mask(few.slice(0, 1)), kind);
    assert.deepEqual(seen.limits[7], ['100', '200'], kind);
    assert.deepEqual(seen.limits[4], ['0', '0'], kind);
    assert.equal(seen.oomScoreAdj, 321, kind);
    assert.equal(seen.ioprio, (2 << 13) | 6, kind);
    assert.equal(seen.parentDeathSignal, 0, kind);
  }
});

/** Fields of proc_pid_stat(5): 18 priority, 19 nice, 40 rt_priority, 41 policy. */
function scheduling(pid: number): { nice: number; priority: number; policy: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { nice: Number(fields[16]), priority: Number(fields[37]), policy: Number(fields[38]) };
}

/** With CONFIG_RT_GROUP_SCHED a new cgroup has no real time of its own, and SCHED_RR is refused in it. */
const rtRuntime = '/sys/fs/cgroup/cpu/cpu.rt_runtime_us';
for (const [scheduler, seen] of [
  [
    { policy: 'SCHED_BATCH', nice: 7 },
    { nice: 7, priority: 0, policy: 3 },
  ],
  [{ policy: 'SCHED_IDLE' }, { nice: 0, priority: 0, policy: 5 }],
  [
    { policy: 'SCHED_RR', priority: 12 },
    { nice: 0, priority: 12, policy: 2 },
  ],
  [
    { policy: 'SCHED_DEADLINE', runtime: 1_000_000, deadline: 50_000_000, period: 100_000_000 },
    { nice: 0, priority: 0, policy: 6 },
  ],
] as const)
  test(`scheduler ${scheduler.policy} from outside, for both kinds of process`, {
    requires: ['root', 'cap:SYS_NICE'],
    proves: [
      'process.scheduler.policy',
      ...(existsSync(rtRuntime)
        ? ['linux.resources.cpu.realtimePeriod', 'linux.resources.cpu.realtimeRuntime']
        : []),
      ...Object.keys(scheduler).map(key => `process.scheduler.${key}`),
    ],
    trap: 24,
  }, async t => {
    const on = await fixture(t, {
      process: { scheduler },
      patch: spec => {
        if (!existsSync(rtRuntime)) return;
        const cpu = { realtimePeriod: 1_000_000, realtimeRuntime: 10_000 };
        Object.assign(spec.linux, { resources: { cpu } });
      },
    });
    const container = await on.create();
    const first = on.sh('echo; read line', { stdin: 'pipe', stdout: 'pipe' });
    await container.run(first);
    await waitFor(first.stdout ?? assert.fail(), 'data');
    assert.deepEqual(scheduling(first.pid ?? 0), seen);
    const second = on.sh('echo; read line', { stdin: 'pipe', stdout: 'pipe' });
    await container.start(second);
    await waitFor(second.stdout ?? assert.fail(), 'data');
    assert.deepEqual(scheduling(second.pid ?? 0), seen);
    for (const process of [second, first]) {
      process.stdin?.end('\n');
      process.stdout?.destroy();
      await process.wait();
    }
    await container.destroy();
  });

test('execCPUAffinity: an exec runs where it says, the first process does not care', {
  requires: ['rootless'],
  proves: ['process.execCPUAffinity'],
  trap: 24,
}, async t => {
  const allowed = (status: string): string => /Cpus_allowed_list:\s*(\S+)/.exec(status)?.[1] ?? '';
  const on = await fixture(t, { process: { execCPUAffinity: { initial: '0', final: '0' } } });
  const container = await on.create();
  const first = on.sh('cat /proc/self/status; read line', { stdin: 'pipe', stdout: 'pipe' });
  await container.run(first);
  const [shown] = await waitFor<[Buffer]>(first.stdout ?? assert.fail(), 'data');
  assert.equal(allowed(String(shown)), allowed(readFileSync('/proc/self/status', 'utf8')));
  const second = on.sh('cat /proc/self/status', { stdout: 'pipe' });
  await container.start(second);
  assert.equal(allowed(await text(second.stdout ?? assert.fail())), '0');
  await second.wait();
  first.stdin?.end('\n');
  first.stdout?.destroy();
  await first.wait();
  await container.destroy();
});

test('namespaces: each that is listed is new, each that is not is the host’s', {
  requires: ['root', 'probe', 'file:/proc/self/ns/time'],
  proves: [
    'linux.namespaces[].type',
    ...['cgroup', 'ipc', 'mount', 'network', 'pid', 'time', 'uts'].map(type => `linux.namespaces[${type}]`),
  ],
}, async t => {
  const files = { cgroup: 'cgroup', ipc: 'ipc', network: 'net', pid: 'pid', time: 'time', uts: 'uts' };
  const seen = async (types: readonly string[]): Promise<string[]> => {
    const on = await fixture(t, {
      patch: spec => {
        delete spec.hostname;
        spec.linux.namespaces = ['mount', ...types].map(type => ({ type }));
      },
    });
    const { namespaces } = JSON.parse(await on.output('exec /bin/probe json'));
    assert.notEqual(namespaces.mnt, readlinkSync('/proc/self/ns/mnt'));
    return Object.entries(files).flatMap(([type, file]) =>
      namespaces[file] === readlinkSync(`/proc/self/ns/${file}`) ? [] : [type],
    );
  };
  assert.deepEqual(await seen(Object.keys(files)), Object.keys(files));
  assert.deepEqual(await seen(['pid', 'uts']), ['pid', 'uts']);
});

test('hostname, sysctl, devices, root.readonly and annotations are what the configuration says', {
  requires: ['root', 'probe'],
  proves: ['hostname', 'root', 'linux.devices', 'linux.sysctl', 'linux.cgroupsPath', 'annotations'],
  trap: 18,
}, async t => {
  const cgroup = `/spec-${process.pid}-below`;
  const on = await fixture(t, {
    writable: true,
    patch: spec => {
      spec.hostname = 'box-7';
      spec.root = { path: 'rootfs', readonly: true };
      Object.assign(spec, { annotations: { 'org.example.a': 'b' } });
      Object.assign(spec.linux, {
        cgroupsPath: cgroup,
        sysctl: { 'kernel.msgmax': '9000', 'net/ipv4/ip_forward': '1' },
        devices: [
          { path: '/dev/block', type: 'b', major: 7, minor: 77, fileMode: 0o640, uid: 5, gid: 6 },
          { path: '/dev/deep/er/char', type: 'u', major: 1, minor: 3, fileMode: 0o604 },
          { path: '/dev/pipe', type: 'p', uid: 8, gid: 9 },
        ],
      });
    },
  });
  const container = await on.create();
  const look =
    'cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward /proc/self/cgroup; touch /x 2>&1; hostname;' +
    'stat -c "%n %F %a %u %g %t:%T" /dev/block /dev/deep/er/char /dev/pipe; read line';
  const running = on.sh(`echo "$(${look.replace('; read line', '')})"; read line`, {
    stdin: 'pipe',
    stdout: 'pipe',
  });
  await container.run(running);
  const [shown] = await waitFor<[Buffer]>(running.stdout ?? assert.fail(), 'data');
  const lines = String(shown).split('\n');
  assert.deepEqual(lines.slice(0, 2), ['9000', '1']);
  assert.ok(String(shown).includes('touch: /x: Read-only file system\nbox-7\n'), String(shown));
  assert.deepEqual(lines.slice(-4, -1), [
    '/dev/block block special file 640 5 6 7:4d',
    '/dev/deep/er/char character special file 604 0 0 1:3',
    '/dev/pipe fifo 666 8 9 0:0',
  ]);
  assert.match(readFileSync(`/proc/${running.pid}/cgroup`, 'utf8'), new RegExp(`:${cgroup}$`, 'm'));
  assert.deepEqual((await container.ociState()).annotations, { 'org.example.a': 'b' });
  running.stdin?.end('\n');
  running.stdout?.destroy();
  await running.wait();
  await container.destroy();
});
