/** The cgroup manager on this machine's layout: the kernel's files, and what the limits do to real processes. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { hostLayout } from '../../lib/cgroups/layout.ts';
import { loadCgroups, newCgroups } from '../../lib/cgroups/open.ts';
import { CgroupError } from '../../lib/errors.ts';
import { binding } from '../../lib/native/binding.ts';
import { eventually } from '../harness/deadline.ts';
import { controllers } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { cgroupBox, defaultDevices, memberOf, runIn, uniqueId } from './cgroup-box.ts';

const MiB = 1024 * 1024;
const v2 = hostLayout().kind === 'v2';

const failure = (code: string, word: string) => (error: unknown) => {
  assert.ok(error instanceof CgroupError, String(error));
  assert.equal(error.code, code, error.message);
  assert.ok(error.message.includes(word), `${error.message} does not say ${word}`);
  return true;
};

const cpuTicks = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
};

test('limits of v1 stand in the kernel files', {
  proves: [
    'linux.resources.memory.limit',
    'linux.resources.memory.swap',
    'linux.resources.memory.reservation',
    'linux.resources.memory.swappiness',
    'linux.resources.cpu.shares',
    'linux.resources.cpu.quota',
    'linux.resources.cpu.period',
    'linux.resources.cpu.burst',
    'linux.resources.cpu.cpus',
    'linux.resources.cpu.mems',
    'linux.resources.pids.limit',
  ],
  requires: ['root', 'cgroup-v1', 'controller:memory'],
}, async t => {
  const box = await cgroupBox(t, {
    devices: defaultDevices,
    memory: { limit: 64 * MiB, swap: 64 * MiB, reservation: 32 * MiB, swappiness: 10 },
    cpu: { shares: 512, quota: 50_000, period: 100_000, burst: 10_000, cpus: '0', mems: '0' },
    pids: { limit: 20 },
  });
  assert.equal(box.read('memory', 'memory.limit_in_bytes'), String(64 * MiB));
  assert.equal(box.read('memory', 'memory.memsw.limit_in_bytes'), String(64 * MiB));
  assert.equal(box.read('memory', 'memory.soft_limit_in_bytes'), String(32 * MiB));
  assert.equal(box.read('memory', 'memory.swappiness'), '10');
  assert.equal(box.read('cpu', 'cpu.shares'), '512');
  assert.equal(box.read('cpu', 'cpu.cfs_quota_us'), '50000');
  assert.equal(box.read('cpu', 'cpu.cfs_burst_us'), '10000');
  assert.equal(box.read('cpuset', 'cpuset.cpus'), '0');
  assert.equal(box.read('pids', 'pids.max'), '20');
  assert.equal(box.read('devices', 'devices.list'), 'b *:* m\nc *:* m\nc 1:3 rwm\nc 5:0 rwm');
  const stats = await box.manager.stats();
  assert.equal(stats.memory.usage.limit, BigInt(64 * MiB));
  assert.equal(stats.pids.limit, 20n);
  assert.equal(stats.cpuset.cpus, '0');
});

test('limits of v2 stand in the kernel files', {
  proves: [
    'linux.resources.memory.limit',
    'linux.resources.memory.swap',
    'linux.resources.memory.reservation',
    'linux.resources.cpu.shares',
    'linux.resources.cpu.quota',
    'linux.resources.cpu.period',
    'linux.resources.cpu.cpus',
    'linux.resources.cpu.mems',
    'linux.resources.pids.limit',
    'linux.resources.unified',
  ],
  requires: ['root', 'cgroup-v2', 'controller:memory'],
}, async t => {
  const box = await cgroupBox(t, {
    devices: defaultDevices,
    memory: { limit: 64 * MiB, swap: 96 * MiB, reservation: 32 * MiB },
    cpu: { shares: 1024, quota: 50_000, period: 100_000, cpus: '0', mems: '0' },
    pids: { limit: 20 },
    unified: { 'memory.high': String(48 * MiB) },
  });
  assert.equal(box.read('', 'memory.max'), String(64 * MiB));
  assert.equal(box.read('', 'memory.low'), String(32 * MiB));
  assert.equal(box.read('', 'memory.high'), String(48 * MiB));
  assert.equal(box.read('', 'memory.swap.max'), String(32 * MiB));
  assert.equal(box.read('', 'cpu.weight'), '100');
  assert.equal(box.read('', 'cpu.max'), '50000 100000');
  assert.equal(box.read('', 'cpuset.cpus'), '0');
  assert.equal(box.read('', 'pids.max'), '20');
  const stats = await box.manager.stats();
  assert.equal(stats.memory.usage.limit, BigInt(64 * MiB));
  assert.equal(stats.memory.swap.limit, BigInt(96 * MiB));
  assert.equal(stats.pids.limit, 20n);
});

test('a default start writes only the files that it needs', { requires: ['root', 'cgroup-v1'] }, async () => {
  const manager = newCgroups(binding(), uniqueId(), { resources: {}, systemdCgroup: false });
  const { operations } = await manager.prepareStart({ devices: defaultDevices, memory: { limit: MiB } });
  const files = operations.map(o => (o.op === 'write' ? o.path.slice(o.path.lastIndexOf('/') + 1) : o.op));
  const mkdirs = files.filter(f => f === 'mkdir');
  assert.equal(mkdirs.length, hostLayout().v1.length);
  assert.deepEqual(files.slice(mkdirs.length), [
    'cpuset.cpus',
    'cpuset.mems',
    'memory.limit_in_bytes',
    'devices.deny',
    'devices.allow',
    'devices.allow',
    'devices.allow',
    'devices.allow',
  ]);
});

test('a process over the memory limit is killed and counted', {
  requires: ['root', 'controller:memory', 'probe'],
}, async t => {
  const box = await cgroupBox(t, { memory: { limit: 16 * MiB, swap: 16 * MiB } });
  const eater = box.run('eat', String(64 * MiB));
  assert.deepEqual(await eater.exit(), { code: null, signal: 'SIGKILL' });
  assert.equal(await box.manager.oomKillCount(), 1);
  const stats = await box.manager.stats();
  assert.equal(stats.memory.usage.limit, BigInt(16 * MiB));
  assert.ok(Number(stats.memory.usage.maxUsage || BigInt(16 * MiB)) > 15 * MiB); // memory.peak is of 5.19
  assert.equal(stats.memory.events.oom_kill, 1n);
});

test('a fork over the pids limit gets EAGAIN', {
  requires: ['root', 'controller:pids', 'probe'],
}, async t => {
  const box = await cgroupBox(t, { pids: { limit: 6 } });
  const forker = box.run('fork', '20');
  assert.equal(await forker.line(), 'forked 5 EAGAIN');
  assert.equal((await box.manager.pids()).length, 6);
  assert.equal((await box.manager.stats()).pids.current, 6n);
});

test('a cpu quota throttles', { requires: ['root', 'controller:cpu', 'probe'] }, async t => {
  const [quotaUs, periodUs] = [10_000, 100_000];
  const box = await cgroupBox(t, { cpu: { quota: quotaUs, period: periodUs } });
  box.run('burn', '1000000');
  // On each CPU a slice of the quota that was taken and a tick that was overrun (sched-bwc.rst): 5 ms and at most 10 ms.
  const slackNs = BigInt(availableParallelism()) * 15_000_000n;
  // Counted in the kernel's periods, since a busy machine keeps other time than ours. It wants a whole CPU, so sooner or later
  // it uses a period's share up; and a processor that stood still in the middle of a period is paid back in later ones.
  await eventually(
    'the quota was used up in three periods of ten, and not more than it was used',
    async () => {
      const { usage } = (await box.manager.stats()).cpu;
      // Read after the usage: no period that the usage fell into is missing, but the one that is running.
      const { throttling } = (await box.manager.stats()).cpu;
      const allowedNs = (throttling.periods + 2n) * BigInt(quotaUs) * 1000n + slackNs;
      const enough = throttling.periods >= 10n && throttling.throttledPeriods >= 3n;
      return enough && throttling.throttledTimeNs > 0n && usage.totalNs <= allowedNs;
    },
    20_000,
  );
  // Without the quota nobody is held back any more.
  await box.manager.set({ cpu: { quota: -1, period: periodUs } }, {});
  const before = (await box.manager.stats()).cpu.throttling.throttledPeriods;
  await runIn(box.joinFiles, 'burn', '300').exit();
  assert.equal((await box.manager.stats()).cpu.throttling.throttledPeriods, before);
});

test('a device that is not allowed gives EPERM, also after an update', {
  proves: ['linux.resources.devices'],
  trap: 18,
  requires: ['root', 'probe'],
}, async t => {
  const box = await cgroupBox(t, { devices: defaultDevices });
  const attempt = (how: string, path: string) => box.run('try', how, path).line();
  assert.equal(await attempt('write', '/dev/null'), 'ok');
  assert.equal(await attempt('read', '/dev/zero'), 'EPERM');
  const withZero = [...defaultDevices, { allow: true, type: 'c', major: 1, minor: 5, access: 'r' } as const];
  await box.manager.set({ devices: withZero }, { devices: defaultDevices });
  assert.equal(await attempt('read', '/dev/zero'), 'ok');
  assert.equal(await attempt('write', '/dev/zero'), 'EPERM');
  await box.manager.set({ devices: defaultDevices }, { devices: withZero }, { skipDevices: true });
  assert.equal(await attempt('read', '/dev/zero'), 'ok', 'skipDevices leaves the rules alone');
  await box.manager.set({ devices: defaultDevices }, { devices: withZero });
  assert.equal(await attempt('read', '/dev/zero'), 'EPERM');
});

test('a frozen process does not run; thawed it goes on', { requires: ['root', 'probe'] }, async t => {
  const box = await cgroupBox(t, {});
  const burner = box.run('burn', '1000000');
  await box.run('try', 'read', '/').line(); // the cgroup holds more than one process at times
  assert.equal(await box.manager.freezerState(), 'thawed');
  await box.manager.freeze();
  assert.equal(await box.manager.freezerState(), 'frozen');
  const before = cpuTicks(burner.pid);
  await runIn([], 'burn', '200').exit(); // somebody outside runs meanwhile
  // A task counts as frozen on its way off the CPU (v1): the rest of its last tick may be booked after that.
  assert.ok(cpuTicks(burner.pid) - before <= 1);
  const loaded = loadCgroups(binding(), box.manager.paths);
  assert.equal(await loaded.freezerState(), 'frozen');
  await loaded.thaw();
  assert.equal(await box.manager.freezerState(), 'thawed');
  await runIn([], 'burn', '200').exit();
  assert.ok(cpuTicks(burner.pid) > before);
});

test('killAll reaches a tree of processes, also frozen ones', { requires: ['root', 'probe'] }, async t => {
  const box = await cgroupBox(t, {});
  for (const frozen of [false, true]) {
    const forker = box.run('fork', '10');
    assert.equal(await forker.line(), 'forked 10 ');
    assert.equal((await box.manager.pids()).length, 11);
    if (frozen) await box.manager.freeze();
    await box.manager.killAll(9);
    assert.deepEqual(await forker.exit(), { code: null, signal: 'SIGKILL' });
  }
  const trap = box.run('trap', '7');
  assert.equal(await trap.line(), 'ready');
  await box.manager.killAll(15);
  assert.equal(await trap.line(), 'TERM');
  assert.deepEqual(await trap.exit(), { code: 7, signal: null });
});

test('processes that fork all the time are frozen, killed and removed', {
  requires: ['root'],
}, async t => {
  const box = await cgroupBox(t, {});
  const forkers = Array.from({ length: 3 }, () =>
    memberOf(box.joinFiles, ['/bin/sh', '-c', 'echo go; while :; do (:) & (:); done']),
  );
  for (const forker of forkers) assert.equal(await forker.line(), 'go');
  await box.manager.freeze();
  assert.equal(await box.manager.freezerState(), 'frozen');
  const [before, after] = [await box.manager.pids(), await box.manager.pids()];
  assert.deepEqual(after.sort(), before.sort());
  await box.manager.thaw();
  await box.manager.killAll(9);
  for (const forker of forkers) assert.deepEqual(await forker.exit(), { code: null, signal: 'SIGKILL' });
  await box.manager.destroy();
  assert.equal(await box.manager.exists(), false);
});

test('block device limits stand in the files of v1', {
  proves: [
    'linux.resources.blockIO.weight',
    'linux.resources.blockIO.throttleReadBpsDevice',
    'linux.resources.blockIO.throttleWriteIOPSDevice',
  ],
  requires: ['root', 'controller:blkio'],
}, async t => {
  const device = readdirSync('/sys/block')
    .filter(name => !/^(loop|ram|zram)/.test(name))
    .map(name => readFileSync(`/sys/block/${name}/dev`, 'utf8').trim())[0];
  // Without a disk (a guest over 9p) the kernel's refusal of the device shows that the line reached it.
  const [major = 0, minor = 0] = (device ?? '250:77').split(':').map(Number);
  const limits = {
    weight: 200,
    throttleReadBpsDevice: [{ major, minor, rate: 1048576 }],
    throttleWriteIOPSDevice: [{ major, minor, rate: 100 }],
  };
  if (device === undefined) {
    const { weight: _, ...throttles } = limits;
    await assert.rejects(
      cgroupBox(t, { blockIO: throttles }),
      failure('ERR_CGROUP', 'throttleReadBpsDevice[0]'),
    );
    return;
  }
  const bfq = existsSync('/sys/fs/cgroup/blkio/blkio.bfq.io_serviced');
  if (!bfq) {
    await assert.rejects(
      cgroupBox(t, { blockIO: limits }),
      failure('ERR_CGROUP', 'linux.resources.blockIO.weight'),
    );
    return;
  }
  const box = await cgroupBox(t, { blockIO: limits });
  assert.equal(box.read('blkio', 'blkio.bfq.weight'), '200');
  assert.equal(box.read('blkio', 'blkio.throttle.read_bps_device'), `${device} 1048576`);
  assert.equal(box.read('blkio', 'blkio.throttle.write_iops_device'), `${device} 100`);
  await assert.rejects(
    box.manager.set(
      { blockIO: { weight: 300, throttleReadBpsDevice: [{ major: 250, minor: 77, rate: 1 }] } },
      {},
    ),
    failure('ERR_CGROUP', 'throttleReadBpsDevice[0]'),
  );
  assert.equal(box.read('blkio', 'blkio.bfq.weight'), '200');
});

test('an update that fails leaves the former limits', {
  requires: ['root', 'controller:memory', 'controller:cpuset'],
}, async t => {
  const former = { memory: { limit: 64 * MiB }, pids: { limit: 20 } };
  const box = await cgroupBox(t, former);
  const memory = v2 ? 'memory.max' : 'memory.limit_in_bytes';
  await box.manager.set({ memory: { limit: 32 * MiB }, pids: { limit: -1 } }, former);
  assert.equal(box.read('memory', memory), String(32 * MiB));
  assert.equal(box.read('pids', 'pids.max'), 'max');
  await assert.rejects(
    box.manager.set({ memory: { limit: 16 * MiB }, pids: { limit: 7 }, cpu: { cpus: '4000' } }, former),
    failure('ERR_CGROUP', 'linux.resources.cpu.cpus'),
  );
  assert.equal(box.read('memory', memory), String(32 * MiB));
  assert.equal(box.read('pids', 'pids.max'), 'max');
});

test('limits that constrain each other can be changed both ways', {
  requires: ['root', 'controller:memory', 'controller:cpu'],
}, async t => {
  const small = { memory: { limit: 16 * MiB, swap: 32 * MiB }, cpu: { quota: 5_000, period: 10_000 } };
  const large = { memory: { limit: 64 * MiB, swap: 64 * MiB }, cpu: { quota: 400_000, period: 500_000 } };
  const box = await cgroupBox(t, small);
  const read = () =>
    v2
      ? box.read('', 'cpu.max')
      : `${box.read('cpu', 'cpu.cfs_quota_us')} ${box.read('cpu', 'cpu.cfs_period_us')}`;
  for (const [resources, cpu] of [
    [large, '400000 500000'],
    [small, '5000 10000'],
    [large, '400000 500000'],
  ] as const) {
    await box.manager.set(resources, small);
    assert.equal(read(), cpu);
    const { limit } = (await box.manager.stats()).memory.usage;
    assert.equal(limit, BigInt(resources.memory.limit));
  }
});

test('memory.checkBeforeUpdate refuses a limit below the usage', {
  proves: ['linux.resources.memory.checkBeforeUpdate'],
  trap: 17,
  requires: ['root', 'controller:memory', 'probe'],
}, async t => {
  const box = await cgroupBox(t, { memory: { limit: 64 * MiB, swap: 64 * MiB } });
  const eater = box.run('eat', String(32 * MiB));
  assert.match(await eater.line(), /^eaten/);
  await assert.rejects(
    box.manager.set({ memory: { limit: 8 * MiB, swap: 64 * MiB, checkBeforeUpdate: true } }, {}),
    failure('ERR_CGROUP', 'linux.resources.memory'),
  );
  assert.equal(eater.process.exitCode, null);
  assert.equal((await box.manager.stats()).memory.usage.limit, BigInt(64 * MiB));
});

test('a cgroup of somebody else is refused, a leftover empty one is taken', {
  proves: ['linux.cgroupsPath'],
  trap: 16,
  requires: ['root', 'probe'],
}, async t => {
  const path = `/${uniqueId()}/inner`;
  const box = await cgroupBox(t, {}, path);
  const again = newCgroups(binding(), 'x', { cgroupsPath: path, resources: {}, systemdCgroup: false });
  const start = await again.prepareStart({});
  assert.ok(start.operations.every(o => o.op !== 'mkdir' || o.existing === 'ok'));
  await box.manager.freeze();
  await assert.rejects(again.prepareStart({}), failure('ERR_CGROUP_FROZEN', path));
  await box.manager.thaw();
  const program = box.run('sleep');
  assert.equal(await program.line(), 'ready');
  await assert.rejects(again.prepareStart({}), (error: unknown) => {
    assert.ok(error instanceof CgroupError && error.code === 'ERR_CGROUP_NOT_EMPTY');
    assert.deepEqual(error.pids, [program.pid]);
    return true;
  });
  const parent = newCgroups(binding(), 'x', {
    cgroupsPath: path.slice(0, -'/inner'.length),
    resources: {},
    systemdCgroup: false,
  });
  await box.manager.killAll(9);
  await program.exit();
  await box.manager.destroy();
  assert.equal(await box.manager.exists(), false);
  await parent.destroy(); // runc leaves the directories above the last one too; the test does not
});

test('destroy removes what is below, and names who is in the way', {
  requires: ['root', 'probe'],
}, async t => {
  const box = await cgroupBox(t, {});
  const directories = [...new Set(Object.values(box.manager.paths))];
  for (const directory of directories) mkdirSync(join(directory, 'a/b'), { recursive: true });
  const inner = runIn(
    directories.map(d => join(d, 'a/b', 'cgroup.procs')).filter(f => !f.includes('/cpuset/')),
    'sleep',
  );
  assert.equal(await inner.line(), 'ready');
  assert.deepEqual(await box.manager.pids(), [inner.pid]);
  await assert.rejects(box.manager.destroy({ timeoutMs: 200 }), (error: unknown) => {
    assert.ok(error instanceof CgroupError && error.code === 'ERR_CGROUP_BUSY', String(error));
    assert.deepEqual(error.pids, [inner.pid]);
    return true;
  });
  const gone = box.manager.destroy();
  process.kill(inner.pid, 'SIGKILL'); // while destroy() waits
  await gone;
  await inner.exit();
  assert.equal(await box.manager.exists(), false);
  assert.deepEqual(await box.manager.pids(), []);
  assert.equal(await box.manager.freezerState(), 'thawed');
  assert.equal(await box.manager.oomKillCount(), 0);
  await box.manager.killAll(9);
  await box.manager.thaw();
});

test('a cgroup below a threaded one is refused, and a cgroup with controllers for its children sends an exec to init', {
  trap: 16,
  requires: ['root', 'cgroup-v2', 'probe', 'controller:pids'],
}, async t => {
  const box = await cgroupBox(t, {});
  const directory = box.manager.paths[''] ?? '';
  const name = directory.slice('/sys/fs/cgroup'.length);
  mkdirSync(join(directory, 'threads'));
  writeFileSync(join(directory, 'threads/cgroup.type'), 'threaded');
  const below = newCgroups(binding(), 'x', {
    cgroupsPath: `${name}/box`,
    resources: {},
    systemdCgroup: false,
  });
  await assert.rejects(below.prepareStart({}), failure('ERR_CGROUP_TYPE', 'is domain threaded'));
  rmdirSync(join(directory, 'threads'));

  const init = join(directory, 'init.scope');
  mkdirSync(init);
  const program = runIn([join(init, 'cgroup.procs')], 'sleep');
  writeFileSync(join(directory, 'cgroup.subtree_control'), '+pids');
  await eventually(
    'the program in its cgroup',
    () => readFileSync(join(init, 'cgroup.procs'), 'utf8') !== '',
  );
  assert.equal((await box.manager.prepareExec({}, { initPid: program.pid })).cloneInto, init);
  assert.equal((await box.manager.prepareExec({}, { initPid: process.pid })).cloneInto, directory);
});

test('an exec joins the cgroup or one below it, never another', { requires: ['root', 'probe'] }, async t => {
  const box = await cgroupBox(t, {});
  const key = v2 ? '' : 'pids';
  const directory = box.manager.paths[key] ?? '';
  mkdirSync(join(directory, 'sub'));
  const start = await box.manager.prepareExec({ [key]: 'sub' });
  const target = v2 ? start.cloneInto : start.joinFiles.find(f => f.startsWith(directory));
  assert.equal(target, v2 ? join(directory, 'sub') : join(directory, 'sub/tasks'));
  assert.deepEqual(start.operations, []);
  await assert.rejects(box.manager.prepareExec({ [key]: '../other' }), failure('ERR_CGROUP', 'sub-cgroup'));
  await assert.rejects(box.manager.prepareExec({ [key]: 'absent' }), failure('ERR_CGROUP', 'absent'));
});

test('a value that the kernel refuses names its property', {
  requires: ['root', 'controller:cpuset'],
}, async t => {
  await assert.rejects(
    cgroupBox(t, { cpu: { cpus: '4000' } }),
    failure('ERR_CGROUP', 'linux.resources.cpu.cpus'),
  );
});

test('a limit without its controller names both', { requires: ['root'] }, async t => {
  const rdma = { mlx5_0: { hcaHandles: 1 } };
  if (controllers().includes('rdma')) {
    // The device does not exist: refused by the kernel, with the property in the error.
    await assert.rejects(cgroupBox(t, { rdma }), failure('ERR_CGROUP', 'linux.resources.rdma'));
    return;
  }
  await assert.rejects(cgroupBox(t, { rdma }), failure('ERR_CGROUP_CONTROLLER', 'linux.resources.rdma'));
});

test('huge page limits, on a hybrid host in the unified hierarchy', {
  proves: ['linux.resources.hugepageLimits'],
  requires: ['root', 'controller:hugetlb'],
}, async t => {
  const box = await cgroupBox(t, { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MiB }] });
  const directory = box.manager.paths.hugetlb ?? box.manager.paths[''] ?? '';
  const file = existsSync(join(directory, 'hugetlb.2MB.max'))
    ? 'hugetlb.2MB.max'
    : 'hugetlb.2MB.limit_in_bytes';
  assert.equal(readFileSync(join(directory, file), 'utf8').trim(), String(4 * MiB));
  const program = box.run('sleep');
  assert.equal(await program.line(), 'ready');
  assert.ok(readFileSync(join(directory, 'cgroup.procs'), 'utf8').includes(String(program.pid)));
  assert.equal((await box.manager.stats()).hugetlb['2MB']?.usage, 0n);
});
