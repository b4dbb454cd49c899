/** The rules of order that security and correctness hang on, on every case and on random configurations. */
import assert from 'node:assert/strict';
import type { Config, NamespaceType, ProcessConfig } from '../../../lib/config/config.ts';
import { CLONE, MS, namespaceFlags } from '../../../lib/plan/numbers.ts';
import { planSetnsInit } from '../../../lib/plan/setns-init.ts';
import { planStandardInit } from '../../../lib/plan/standard-init.ts';
import type { StartPlan, StepKind } from '../../../lib/plan/steps.ts';
import { test } from '../../harness/test.ts';
import {
  cases,
  defaultConfig,
  defaultProcess,
  execContext,
  fullConfig,
  fullProcess,
  mount,
  runContext,
  v1Context,
  v2Context,
} from './cases.ts';

/** Every step of the first kinds comes before every step of the second ones. */
const rules: readonly (readonly [before: readonly StepKind[], after: readonly StepKind[], why: string])[] = [
  [
    ['joinCgroup'],
    ['setns', 'unshare', 'mount', 'openRootfs'],
    'the files are host paths; the cgroup namespace roots there',
  ],
  [
    ['oomScoreAdj'],
    ['setns', 'unshare', 'pivotRoot', 'moveRoot', 'chroot'],
    'it is in the host procfs and needs host privilege',
  ],
  [['setns', 'unshare'], ['sessionKeyring', 'loopback', 'openRootfs'], 'they act on the namespaces entered'],
  [['setns', 'unshare'], ['firstInside'], 'the pid namespace belongs to the user namespace that was joined'],
  [['openRootfs'], ['mount', 'device', 'symlink'], 'their paths resolve in it'],
  [['openRootfs'], ['overlay'], 'it lies on the rootfs'],
  [['overlay'], ['mount', 'device', 'symlink'], 'their places are made in its upper layer'],
  [['firstInside'], ['timeNamespace', 'sessionKeyring', 'mount', 'sync'], 'they are the first process’s'],
  [
    ['mount'],
    ['device', 'sync', 'pivotRoot', 'moveRoot', 'chroot'],
    'bind sources are host paths; /dev is one of them',
  ],
  [['device'], ['sync'], 'hooks see the finished root'],
  [['sync', 'mount', 'device'], ['pivotRoot', 'moveRoot', 'chroot'], 'runtime.md Lifecycle'],
  [
    ['pivotRoot', 'moveRoot', 'chroot'],
    ['reopenNull', 'makeCwd', 'console', 'remountReadonly', 'sysctl', 'maskPath'],
    'paths in the container',
  ],
  [['makeCwd', 'console'], ['remountReadonly'], 'they make files'],
  [['apparmor', 'sysctl'], ['readonlyPath', 'maskPath', 'ready'], '/proc/sys becomes read-only'],
  [['readonlyPath'], ['maskPath'], 'a mask stays on top'],
  [
    ['remountReadonly', 'hostname', 'domainname', 'sysctl', 'maskPath'],
    ['noNewPrivileges', 'ready'],
    'privileged work ends before ready',
  ],
  [
    ['scheduler', 'ioPriority', 'personality', 'rlimit', 'noNewPrivileges'],
    ['ready'],
    'the state that is saved is the final one',
  ],
  [['scheduler', 'ioPriority'], ['rlimit', 'bounding', 'user'], 'they need CAP_SYS_NICE'],
  [
    ['ready'],
    ['bounding', 'user', 'umask', 'cwd', 'capabilities', 'findExecutable', 'seccomp', 'selinux'],
    'the parent answers before privileges go',
  ],
  [['bounding'], ['user', 'capabilities'], 'it needs CAP_SETPCAP'],
  [['user'], ['umask', 'capabilities', 'findExecutable'], 'a change of uid clears the sets'],
  [['umask', 'cwd'], ['capabilities'], 'cwd is checked with the sets that root had'],
  [['capabilities'], ['findExecutable', 'waitStart', 'exec'], 'the look-up is done as the program will be'],
  [['findExecutable'], ['waitStart', 'exec'], 'a wrong name is an error of create'],
  [['waitStart'], ['exec'], 'the fifo is the start'],
  [
    ['joinCgroup', 'oomScoreAdj', 'setns', 'chroot', 'sessionKeyring', 'console', 'noNewPrivileges'],
    ['forkInto'],
    'the second stage is inside from its first instruction',
  ],
  [['forkInto'], ['findExecutable', 'waitStart', 'exec'], 'the program is executed by the second stage'],
];

/** What the parent does at a sync that is not about hooks. */
const noHooks: readonly string[] = ['cgroup', 'netDevices'];
const indexes = (plan: StartPlan, kinds: readonly StepKind[]): number[] =>
  plan.steps.flatMap((step, index) =>
    kinds.includes(step.kind) && !(step.kind === 'sync' && noHooks.includes(step.name)) ? [index] : [],
  );

function checkPlan(plan: StartPlan, standard: boolean): void {
  const names = plan.steps.map(({ kind }) => kind);
  for (const [before, after, why] of rules) {
    // In an exec the profile comes after the user: there is nothing to mount any more.
    if (!standard && before.includes('apparmor')) continue;
    // There the process that executes the program looks last, with the sets of the program.
    if (names.includes('forkInto') && before.includes('cwd')) continue;
    const last = Math.max(-1, ...indexes(plan, before));
    const first = Math.min(names.length, ...indexes(plan, after));
    assert.ok(last < first, `${names[last]} must come before ${names[first]}: ${why}\n${names.join(' ')}`);
  }
  assert.equal(indexes(plan, ['ready', 'forkInto']).length, 1);
  checkFork(plan, names);
  // A sandbox without a program waits by itself.
  assert.ok(names.at(-1) === 'exec' || names.at(-1) === 'idle');
  assert.equal(names.filter(name => name === 'exec' || name === 'idle').length, 1);

  const [seccomp] = indexes(plan, ['seccomp']);
  const [capabilities = -1] = indexes(plan, ['capabilities']);
  const [bounding = -1] = indexes(plan, ['bounding']);
  const noNewPrivileges = names.includes('noNewPrivileges');
  if (seccomp !== undefined) {
    if (noNewPrivileges)
      assert.ok(seccomp > capabilities, 'with no_new_privs the filter is the last privilege step');
    else assert.ok(seccomp < bounding, 'without no_new_privs the filter needs CAP_SYS_ADMIN');
  }
  const cwds = plan.steps.filter(step => step.kind === 'cwd');
  assert.deepEqual(
    cwds.map(({ beforeUser }) => beforeUser),
    [true, false],
  );

  const startHooks = plan.steps.findIndex(step => step.kind === 'hooks' && step.phase === 'startContainer');
  if (startHooks >= 0)
    assert.equal(startHooks, names.length - 2, 'startContainer hooks are the last thing before execve');
  const createHooks = plan.steps.findIndex(step => step.kind === 'hooks' && step.phase === 'createContainer');
  if (createHooks >= 0)
    assert.equal(names[createHooks - 1], 'sync', 'the sync brings the state of the hooks');

  if (!standard) return;
  const switches = names.filter(name => ['pivotRoot', 'moveRoot', 'chroot'].includes(name));
  assert.equal(switches.length, 1, 'the root is switched once');
  // Whoever makes a mount namespace or joins one has cut it off from the host before the first mount.
  const [firstMount = names.length] = indexes(plan, ['mount', 'openRootfs']);
  const isolated = plan.steps.findIndex(step => step.kind === 'propagation');
  if (!names.includes('chroot')) assert.ok(isolated >= 0 && isolated < firstMount);
}

/** CVE-2016-9962: what the container can trace has no privilege that the container does not have. */
function checkFork(plan: StartPlan, names: readonly StepKind[]): void {
  const [fork] = indexes(plan, ['forkInto']);
  assert.equal(plan.forks ?? false, indexes(plan, ['forkInto', 'firstInside']).length > 0);
  if (fork === undefined) return;
  const scheduler = plan.steps.find(step => step.kind === 'scheduler');
  const unforkable = scheduler !== undefined && (scheduler.policy === 6 || (scheduler.flags & 1) !== 0);
  const filter = names.includes('seccomp') && !names.includes('noNewPrivileges');
  const [capabilities = -1] = indexes(plan, ['capabilities']);
  assert.equal(fork > capabilities, !unforkable && !filter, names.join(' '));
  if (unforkable) assert.ok(fork < Math.min(...indexes(plan, ['scheduler'])));
  assert.ok(Math.max(...indexes(plan, ['cwd'])) > fork, 'the last look is of the process that stays');
}

for (const [name, plan] of Object.entries(cases)) {
  test(`order: ${name}`, () => checkPlan(plan(), !name.startsWith('exec')));
}

/** A small generator with a seed (mulberry32), so that a failure can be repeated. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

test('order: 500 random configurations', () => {
  for (let seed = 1; seed <= 500; seed++) {
    const random = generator(seed);
    const coin = () => random() < 0.5;
    const pick = <T>(list: readonly T[]): T[] => list.filter(coin);
    const types: NamespaceType[] = ['network', 'ipc', 'uts', 'cgroup', 'pid'];
    const { hooks } = fullConfig;
    const config: Config = {
      ...fullConfig,
      namespaces: [
        { type: 'mount' },
        ...pick(types).map(type => (coin() ? { type } : { type, path: `/ns/${type}` })),
      ],
      noPivotRoot: coin(),
      noNewKeyring: coin(),
      readonlyRootfs: coin(),
      rootfsPropagation: coin() ? 0 : MS.PRIVATE,
      mounts: [...pick(fullConfig.mounts), ...(coin() ? [mount('/dev', 'bind', MS.BIND)] : [])],
      devices: pick(fullConfig.devices),
      maskedPaths: pick(fullConfig.maskedPaths),
      readonlyPaths: pick(fullConfig.readonlyPaths),
      sysctl: coin() ? fullConfig.sysctl : {},
      hooks: {
        ...hooks,
        prestart: pick(hooks.prestart),
        createRuntime: pick(hooks.createRuntime),
        createContainer: pick(hooks.createContainer),
        startContainer: pick(hooks.startContainer),
      },
    };
    const process: ProcessConfig = { ...fullProcess, noNewPrivileges: coin(), terminal: coin() };
    const seccomp = { program: new Uint8Array(8), flags: 0, notify: coin() };
    const base = coin() ? v2Context : coin() ? v1Context : runContext;
    try {
      checkPlan(planStandardInit(config, process, { ...base, seccomp }), true);
      checkPlan(planSetnsInit(config, process, { ...execContext, seccomp, waitForRelease: coin() }), false);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

test('every namespace is made or joined exactly once', () => {
  for (const base of [v1Context, v2Context]) {
    for (const path of [undefined, '/ns/x']) {
      const types: NamespaceType[] = ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'];
      for (const joined of types) {
        const namespaces = types.map(type =>
          type === joined && path !== undefined ? { type, path } : { type },
        );
        const plan = planStandardInit({ ...defaultConfig, namespaces }, defaultProcess, base);
        const flags = plan.steps.flatMap(step =>
          step.kind === 'setns' ? [step.type] : step.kind === 'unshare' ? [step.flags] : [],
        );
        if (plan.pidNamespacePath !== undefined) flags.push(CLONE.NEWPID);
        let seen = plan.cloneFlags;
        for (const flag of flags) {
          assert.equal(seen & flag, 0, 'twice');
          seen |= flag;
        }
        assert.equal(
          seen,
          types.reduce((sum, type) => sum | namespaceFlags[type], 0),
        );
      }
    }
  }
});

test('loopback is brought up only in a network namespace of our own', () => {
  const names = (network: { type: 'network'; path?: string }[]) =>
    planStandardInit(
      { ...defaultConfig, namespaces: [{ type: 'mount' }, ...network] },
      defaultProcess,
      runContext,
    ).steps.map(({ kind }) => kind);
  assert.ok(names([{ type: 'network' }]).includes('loopback'));
  assert.ok(!names([{ type: 'network', path: '/ns/net' }]).includes('loopback'));
  assert.ok(!names([]).includes('loopback'));
});

const refused: readonly (readonly [
  path: string,
  change: Partial<Config>,
  process?: Partial<ProcessConfig>,
])[] = [
  ['linux.namespaces', { namespaces: [{ type: 'mount', path: '/ns/mount' }, { type: 'user' }] }],
  ['mounts', { namespaces: [] }],
  ['root.readonly', { namespaces: [], mounts: [], readonlyRootfs: true }],
  ['linux.maskedPaths', { namespaces: [], mounts: [], readonlyRootfs: false }],
  ['linux.seccomp', { seccomp: { defaultAction: 'SCMP_ACT_ALLOW' } }],
];
for (const [path, change] of refused) {
  test(`refused: ${path} ${JSON.stringify(change).slice(0, 60)}`, () => {
    assert.throws(() => planStandardInit({ ...defaultConfig, ...change }, defaultProcess, runContext), {
      code: 'ERR_UNSUPPORTED',
      message: new RegExp(path.replaceAll('.', '\\.')),
    });
  });
}

const invalid: readonly (readonly [
  path: string,
  process: Partial<ProcessConfig>,
  change?: Partial<Config>,
])[] = [
  ['process.args', { args: [] }],
  ['process.args', { args: [''] }],
  ['process.rlimits', { rlimits: [{ type: 'RLIMIT_X', soft: '1', hard: '1' }] }],
  ['process.rlimits', { rlimits: [{ type: 'constructor', soft: '1', hard: '1' }] }],
  ['process.scheduler.policy', { scheduler: { policy: 'SCHED_NEW' } }],
  ['process.scheduler.flags', { scheduler: { policy: 'SCHED_OTHER', flags: ['X'] } }],
  ['process.ioPriority.class', { ioPriority: { class: 'X', priority: 0 } }],
  ['linux.personality.domain', {}, { personality: { domain: 'BSD' } }],
];
for (const [path, process, change] of invalid) {
  test(`invalid: ${path} ${JSON.stringify(process)}`, () => {
    assert.throws(
      () => planStandardInit({ ...defaultConfig, ...change }, { ...defaultProcess, ...process }, runContext),
      { code: 'ERR_SPEC_INVALID', message: new RegExp(path.replaceAll('.', '\\.')) },
    );
  });
}

test('a CPU list that is none is invalid', () => {
  for (const initial of ['a', '1-', '3-1', '0,,1', '99999999', '-1']) {
    const process = { ...defaultProcess, execCPUAffinity: { initial } };
    assert.throws(() => planSetnsInit(defaultConfig, process, execContext), {
      code: 'ERR_SPEC_INVALID',
      message: /process\.execCPUAffinity\.initial/,
    });
  }
});
