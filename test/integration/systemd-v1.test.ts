/** The systemd driver where the controllers are in cgroup v1, alone or beside a cgroup2 hierarchy (hybrid). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Container, Process } from '../../lib/index.ts';
import { text } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { noUnits, setup, show } from './systemd-fixture.ts';

const MiB = 1 << 20;

type Paths = { readonly [controller: string]: string };
const read = (paths: Paths, controller: string, name: string): string =>
  readFileSync(join(paths[controller] ?? assert.fail(`no ${controller}`), name), 'utf8').trim();

/** Of the hierarchy of a controller; '' is cgroup2. */
const cgroupOf = (pid: number, controller: string): string | undefined =>
  readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .trim()
    .split('\n')
    .map(line => line.split(':'))
    .find(([, names = '']) => names.split(',').includes(controller))?.[2];

async function answer(container: Container, ...args: string[]): Promise<string> {
  const process = new Process({
    ...container.config.process,
    args: ['/bin/probe', ...args],
    stdout: 'pipe',
  });
  await container.start(process);
  const said = process.stdout === undefined ? '' : await text(process.stdout);
  await process.wait();
  return said.trim();
}

test('v1: a scope is a cgroup of every hierarchy, also for an exec; stop, and none is left', {
  proves: ['linux.cgroupsPath'],
  requires: ['root', 'systemd', 'cgroup-v1'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t);
  await run('sleep 1000');
  const { init_process_pid: pid, cgroup_paths: paths } = await container.state();
  const second = new Process({ ...container.config.process, args: ['/bin/sleep', '1000'] });
  await container.start(second);
  for (const controller of ['name=systemd', 'cpu', 'cpuset', 'memory', 'pids', 'devices', 'freezer', 'blkio'])
    assert.ok(paths[controller] !== undefined, controller);
  // Of a hybrid systemd that is where it looks for the processes of a unit.
  assert.equal('' in paths, existsSync('/sys/fs/cgroup/unified'));
  for (const controller of Object.keys(paths))
    for (const process of [pid, second.pid ?? -1])
      assert.equal(cgroupOf(process, controller), `/system.slice/${unit}`, controller);
  assert.equal(show(unit, 'ControlGroup').ControlGroup, `/system.slice/${unit}`);
  assert.equal((await container.processes()).length, 2);
  await container.pause();
  assert.equal(await container.status(), 'paused');
  assert.equal(read(paths, 'freezer', 'freezer.state'), 'FROZEN');
  await container.resume();
  await container.destroy({ force: true });
  for (const directory of Object.values(paths)) assert.equal(existsSync(directory), false, directory);
  await noUnits();
});

test('v1: limits are properties of the unit and values of each hierarchy, follow an update and a reload', {
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
  ],
  requires: ['root', 'systemd', 'cgroup-v1', 'controller:memory'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t, {
    resources: {
      memory: { limit: 64 * MiB, reservation: 32 * MiB, swap: 96 * MiB },
      cpu: { shares: 512, quota: 25_500, period: 50_000, cpus: '0', mems: '0' },
      pids: { limit: 20 },
      network: { classID: 0x100001 },
    },
  });
  await run('sleep 1000');
  const { cgroup_paths: paths } = await container.state();
  const files = (): { readonly [name: string]: string } => ({
    memory: read(paths, 'memory', 'memory.limit_in_bytes'),
    memsw: read(paths, 'memory', 'memory.memsw.limit_in_bytes'),
    soft: read(paths, 'memory', 'memory.soft_limit_in_bytes'),
    shares: read(paths, 'cpu', 'cpu.shares'),
    quota: read(paths, 'cpu', 'cpu.cfs_quota_us'),
    period: read(paths, 'cpu', 'cpu.cfs_period_us'),
    cpus: read(paths, 'cpuset', 'cpuset.cpus'),
    pids: read(paths, 'pids', 'pids.max'),
    classID: read(paths, 'net_cls', 'net_cls.classid'),
  });
  const properties = ['MemoryLimit', 'CPUShares', 'CPUQuotaPerSecUSec', 'CPUQuotaPeriodUSec', 'TasksMax'];
  assert.deepEqual(show(unit, ...properties, 'AllowedCPUs', 'DevicePolicy'), {
    MemoryLimit: String(64 * MiB),
    CPUShares: '512',
    CPUQuotaPerSecUSec: '510ms',
    CPUQuotaPeriodUSec: '50ms',
    TasksMax: '20',
    AllowedCPUs: '0',
    DevicePolicy: 'strict',
  });
  const first = {
    memory: String(64 * MiB),
    memsw: String(96 * MiB),
    soft: String(32 * MiB),
    shares: '512',
    quota: '25500',
    period: '50000',
    cpus: '0',
    pids: '20',
    classID: String(0x100001),
  };
  assert.deepEqual(files(), first);

  const { resources } = container.config;
  const changed = {
    ...resources,
    memory: { limit: 128 * MiB, swap: 128 * MiB },
    pids: { limit: 33 },
    // 12.34 % of a CPU: systemd knows whole percents.
    cpu: { ...resources.cpu, quota: 6170, shares: 2048 },
  };
  await container.set(changed);
  const then = {
    ...first,
    memory: String(128 * MiB),
    memsw: String(128 * MiB),
    quota: '6500',
    shares: '2048',
    pids: '33',
  };
  assert.deepEqual(files(), then);
  const shown = {
    MemoryLimit: String(128 * MiB),
    CPUShares: '2048',
    CPUQuotaPerSecUSec: '130ms',
    CPUQuotaPeriodUSec: '50ms',
    TasksMax: '33',
  };
  assert.deepEqual(show(unit, ...properties), shown);

  await assert.rejects(container.set({ ...changed, pids: { limit: 44 }, cpu: { cpus: '4000' } }), {
    message: /linux\.resources\.cpu\.cpus/,
  });
  assert.deepEqual(files(), then);
  assert.deepEqual(show(unit, ...properties), shown);
  execFileSync('systemctl', ['daemon-reload']);
  // The answer to a later call comes after what the reload has written.
  assert.deepEqual(show(unit, ...properties), shown);
  assert.deepEqual(files(), then);
});

test('v1: devices by the rules of the unit and of the file: denied, allowed by an update, denied again', {
  proves: ['linux.resources.devices'],
  requires: ['root', 'systemd', 'cgroup-v1', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  const { unit, container, run } = await setup(t);
  await run('sleep 1000');
  const { cgroup_paths: paths } = await container.state();
  const former = container.config.resources;
  const list = read(paths, 'devices', 'devices.list');
  assert.match(list, /^c 1:7 rwm$/m);
  assert.doesNotMatch(list, /^a /m);
  assert.equal(await answer(container, 'try', 'read', '/dev/full'), 'ok');
  const denied = { allow: false, type: 'c', major: 1, minor: 7, access: 'rw' } as const;
  await container.set({ ...former, devices: [...(former.devices ?? []), denied] });
  assert.equal(await answer(container, 'try', 'read', '/dev/full'), 'EPERM');
  assert.equal(await answer(container, 'try', 'write', '/dev/null'), 'ok');
  assert.doesNotMatch(show(unit, 'DeviceAllow').DeviceAllow ?? '', /1:7 r/);
  execFileSync('systemctl', ['daemon-reload']);
  assert.equal(await answer(container, 'try', 'read', '/dev/full'), 'EPERM');
  await container.set(former);
  assert.equal(await answer(container, 'try', 'read', '/dev/full'), 'ok');
  assert.equal(read(paths, 'devices', 'devices.list'), list);
  // A rule that systemd has no words for is in the file all the same.
  const minors = { allow: true, type: 'c', major: -1, minor: 11, access: 'r' } as const;
  await container.set({ ...former, devices: [...(former.devices ?? []), minors] });
  assert.match(read(paths, 'devices', 'devices.list'), /^c \*:11 r$/m);
  assert.equal(await container.status(), 'running');
});
