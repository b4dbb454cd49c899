/** Units of containers that fail, of callers that are killed, of many at once; and runc's beside ours. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { noUnits, setup, show, units } from './systemd-fixture.ts';

const nruncPath = join(projectRoot, 'dist/nrunc.cjs');
const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');

test('a start that fails after the unit was made takes it back, wherever it fails', {
  trap: [19, 2],
  requires: ['root', 'systemd', 'init-faults'],
  timeoutMs: 60_000,
}, async t => {
  t.after(() => delete process.env.LIBCONTAINER_FAIL_AT);
  for (const at of ['sync', 'mount:2', 'capabilities@exit']) {
    process.env.LIBCONTAINER_FAIL_AT = at;
    const { run, container } = await setup(t);
    await assert.rejects(run('true'), at);
    assert.deepEqual(units(`test-${container.id}.scope`), [], at);
  }
});

test('reconcile removes the unit of a start whose process was killed', {
  requires: ['root', 'systemd', 'init-faults'],
  timeoutMs: 60_000,
}, async t => {
  const root = makeStateRoot(t);
  const id = containerId('sd');
  const bundle = makeBundle(t, {
    patch: (spec: SpecDocument) => {
      spec.linux.cgroupsPath = `:test:${id}`;
      return spec;
    },
  });
  const words = ['--root', root, '--systemd-cgroup', 'run', '--detach', '--bundle', bundle, id];
  // Behind the sync in which the unit is made.
  const env = { ...process.env, LIBCONTAINER_FAIL_AT: 'mount@killParent' };
  const ended = spawnSync(process.execPath, [nruncPath, ...words], { env, stdio: 'ignore' });
  assert.equal(ended.signal, 'SIGKILL');
  const factory = new LinuxFactory({ root });
  assert.deepEqual(await factory.reconcile(), [id]);
  assert.deepEqual(await factory.list(), []);
  await noUnits();
});

test('nrunc --systemd-cgroup: create, start, exec, update, state, delete', {
  requires: ['root', 'systemd'],
  timeoutMs: 120_000,
}, async t => {
  const root = makeStateRoot(t);
  const id = containerId('sd');
  const bundle = makeBundle(t, {
    process: { args: ['/bin/sleep', '1000'] },
    patch: (spec: SpecDocument) => {
      spec.linux.cgroupsPath = `:test:${id}`;
      return spec;
    },
  });
  const nrunc = (...words: readonly string[]): string =>
    execFileSync(process.execPath, [nruncPath, '--root', root, '--systemd-cgroup', ...words], {
      encoding: 'utf8',
      // A container holds what its creator gave it.
      stdio: ['ignore', words[0] === 'create' ? 'ignore' : 'pipe', 'ignore'],
    });
  t.after(() => nrunc('delete', '--force', id));
  nrunc('create', '--bundle', bundle, id);
  assert.equal(show(`test-${id}.scope`, 'ActiveState').ActiveState, 'active');
  nrunc('start', id);
  assert.equal(JSON.parse(nrunc('state', id)).status, 'running');
  assert.match(
    nrunc('exec', id, '/bin/cat', '/proc/self/cgroup'),
    new RegExp(`(/test-${id}.scope|:/)$`, 'm'),
  );
  nrunc('update', '--pids-limit', '77', id);
  assert.equal(show(`test-${id}.scope`, 'TasksMax').TasksMax, '77');
  nrunc('delete', '--force', id);
  await noUnits();
});

test('without a bus systemd is reached directly; a bus that comes back is found again', {
  requires: ['root', 'systemd'],
  timeoutMs: 90_000,
}, async t => {
  const first = await setup(t);
  await first.run('sleep 1000');
  execFileSync('systemctl', ['stop', 'dbus.socket', 'dbus.service'], { stdio: 'ignore' });
  t.after(() => execFileSync('systemctl', ['start', 'dbus.socket']));
  // The connection of the start above may be open still, and ends with the bus.
  await first.container.set({ ...first.container.config.resources, pids: { limit: 99 } });
  assert.equal(show(first.unit, 'TasksMax').TasksMax, '99');
  const second = await setup(t);
  await second.run('sleep 1000');
  assert.equal(show(second.unit, 'ActiveState').ActiveState, 'active');
  await second.container.destroy({ force: true });
  execFileSync('systemctl', ['start', 'dbus.socket']);
  await first.container.destroy({ force: true });
  await noUnits();
});

test(`${isV2 ? 50 : 10} containers with an exec each leave no unit`, {
  requires: ['root', 'systemd'],
  timeoutMs: 120_000,
}, async t => {
  const { container: model, factory, id } = await setup(t);
  const { config } = model;
  await model.destroy();
  for (let round = 0; round < (isV2 ? 10 : 2); round += 1) {
    await Promise.all(
      [0, 1, 2, 3, 4].map(async index => {
        const name = `${id}-${round}-${index}`;
        const container = await factory.create(name, { ...config, cgroupsPath: `:test:${name}` });
        await container.start(new Process({ ...config.process, args: ['/bin/sleep', '1000'] }));
        const second = new Process({ ...config.process, args: ['/bin/true'] });
        await container.start(second);
        await second.wait();
        await container.destroy({ force: true });
      }),
    );
  }
  await noUnits();
});

test('a slice can be the unit: its limits, an exec, an update, and nothing left of it', {
  proves: ['linux.cgroupsPath'],
  requires: ['root', 'systemd', 'controller:pids', 'controller:memory'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run, factory, id } = await setup(t, {
    slice: 'system.slice',
    name: `system-lcn${process.pid}.slice`,
    resources: { pids: { limit: 25 }, memory: { limit: 64 << 20 } },
  });
  await run('sleep 1000');
  const { init_process_pid: pid, cgroup_paths: paths } = await container.state();
  const directory = paths[''] ?? paths.pids ?? '';
  const read = (file: string): string => readFileSync(join(paths.pids ?? directory, file), 'utf8').trim();
  assert.ok(directory.endsWith(`/system.slice/${unit}`), directory);
  assert.deepEqual(show(unit, 'ActiveState', 'TasksMax', 'ControlGroup', 'Wants'), {
    ActiveState: 'active',
    TasksMax: '25',
    ControlGroup: `/system.slice/${unit}`,
    Wants: 'system.slice',
  });
  assert.equal(read('pids.max'), '25');
  const second = new Process({ ...container.config.process, args: ['/bin/sleep', '1000'] });
  await container.start(second);
  assert.deepEqual(
    new Set(read('cgroup.procs').split('\n').map(Number)),
    new Set([pid, second.pid ?? -1]),
    'init and the exec are in the slice itself',
  );
  await container.set({ ...container.config.resources, pids: { limit: 26 } });
  assert.deepEqual([read('pids.max'), show(unit, 'TasksMax').TasksMax], ['26', '26']);
  // Another object, which knows the unit from the state file alone.
  await (await factory.load(id)).destroy({ force: true });
  for (const path of Object.values(paths)) assert.equal(existsSync(path), false, path);
  await eventually('the slice is gone', () => units(unit).length === 0);
});

test('the cgroup of a scope is delegated: who runs in it makes cgroups, also after a reload of systemd', {
  requires: ['root', 'systemd', 'cgroup-v2'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t, {
    patch: spec => {
      spec.process.user = { uid: 1000, gid: 1000 };
      for (const mount of spec.mounts)
        if (mount.type === 'cgroup') mount.options = (mount.options ?? []).filter(one => one !== 'ro');
    },
  });
  await run('mkdir /sys/fs/cgroup/a && echo 0 >/sys/fs/cgroup/a/cgroup.procs && exec sleep 1000');
  const { init_process_pid: pid, cgroup_paths: paths } = await container.state();
  const directory = paths[''] ?? '';
  await eventually('the program has moved itself', () =>
    readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().endsWith(`/${unit}/a`),
  );
  assert.deepEqual(
    [directory, `${directory}/a`].map(path => statSync(path).uid),
    [1000, 1000],
  );
  assert.equal(statSync(join(directory, 'pids.max')).uid, 0, 'its limits stay ours');
  assert.equal(show(unit, 'Delegate').Delegate, 'yes');
  execFileSync('systemctl', ['daemon-reload']);
  assert.ok(readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().endsWith(`/${unit}/a`));
  const second = new Process({ ...container.config.process, args: ['/bin/sleep', '1000'] });
  await container.start(second);
  assert.ok(readFileSync(`/proc/${second.pid}/cgroup`, 'utf8').includes(`/${unit}`));
  assert.equal((await container.processes()).length, 2);
  await container.destroy({ force: true });
  await noUnits();
});

/** What `systemctl show` says of them must be the same for runc's unit. */
const compared = [
  ...[
    'ActiveState',
    'Slice',
    'Delegate',
    'DefaultDependencies',
    'KillMode',
    'CollectMode',
    'TimeoutStopUSec',
  ],
  ...['CPUAccounting', 'MemoryAccounting', 'TasksAccounting', 'IOAccounting', 'BlockIOAccounting'],
  ...[
    'CPUWeight',
    'CPUShares',
    'CPUQuotaPerSecUSec',
    'CPUQuotaPeriodUSec',
    'AllowedCPUs',
    'AllowedMemoryNodes',
  ],
  ...['MemoryMin', 'MemoryLow', 'MemoryHigh', 'MemoryMax', 'MemorySwapMax', 'MemoryLimit', 'TasksMax'],
  ...['DevicePolicy', 'DeviceAllow', 'BlockIOWeight'],
] as const;
/** Debian's runc names the class where newer ones give its number, and leaves out a device that has no node (tun). */
const comparable = (list: string): string =>
  list
    .replace('char-pts ', 'char-136 ')
    .replace('/dev/char/10:200 rwm', '')
    .split(', ')
    .filter(one => one !== '')
    .sort()
    .join(', ');

test('the units of runc and of nrunc have the same properties', {
  requires: ['root', 'systemd', 'runc'],
  timeoutMs: 120_000,
}, async t => {
  const cases: readonly object[] = [
    {},
    { memory: { limit: 50 << 20, reservation: 20 << 20, swap: 80 << 20 }, pids: { limit: 30 } },
    { memory: { limit: -1 }, pids: { limit: -1 }, cpu: { quota: -1, period: 50_000 } },
    { cpu: { quota: 12_345, period: 40_000, cpus: '0', mems: '0' } },
    isV2
      ? { unified: { 'memory.high': '9000000', 'cpu.weight': '77', 'pids.max': 'max' } }
      : { cpu: { shares: 300 } },
    { devices: [{ allow: true, access: 'rwm' }] },
  ];
  const propertiesOf = (program: readonly string[], resources: object): { [name: string]: string } => {
    const id = containerId('sd');
    const bundle = makeBundle(t, {
      process: { args: ['/bin/sleep', '1000'] },
      patch: (spec: SpecDocument) => {
        spec.linux.cgroupsPath = `system.slice:test:${id}`;
        Object.assign(spec.linux.resources, resources);
        return spec;
      },
    });
    const [file = '', ...first] = [...program, '--root', makeStateRoot(t), '--systemd-cgroup'];
    const call = (...words: readonly string[]) =>
      execFileSync(file, [...first, ...words], { stdio: 'ignore' });
    call('run', '--detach', '--bundle', bundle, id);
    try {
      const { DeviceAllow = '', ...rest } = show(`test-${id}.scope`, ...compared);
      return { ...rest, DeviceAllow: comparable(DeviceAllow) };
    } finally {
      call('delete', '--force', id);
    }
  };
  for (const resources of cases)
    assert.deepEqual(
      propertiesOf([process.execPath, nruncPath], resources),
      propertiesOf(['runc'], resources),
      JSON.stringify(resources),
    );
});
