/** Every property of a process that is exec'd into a running container, when it is not the container's. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import type { Container } from '../../lib/index.ts';
import { eventually, slowness, text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import {
  capabilitiesOf,
  type ExecOptions,
  type Facts,
  limitsOf,
  look,
  mask,
  statOf,
  statusOf,
} from './exec-facts.ts';
import { type Fixture, fixture } from './fixture.ts';

const idle = ['/bin/probe', 'sleep'];
const none = mask();

interface Row {
  readonly options: ExecOptions;
  /** The facts that differ from those of an exec without options. */
  readonly seen?: Partial<Facts>;
  readonly ioPriority?: number;
  readonly resetOnFork?: boolean;
}

async function compare(
  on: Fixture,
  container: Container,
  base: Facts,
  rows: { readonly [name: string]: Row },
): Promise<void> {
  for (const [name, { options, seen, ioPriority, resetOnFork = false }] of Object.entries(rows)) {
    const found = await look(on, container, options);
    const expected = { ...base, ...seen };
    assert.deepEqual(found.inside, expected, `${name}, from inside`);
    assert.deepEqual(found.outside, expected, `${name}, from outside`);
    assert.equal(found.resetOnFork, resetOnFork, name);
    if (ioPriority !== undefined) assert.equal(found.ioPriority, ioPriority, name);
  }
}

const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const env = (home: string): string[] => [`HOME=${home}`, path, 'TERM=xterm'];
const everyLimit = (
  'CPU 100 200, FSIZE 1000000 2000000, DATA 1000000000 2000000000, STACK 1048576 2097152, CORE 0 4096, ' +
  'RSS 3000000 4000000, NPROC 1000 2000, NOFILE 77 88, MEMLOCK 4096 8192, AS 2000000000 3000000000, LOCKS 5 6, ' +
  'SIGPENDING 70 80, MSGQUEUE 4000 5000, NICE 0 0, RTPRIO 0 0, RTTIME 1000000 2000000'
)
  .split(', ')
  .map(row => {
    const [name = '', soft = '', hard = ''] = row.split(' ');
    return { type: `RLIMIT_${name}`, soft, hard };
  });
const five = {
  bounding: ['CAP_KILL', 'CAP_CHOWN', 'CAP_NET_RAW', 'CAP_SYS_CHROOT'],
  permitted: ['CAP_KILL', 'CAP_CHOWN', 'CAP_NET_RAW'],
  effective: ['CAP_CHOWN'],
  inheritable: ['CAP_KILL', 'CAP_CHOWN'],
  ambient: ['CAP_KILL'],
};
/** What execve changes is added: permitted and effective. */
const sets = { Inh: mask(...five.inheritable), Bnd: mask(...five.bounding), Amb: mask(...five.ambient) };

test('exec: each property of its own is the only thing that differs', {
  requires: ['root', 'probe', 'cap:SYS_NICE'],
  timeoutMs: 90_000,
  proves: [
    ...['user', 'cwd', 'env', 'capabilities', 'rlimits', 'noNewPrivileges', 'oomScoreAdj', 'ioPriority'],
    ...['scheduler.policy', 'scheduler.nice', 'scheduler.flags'],
  ].map(name => `process.${name}`),
  trap: [4, 5, 6, 24],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const { inside: base, outside } = await look(on, container);
  const few = mask('CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE');
  const capabilities = { Inh: none, Prm: few, Eff: few, Bnd: few, Amb: none };
  assert.deepEqual(base, outside);
  const of = (id: number): number[] => [id, id, id];
  assert.deepEqual(
    { ...base, limits: base.limits[7], cpus: '', oomScoreAdj: 0 },
    {
      ...{ uid: of(0), gid: of(0), groups: [], capabilities, noNewPrivileges: true, umask: '0022', cpus: '' },
      ...{
        cwd: '/',
        env: env('/root'),
        limits: ['1024', '1024'],
        policy: 0,
        priority: 0,
        nice: getPriority(),
        oomScoreAdj: 0,
      },
    },
  );
  // execve leaves a user nothing but the ambient set.
  const nothing = { capabilities: { ...capabilities, Prm: none, Eff: none } };
  const user = (uid: number, home: string) => ({ uid: of(uid), env: env(home), ...nothing });

  await compare(on, container, base, {
    nothing: { options: {} },
    user: {
      options: { user: { uid: 1000, gid: 1001, additionalGids: [29, 7, 3000000000] } },
      seen: { ...user(1000, '/home/app'), gid: of(1001), groups: [7, 29, 3000000000] },
    },
    'group only': { options: { user: { gid: 5 } }, seen: { gid: of(5) } },
    'additional groups only': { options: { user: { additionalGids: [44] } }, seen: { groups: [44] } },
    'user without a row in /etc/passwd': {
      options: { user: { uid: 4242 } },
      seen: user(4242, '/'),
    },
    umask: { options: { user: { umask: 0o77 } }, seen: { umask: '0077' } },
    'umask 0': { options: { user: { umask: 0 } }, seen: { umask: '0000' } },
    'the five sets, root': {
      options: { capabilities: five },
      // Of root execve makes both of inheritable and bounding, but with no_new_privs not more than there was.
      seen: { capabilities: { ...sets, Prm: mask(...five.permitted), Eff: mask(...five.permitted) } },
    },
    'the five sets, root, no_new_privs not set': {
      options: { capabilities: five, noNewPrivileges: false },
      seen: {
        capabilities: { ...sets, Prm: mask(...five.bounding), Eff: mask(...five.bounding) },
        noNewPrivileges: false,
      },
    },
    'the five sets, user': {
      options: { capabilities: five, user: { uid: 1000 } },
      seen: {
        ...user(1000, '/home/app'),
        capabilities: { ...sets, Prm: mask(...five.ambient), Eff: mask(...five.ambient) },
      },
    },
    'no capability': {
      options: { capabilities: { bounding: [], permitted: [], effective: [], inheritable: [], ambient: [] } },
      seen: { capabilities: { Inh: none, Prm: none, Eff: none, Bnd: none, Amb: none } },
    },
    'no_new_privs not set': { options: { noNewPrivileges: false }, seen: { noNewPrivileges: false } },
    cwd: { options: { cwd: '/home/app' }, seen: { cwd: '/home/app' } },
    environment: {
      options: { env: ['TWICE=1', 'EMPTY=', 'WITH=a=b \n"', 'TWICE=2'] },
      seen: { env: ['EMPTY=', 'HOME=/root', 'TWICE=2', 'WITH=a=b \n"'] },
    },
    HOME: {
      options: { env: ['HOME=/x'], user: { uid: 1001 } },
      seen: { ...user(1001, ''), env: ['HOME=/x'] },
    },
    'empty HOME': {
      options: { env: ['HOME='], user: { uid: 1001 } },
      seen: { ...user(1001, ''), env: ['HOME=/home/web'] },
    },
    'all 16 limits': {
      options: { rlimits: everyLimit },
      seen: { limits: everyLimit.map(({ soft, hard }) => [soft, hard]) },
    },
    'no limits: those of this process': { options: { rlimits: [] }, seen: { limits: limitsOf('self') } },
    oom_score_adj: { options: { oomScoreAdj: 432 }, seen: { oomScoreAdj: 432 } },
    SCHED_OTHER: { options: { scheduler: { policy: 'SCHED_OTHER', nice: 3 } }, seen: { nice: 3 } },
    SCHED_BATCH: {
      options: { scheduler: { policy: 'SCHED_BATCH', nice: -4 } },
      seen: { policy: 3, nice: -4 },
    },
    SCHED_IDLE: { options: { scheduler: { policy: 'SCHED_IDLE' } }, seen: { policy: 5 } },
    SCHED_FLAG_RESET_ON_FORK: {
      options: { scheduler: { policy: 'SCHED_BATCH', nice: 2, flags: ['SCHED_FLAG_RESET_ON_FORK'] } },
      seen: { policy: 3, nice: 2 },
      resetOnFork: true,
    },
    'I/O best effort': {
      options: { ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 6 } },
      ioPriority: (2 << 13) | 6,
    },
    'I/O idle': { options: { ioPriority: { class: 'IOPRIO_CLASS_IDLE', priority: 0 } }, ioPriority: 3 << 13 },
    'I/O real time, user': {
      options: { ioPriority: { class: 'IOPRIO_CLASS_RT', priority: 1 }, user: { uid: 1000 } },
      seen: user(1000, '/home/app'),
      ioPriority: (1 << 13) | 1,
    },
    all: {
      options: {
        user: { uid: 1001, gid: 9, additionalGids: [10], umask: 0o7 },
        capabilities: five,
        rlimits: everyLimit,
        noNewPrivileges: false,
        cwd: '/home/web',
        env: ['ONLY=this'],
        oomScoreAdj: 99,
        scheduler: { policy: 'SCHED_BATCH', nice: 1 },
        ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 0 },
      },
      seen: {
        ...{ uid: of(1001), gid: of(9), groups: [10], umask: '0007', noNewPrivileges: false },
        capabilities: { ...sets, Prm: mask(...five.ambient), Eff: mask(...five.ambient) },
        limits: everyLimit.map(({ soft, hard }) => [soft, hard]),
        ...{ cwd: '/home/web', env: ['HOME=/home/web', 'ONLY=this'], oomScoreAdj: 99, policy: 3, nice: 1 },
      },
      ioPriority: 2 << 13,
    },
  });
  await container.destroy({ force: true });
});

test('exec: the five capability sets before execve changes them', {
  requires: ['root', 'probe'],
  proves: ['process.capabilities'],
  trap: 5,
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  for (const uid of [0, 1000]) {
    const process = on.process({ args: ['/bin/probe', 'exit', '4'], capabilities: five, user: { uid } });
    const prepared = await container.prepare(process);
    const status = statusOf(prepared.pid);
    assert.deepEqual(capabilitiesOf(status), {
      ...sets,
      Prm: mask(...five.permitted),
      Eff: mask(...five.effective),
    });
    assert.equal(status('Uid'), `${uid}\t${uid}\t${uid}\t${uid}`);
    await prepared.release();
    assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 4 });
  }
  await container.destroy({ force: true });
});

test('exec: limits above our own hard ones, and an oom_score_adj below zero', {
  requires: ['root', 'probe', 'cap:SYS_RESOURCE'],
  proves: ['process.rlimits', 'process.oomScoreAdj'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const { inside: base } = await look(on, container);
  const raised = [
    { type: 'RLIMIT_NICE', soft: '20', hard: '40' },
    { type: 'RLIMIT_RTPRIO', soft: '1', hard: '99' },
  ];
  assert.ok(BigInt(base.limits[13]?.[1] ?? 0) < 40n, 'the hard limit of this process is below');
  const own = limitsOf('self');
  await compare(on, container, base, {
    user: {
      options: { rlimits: raised, oomScoreAdj: -321 },
      seen: {
        limits: own.map((limit, at) => (at === 13 ? ['20', '40'] : at === 14 ? ['1', '99'] : limit)),
        oomScoreAdj: -321,
      },
    },
  });
  await container.destroy({ force: true });
});

test('exec: CPU affinity, the initial one until the cgroup is joined, then the final one', {
  requires: ['root', 'probe', 'file:/sys/devices/system/cpu/cpu1', 'init-faults'],
  proves: ['process.execCPUAffinity.initial', 'process.execCPUAffinity.final'],
  trap: 24,
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const { inside: base } = await look(on, container);
  assert.notEqual(base.cpus, '0');
  const both = { initial: '0', final: '1' };
  await compare(on, container, base, {
    final: { options: { execCPUAffinity: { final: '1' } }, seen: { cpus: '1' } },
    both: { options: { execCPUAffinity: both }, seen: { cpus: '1' } },
    'a list': { options: { execCPUAffinity: { final: '0,1' } }, seen: { cpus: '0-1' } },
  });
  // Held before it joins the cgroup, in which the kernel may take it for the cpuset's.
  process.env.LIBCONTAINER_FAIL_AT = 'joinCgroup@stop';
  const abort = new AbortController();
  t.after(() => {
    delete process.env.LIBCONTAINER_FAIL_AT;
    abort.abort();
  });
  const held = on.process({
    args: ['/bin/probe', 'exit', '6'],
    execCPUAffinity: { initial: '0', final: '1' },
  });
  const started = container.start(held, { signal: abort.signal });
  const stage = await eventually('the first stage, stopped', stoppedChild);
  delete process.env.LIBCONTAINER_FAIL_AT;
  const cpus = statusOf(stage)('Cpus_allowed_list');
  process.kill(stage, 'SIGCONT');
  await within(started, 'the start');
  assert.deepEqual(await within(held.wait(), 'exit'), { kind: 'exited', code: 6 });
  assert.equal(cpus, '0');
  await container.destroy({ force: true });
});

/** A child of any of our threads, in state T. */
function stoppedChild(): number | undefined {
  for (const thread of readdirSync('/proc/self/task')) {
    const children = readFileSync(`/proc/self/task/${thread}/children`, 'utf8').trim();
    const pids = children === '' ? [] : children.split(' ').map(Number);
    const stopped = pids.find(pid => statusOf(pid)('State').startsWith('T'));
    if (stopped !== undefined) return stopped;
  }
  return undefined;
}

test('exec: an initial CPU that the cpuset of the container forbids', {
  requires: ['root', 'probe', 'file:/sys/devices/system/cpu/cpu1', 'controller:cpuset'],
  proves: ['process.execCPUAffinity.initial'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.resources = { ...spec.linux.resources, cpu: { cpus: '1' } };
      return spec;
    },
  });
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const { inside: base } = await look(on, container);
  assert.equal(base.cpus, '1');
  await compare(on, container, base, {
    initial: { options: { execCPUAffinity: { initial: '0' } } },
    both: { options: { execCPUAffinity: { initial: '0', final: '1' } } },
  });
  // The final one must be possible.
  await assert.rejects(container.start(on.process({ args: idle, execCPUAffinity: { final: '0' } })), {
    code: 'ERR_INIT_STEP',
    step: 'affinity',
    // EINVAL
    errno: -22,
  });
  assert.equal((await container.processes()).length, 1);
  await container.destroy({ force: true });
});

/** Controllers (or '' and names) and paths of a process. */
const cgroupsOf = (lines: readonly string[]): Map<string, string> =>
  new Map(
    lines.map(line => {
      const [, controllers = '', at = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      return [controllers, at];
    }),
  );
const cgroupLines = (pid: number | undefined): string[] =>
  readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');

/** Directories below each of these cgroups; a cpuset of v1 takes no process before it has CPUs and memory. */
function makeBelow(parents: readonly string[], names: readonly string[]): () => void {
  const made: string[] = [];
  for (const parent of parents) {
    for (const name of names) {
      const directory = join(parent, name);
      mkdirSync(directory);
      made.unshift(directory);
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        if (existsSync(join(directory, file)))
          writeFileSync(join(directory, file), readFileSync(join(parent, file)));
    }
  }
  return () => {
    for (const directory of made) rmdirSync(directory);
  };
}

test('exec: into a sub-cgroup of one controller, or of all', { requires: ['root', 'probe'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const init = on.process({ args: idle });
  await container.run(init);
  const { cgroup_paths: paths } = await container.state();
  const v2 = Object.keys(paths).join() === '';
  const own = cgroupsOf(cgroupLines(init.pid));
  const remove = makeBelow([...new Set(Object.values(paths))], ['sub', 'sub/deeper']);
  for (const [key, sub] of [
    ['', 'sub'],
    ['', '/sub/deeper/'],
    ...(v2 ? [] : [['pids', 'sub/deeper'] as const]),
  ] as const) {
    const options = { subCgroups: { [key]: sub } };
    const told = on.process({ ...options, args: ['/bin/probe', 'json', 'cgroup'], stdout: 'pipe' });
    const seen = on.process({ ...options, args: idle });
    await Promise.all([container.start(told), container.start(seen)]);
    const at = sub.replace(/^\/?(.*?)\/?$/, '/$1');
    const moves = (names: string): boolean =>
      names.split(',').some(name => (key === '' ? paths[name] !== undefined : name === key));
    const expected = [...own].map(([names, path]) => [names, moves(names) ? path + at : path]);
    assert.ok(expected.some(([, path = '']) => path.endsWith(at)));
    assert.deepEqual([...cgroupsOf(cgroupLines(seen.pid))], expected);
    assert.ok((await container.processes()).includes(seen.pid ?? 0), 'it is one of the container');
    // The root of the cgroup namespace is the container's cgroup.
    const { cgroup } = JSON.parse(await text(told.stdout ?? assert.fail()));
    assert.deepEqual(
      [...cgroupsOf(cgroup)],
      [...own.keys()].map(names => [names, moves(names) ? at : '/']),
    );
    await told.wait();
    seen.signal('KILL');
    await within(seen.wait(), 'exit');
  }
  const refused = (subCgroups: { readonly [controller: string]: string }, code: string): Promise<void> =>
    assert.rejects(container.start(on.process({ subCgroups })), { code });
  await refused({ '': 'absent' }, 'ERR_CGROUP');
  await refused({ [v2 ? 'pids' : 'absent']: 'sub' }, v2 ? 'ERR_UNSUPPORTED' : 'ERR_CGROUP_CONTROLLER');
  remove();
  await container.destroy({ force: true });
});

test('exec: a terminal is its controlling one, has its size and belongs to its user', {
  requires: ['root', 'probe'],
  proves: ['process.terminal', 'process.consoleSize'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const process = on.sh('/bin/probe json ids terminal; read line', {
    terminal: true,
    consoleSize: { height: 33, width: 111 },
    user: { uid: 1000, gid: 1001 },
  });
  await container.start(process);
  const terminal = process.terminal ?? assert.fail('no terminal');
  const lines = terminal.iterator({ destroyOnReturn: false });
  let output = '';
  while (!output.includes('}\r\n')) output += String((await within(lines.next(), 'the facts')).value);
  const inside = JSON.parse(output);
  assert.equal(inside.controllingTerminal, true);
  for (const stream of inside.stdio) {
    const { type, uid, tty, rows, columns } = stream;
    assert.deepEqual(
      { type, uid, tty, rows, columns },
      { type: 'c', uid: 1000, tty: true, rows: 33, columns: 111 },
    );
  }
  const stat = statOf(process.pid);
  const status = statusOf(process.pid);
  // Process group, session: its own; tty_nr: a pts(4) has major 136 to 143.
  assert.deepEqual([stat(5), stat(6)], [process.pid, process.pid]);
  assert.equal((stat(7) >> 8) & 0xfff, 136);
  const names = [0, 1, 2].map(fd => readlinkSync(`/proc/${process.pid}/fd/${fd}`));
  assert.match(names[0] ?? '', /^\/dev\/pts\/\d+$/);
  assert.deepEqual(names, names.slice(0, 1).concat(names.slice(0, 1), names.slice(0, 1)));
  const [, inner] = status('NSpid').split(/\s+/);
  assert.deepEqual([inside.sid, inside.pgid], [Number(inner), inside.pgid]);
  terminal.write('\n');
  assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
  terminal.destroy();
  await container.destroy({ force: true });
});

test('exec: several at once, each with an identity, an output and an end of its own', {
  requires: ['root', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.process({ args: idle }));
  const rlimits = [{ type: 'RLIMIT_CORE', soft: '0', hard: '0' }];
  const ends = ['HUP', 'INT', 'KILL', 'TERM', 'USR1', 'USR2', 'PIPE'];
  const deaths = ends.map(async name => {
    const process = on.process({ args: ['/bin/probe', 'kill', name], rlimits });
    await container.start(process);
    assert.deepEqual(
      await within(process.wait(), name),
      { kind: 'signaled', signal: `SIG${name}`, coreDumped: false },
      name,
    );
  });
  // Whether these leave a core is the host's word (core_pattern).
  const faults = ['SEGV', 'ABRT', 'QUIT'].map(async name => {
    const process = on.process({ args: ['/bin/probe', 'kill', name], rlimits });
    await container.start(process);
    const status = await within(process.wait(), name);
    assert.equal(status.kind === 'signaled' ? status.signal : status.kind, `SIG${name}`);
  });
  const others = Array.from({ length: slowness === 1 ? 20 : 8 }, async (_, at) => {
    const process = on.sh(`echo $(id -u) $(umask) $MARK; exit ${at}`, {
      user: { uid: 2000 + at, umask: at },
      env: ['PATH=/bin', `MARK=${at}`],
      stdout: 'pipe',
    });
    await container.start(process);
    const output = await text(process.stdout ?? assert.fail());
    assert.equal(output, `${2000 + at} ${at.toString(8).padStart(4, '0')} ${at}\n`);
    assert.deepEqual(await within(process.wait(), `exit ${at}`), { kind: 'exited', code: at });
  });
  await Promise.all([...deaths, ...faults, ...others]);
  assert.equal((await container.processes()).length, 1);
  await container.destroy({ force: true });
});
