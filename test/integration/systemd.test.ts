/** The systemd driver on a machine that systemd runs: units, their properties and the kernel's files. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Container, LibcontainerError, Process } from '../../lib/index.ts';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { noUnits, pathOf, setup, show } from './systemd-fixture.ts';

test('a container is a scope of its slice, and gone with its destruction', {
  proves: ['linux.cgroupsPath'],
  trap: 19,
  requires: ['root', 'systemd'],
}, async t => {
  const { unit, container, run, id } = await setup(t, { slice: 'system-lcn.slice' });
  await run('sleep 1000');
  const state = await container.state();
  assert.ok(pathOf(state).endsWith(`/system.slice/system-lcn.slice/${unit}`), pathOf(state));
  assert.match(readFileSync(`/proc/${state.init_process_pid}/cgroup`, 'utf8'), new RegExp(`${unit}$`, 'm'));
  assert.deepEqual(
    show(unit, 'ActiveState', 'Slice', 'Description', 'Delegate', 'DefaultDependencies', 'TasksAccounting'),
    {
      ActiveState: 'active',
      Slice: 'system-lcn.slice',
      Description: `libcontainer container ${id}`,
      Delegate: 'yes',
      DefaultDependencies: 'no',
      TasksAccounting: 'yes',
    },
  );
  assert.equal(await container.status(), 'running');
  await container.destroy({ force: true });
  assert.equal(existsSync(pathOf(state)), false);
  await noUnits();
});

const coded = (code: string) => (error: unknown) => error instanceof LibcontainerError && error.code === code;
const file = async (container: Container, name: string): Promise<string> =>
  readFileSync(join(pathOf(await container.state()), name), 'utf8').trim();

test('limits are properties of the unit and values of the kernel, and follow an update', {
  requires: ['root', 'systemd', 'cgroup-v2'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t, {
    resources: {
      memory: { limit: 64 << 20, reservation: 32 << 20, swap: 96 << 20 },
      cpu: { shares: 512, quota: 25_500, period: 50_000, cpus: '0', mems: '0' },
      pids: { limit: 20 },
      unified: { 'memory.high': '60000000', 'io.weight': 'default 50' },
    },
  });
  await run('sleep 1000');
  const names = ['MemoryMax', 'MemoryLow', 'MemorySwapMax', 'MemoryHigh', 'CPUWeight', 'CPUQuotaPerSecUSec'];
  const more = ['CPUQuotaPeriodUSec', 'TasksMax', 'AllowedCPUs', 'AllowedMemoryNodes', 'DevicePolicy'];
  assert.deepEqual(show(unit, ...names, ...more), {
    MemoryMax: String(64 << 20),
    MemoryLow: String(32 << 20),
    MemorySwapMax: String(32 << 20),
    MemoryHigh: '60000000',
    CPUWeight: '59',
    CPUQuotaPerSecUSec: '510ms',
    CPUQuotaPeriodUSec: '50ms',
    TasksMax: '20',
    AllowedCPUs: '0',
    AllowedMemoryNodes: '0',
    DevicePolicy: 'strict',
  });
  assert.equal(await file(container, 'memory.max'), String(64 << 20));
  assert.equal(await file(container, 'memory.swap.max'), String(32 << 20));
  assert.equal(await file(container, 'memory.high'), '59998208');
  assert.equal(await file(container, 'cpu.max'), '25500 50000');
  assert.equal(await file(container, 'pids.max'), '20');
  assert.equal(await file(container, 'cpuset.cpus'), '0');

  const { resources } = container.config;
  // 12.34 % of a CPU: systemd knows whole percents.
  const changed = { ...resources, pids: { limit: 33 }, cpu: { ...resources.cpu, quota: 6170 } };
  await container.set(changed);
  assert.deepEqual(show(unit, 'TasksMax', 'CPUQuotaPerSecUSec', 'MemoryMax'), {
    TasksMax: '33',
    CPUQuotaPerSecUSec: '130ms',
    MemoryMax: String(64 << 20),
  });
  assert.equal(await file(container, 'cpu.max'), '6500 50000');
  assert.equal(await file(container, 'pids.max'), '33');

  await assert.rejects(
    container.set({ ...changed, pids: { limit: 44 }, unified: { 'memory.high': 'much' } }),
  );
  await assert.rejects(
    container.set({ ...changed, pids: { limit: 44 }, unified: { 'memory.nonsense': '1' } }),
  );
  assert.equal(await file(container, 'pids.max'), '33');
  assert.deepEqual(show(unit, 'TasksMax'), { TasksMax: '33' });
  execFileSync('systemctl', ['daemon-reload']);
  assert.equal(await file(container, 'cpu.max'), '6500 50000');
  assert.equal(await file(container, 'memory.high'), '59998208');
});

test('device rules are those of the unit too, and an update of them does not disturb', {
  requires: ['root', 'systemd'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t);
  await run('sleep 1000');
  assert.match(show(unit, 'DeviceAllow').DeviceAllow ?? '', /\/dev\/char\/1:3 rwm/);
  const { resources } = container.config;
  const rule = { allow: true, type: 'c', major: 1, minor: 11, access: 'r' } as const;
  await container.set({ ...resources, devices: [...(resources.devices ?? []), rule] });
  assert.match(show(unit, 'DeviceAllow').DeviceAllow ?? '', /\/dev\/char\/1:11 r/);
  await container.set({
    ...resources,
    devices: [{ allow: true, type: 'a', major: -1, minor: -1, access: 'rwm' }],
  });
  assert.deepEqual(show(unit, 'DevicePolicy'), { DevicePolicy: 'auto' });
  assert.equal(await container.status(), 'running');
});

test("pause, exec into a sub-cgroup, statistics and signals by the unit's cgroup", {
  requires: ['root', 'systemd'],
  timeoutMs: 60_000,
}, async t => {
  const { container, run, factory, id } = await setup(t);
  await run('sleep 1000');
  await container.pause();
  assert.equal(await container.status(), 'paused');
  await container.resume();
  const second = await factory.load(id);
  const process = new Process({ ...second.config.process, args: ['/bin/sleep', '1000'] });
  await second.start(process);
  assert.equal((await second.processes()).length, 2);
  assert.ok((await second.stats()).pids.current >= 2n);
  await second.destroy({ force: true });
  await noUnits();
});

test('annotations are properties of the unit', { requires: ['root', 'systemd'] }, async t => {
  const { unit, run } = await setup(t, {
    annotations: {
      'org.systemd.property.TimeoutStopSec': 'uint64 7',
      'org.systemd.property.CollectMode': "'inactive-or-failed'",
    },
  });
  await run('sleep 1000');
  assert.deepEqual(show(unit, 'TimeoutStopUSec', 'CollectMode'), {
    TimeoutStopUSec: '7s',
    CollectMode: 'inactive-or-failed',
  });
});

test('a property that systemd does not know fails the start and leaves nothing', {
  requires: ['root', 'systemd'],
}, async t => {
  const { run, container } = await setup(t, { annotations: { 'org.systemd.property.Nonsense': '1' } });
  await assert.rejects(run('true'), coded('ERR_SYSTEMD_UNIT'));
  assert.equal(await container.status(), 'stopped');
  await noUnits();
});

test('a unit of somebody else is refused and left alone', { requires: ['root', 'systemd'] }, async t => {
  const { run, container, factory } = await setup(t);
  await run('sleep 1000');
  const config = { ...container.config };
  const twin = await factory.create(`${container.id}-twin`, config);
  const process = new Process({ ...config.process, args: ['/bin/true'] });
  await assert.rejects(twin.run(process), coded('ERR_CGROUP_NOT_EMPTY'));
  await twin.destroy({ force: true });
  assert.equal(await container.status(), 'running');
});

test('a unit that has failed is forgotten by the removal', {
  requires: ['root', 'systemd'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, run, container } = await setup(t, {
    // Long enough for a start on a slow machine. Process 1 of a pid namespace does not hear the SIGTERM that follows.
    annotations: {
      'org.systemd.property.RuntimeMaxSec': 'uint64 10',
      'org.systemd.property.TimeoutStopSec': 'uint64 1',
    },
  });
  const process = await run('exec sleep 1000');
  assert.deepEqual(await process.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  await eventually('the scope has failed', () => show(unit, 'ActiveState').ActiveState === 'failed');
  assert.equal((await container.wait()).oomKilled, false);
  await container.destroy();
  await noUnits();
});

test('who was killed for another reason was not killed for lack of memory', {
  requires: ['root', 'systemd', 'controller:memory'],
}, async t => {
  const { run, container } = await setup(t);
  await run('exec sleep 1000');
  await container.signal('KILL');
  assert.equal((await container.wait()).oomKilled, false);
});
