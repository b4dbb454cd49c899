/**
 * Each limit changed in a running container, one by one, and all or none when the kernel refuses one: in cgroups of our own
 * and, where systemd is, in those of a unit.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Container, Process, type Resources, unifiedLimits } from '../../lib/index.ts';
import { text } from '../harness/deadline.ts';
import { controllers } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';
import { onV2, someDisk } from './limits-random.ts';

const MiB = 1024 * 1024;

interface Row {
  readonly change: Resources;
  /** controller/file → value. */
  readonly v1?: { readonly [file: string]: string | RegExp };
  readonly v2?: { readonly [file: string]: string };
}

const [major, minor] = someDisk() ?? [0, 0];
const device = `${major}:${minor}`;
const noDisk = someDisk() === undefined;

/** Where the limit of huge pages stands on v1; on a hybrid host that is a file of the unified hierarchy. */
const hugetlb = !controllers().includes('hugetlb')
  ? undefined
  : existsSync('/sys/fs/cgroup/hugetlb')
    ? 'hugetlb/hugetlb.2MB.limit_in_bytes'
    : 'hugetlb/hugetlb.2MB.max';

/** All four throttles of a disk. */
function throttles(rate: number, v1: string, v2: string | undefined): Row {
  const list = [{ major, minor, rate }];
  const line = `${device} rbps=${v2} wbps=${v2} riops=${v2} wiops=${v2}`;
  const names = ['read_bps', 'write_bps', 'read_iops', 'write_iops'];
  return {
    change: {
      blockIO: {
        throttleReadBpsDevice: list,
        throttleWriteBpsDevice: list,
        throttleReadIOPSDevice: list,
        throttleWriteIOPSDevice: list,
      },
    },
    v1: Object.fromEntries(names.map(name => [`blkio/blkio.throttle.${name}_device`, v1])),
    v2: { 'io.max': v2 === undefined ? '' : line },
  };
}

/** In this order: each is a change of what the ones before it have left. */
const rows: readonly Row[] = [
  {
    change: { memory: { limit: 64 * MiB, swap: 96 * MiB } },
    v1: {
      'memory/memory.limit_in_bytes': String(64 * MiB),
      'memory/memory.memsw.limit_in_bytes': String(96 * MiB),
    },
    v2: { 'memory.max': String(64 * MiB), 'memory.swap.max': String(32 * MiB) },
  },
  {
    change: { memory: { limit: 128 * MiB, swap: 128 * MiB } },
    v1: {
      'memory/memory.limit_in_bytes': String(128 * MiB),
      'memory/memory.memsw.limit_in_bytes': String(128 * MiB),
    },
    v2: { 'memory.max': String(128 * MiB), 'memory.swap.max': '0' },
  },
  {
    change: { memory: { limit: -1 } },
    v1: { 'memory/memory.limit_in_bytes': '9223372036854771712' },
    v2: { 'memory.max': 'max', 'memory.swap.max': 'max' },
  },
  {
    change: { memory: { reservation: 32 * MiB } },
    v1: { 'memory/memory.soft_limit_in_bytes': String(32 * MiB) },
    v2: { 'memory.low': String(32 * MiB) },
  },
  { change: { memory: { swappiness: 3 } }, v1: { 'memory/memory.swappiness': '3' } },
  { change: { cpu: { shares: 2048 } }, v1: { 'cpu/cpu.shares': '2048' }, v2: { 'cpu.weight': '174' } },
  {
    change: { cpu: { quota: 20_000, period: 40_000 } },
    v1: { 'cpu/cpu.cfs_quota_us': '20000', 'cpu/cpu.cfs_period_us': '40000' },
    v2: { 'cpu.max': '20000 40000' },
  },
  {
    change: { cpu: { burst: 5000 } },
    v1: { 'cpu/cpu.cfs_burst_us': '5000' },
    v2: { 'cpu.max.burst': '5000' },
  },
  {
    change: { cpu: { burst: 0, quota: -1, period: 100_000 } },
    v1: { 'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000' },
    v2: { 'cpu.max': 'max 100000' },
  },
  { change: { cpu: { idle: 1 } }, v1: { 'cpu/cpu.idle': '1' }, v2: { 'cpu.idle': '1' } },
  {
    change: { cpu: { idle: 0, shares: 1024 } },
    v1: { 'cpu/cpu.idle': '0', 'cpu/cpu.shares': '1024' },
    v2: { 'cpu.idle': '0', 'cpu.weight': '100' },
  },
  {
    change: { cpu: { cpus: '0', mems: '0' } },
    v1: { 'cpuset/cpuset.cpus': '0', 'cpuset/cpuset.mems': '0' },
    v2: { 'cpuset.cpus': '0', 'cpuset.mems': '0' },
  },
  { change: { pids: { limit: 17 } }, v1: { 'pids/pids.max': '17' }, v2: { 'pids.max': '17' } },
  // 0 would let nobody in ever again: runc's 1.
  { change: { pids: { limit: 0 } }, v1: { 'pids/pids.max': '1' }, v2: { 'pids.max': '1' } },
  { change: { pids: { limit: -1 } }, v1: { 'pids/pids.max': 'max' }, v2: { 'pids.max': 'max' } },
  ...(noDisk ? [] : [throttles(1 << 30, `${device} 1073741824`, '1073741824'), throttles(0, '', undefined)]),
  ...(hugetlb === undefined
    ? []
    : [
        {
          change: { hugepageLimits: [{ pageSize: '2MB', limit: 6 * MiB }] },
          v1: { [hugetlb]: String(6 * MiB) },
          v2: { 'hugetlb.2MB.max': String(6 * MiB), 'hugetlb.2MB.rsvd.max': String(6 * MiB) },
        },
      ]),
  ...(controllers().includes('net_cls')
    ? [
        {
          change: { network: { classID: 0x20002, priorities: [{ name: 'lo', priority: 4 }] } },
          v1: { 'net_cls/net_cls.classid': String(0x20002), 'net_prio/net_prio.ifpriomap': /^lo 4$/m },
        },
      ]
    : []),
  ...(existsSync('/sys/fs/cgroup/cpu/cpu.rt_runtime_us')
    ? [
        {
          change: { cpu: { realtimePeriod: 500_000, realtimeRuntime: 1000 } },
          v1: { 'cpu/cpu.rt_period_us': '500000', 'cpu/cpu.rt_runtime_us': '1000' },
        },
        { change: { cpu: { realtimeRuntime: 0, shares: 1024 } }, v1: { 'cpu/cpu.shares': '1024' } },
      ]
    : []),
  {
    change: { memory: { limit: 64 * MiB, swap: 64 * MiB, disableOOMKiller: true } },
    v1: { 'memory/memory.oom_control': /^oom_kill_disable 1$/m },
  },
  {
    change: { unified: unifiedLimits({ memory: { high: 48 * MiB } }) },
    v2: { 'memory.high': String(48 * MiB) },
  },
];

const read = (paths: { readonly [controller: string]: string }, name: string): string => {
  const [controller = '', file = name] = name.includes('/') ? name.split('/') : [''];
  const directory = paths[controller];
  assert.ok(directory !== undefined, `the container is in a cgroup of ${controller}`);
  return readFileSync(join(directory, file), 'utf8').trim();
};

const stateText = (container: Container): string =>
  readFileSync(join(container.directory, 'state.json'), 'utf8');

async function running(
  t: TestContext,
  systemdCgroup: boolean,
): Promise<{ readonly on: Fixture; readonly container: Container }> {
  const on = await fixture(t, {
    systemdCgroup,
    patch: spec => {
      // On a hybrid host a container is in the unified hierarchy when its start asked for what is limited there.
      if (hugetlb !== undefined) spec.linux.resources.hugepageLimits = [{ pageSize: '2MB', limit: 2 * MiB }];
      return spec;
    },
  });
  const container = await on.create();
  await container.run(on.process({ args: ['/bin/probe', 'sleep'] }));
  return { on, container };
}

async function answer(on: Fixture, container: Container, ...args: string[]): Promise<string> {
  const process = new Process({ ...on.config.process, args: ['/bin/probe', ...args], stdout: 'pipe' });
  await container.start(process);
  const said = process.stdout === undefined ? '' : await text(process.stdout);
  await process.wait();
  return said.trim();
}

const drivers = [
  { systemdCgroup: false, as: '', needs: [] },
  { systemdCgroup: true, as: ' of a unit of systemd', needs: ['systemd'] },
] as const;

const limited = [
  'root',
  'probe',
  'controller:memory',
  'controller:cpu',
  'controller:cpuset',
  'controller:pids',
] as const;

for (const { systemdCgroup, as, needs } of drivers)
  test(`each limit of a running container${as} is changed, and recorded`, {
    proves: [
      'linux.resources.memory.limit',
      'linux.resources.memory.reservation',
      'linux.resources.memory.swap',
      'linux.resources.memory.swappiness',
      'linux.resources.cpu.shares',
      'linux.resources.cpu.quota',
      'linux.resources.cpu.period',
      'linux.resources.cpu.burst',
      'linux.resources.cpu.idle',
      'linux.resources.cpu.cpus',
      'linux.resources.cpu.mems',
      'linux.resources.pids.limit',
      'linux.resources.cpu.realtimeRuntime',
      'linux.resources.cpu.realtimePeriod',
      'linux.resources.memory.disableOOMKiller',
      'linux.resources.blockIO.throttleReadBpsDevice',
      'linux.resources.blockIO.throttleWriteBpsDevice',
      'linux.resources.blockIO.throttleReadIOPSDevice',
      'linux.resources.blockIO.throttleWriteIOPSDevice',
      'linux.resources.hugepageLimits',
      'linux.resources.network',
      'linux.resources.devices',
    ],
    requires: [...limited, ...needs],
    timeoutMs: 60_000,
  }, async t => {
    const { on, container } = await running(t, systemdCgroup);
    const { cgroup_paths: paths } = await container.state();
    let count = 0;
    for (const { change, v1, v2 } of rows) {
      const expected = onV2 ? v2 : v1;
      if (expected === undefined) continue;
      const wanted = { ...container.config.resources, ...change };
      await container.set(wanted);
      for (const [file, value] of Object.entries(expected))
        if (typeof value === 'string')
          assert.equal(read(paths, file), value, `${file} after ${JSON.stringify(change)}`);
        else assert.match(read(paths, file), value, file);
      const recorded: { readonly config: { readonly resources: Resources } } = JSON.parse(
        stateText(container),
      );
      assert.deepEqual(recorded.config.resources, wanted);
      count += 1;
    }
    assert.ok(count > 10);

    const nodes = { type: 'c', access: 'rw', major: 1, minor: 7 } as const;
    const { devices = [] } = container.config.resources;
    const before = container.config.resources;
    assert.equal(await answer(on, container, 'try', 'read', '/dev/full'), 'ok');
    await container.set({ ...before, devices: [...devices, { allow: false, ...nodes }] });
    assert.equal(await answer(on, container, 'try', 'read', '/dev/full'), 'EPERM');
    assert.equal(await answer(on, container, 'try', 'write', '/dev/null'), 'ok');
    await container.set({ ...before, devices: [] }, { skipDevices: true });
    assert.equal(await answer(on, container, 'try', 'write', '/dev/null'), 'ok');
    await container.set(before);
    assert.equal(await answer(on, container, 'try', 'read', '/dev/full'), 'ok');
    await container.destroy({ force: true });
  });

for (const { systemdCgroup, as, needs } of drivers)
  test(`a refused limit among several${as}: the former values, the former devices, the former record`, {
    requires: [...limited, ...needs],
    timeoutMs: 60_000,
  }, async t => {
    const { on, container } = await running(t, systemdCgroup);
    const former: Resources = {
      ...container.config.resources,
      memory: { limit: 96 * MiB, swap: 96 * MiB },
      cpu: { shares: 512, quota: 30_000, period: 60_000 },
      pids: { limit: 40 },
    };
    await container.set(former);
    const { cgroup_paths: paths } = await container.state();
    const files = onV2
      ? ['memory.max', 'memory.swap.max', 'cpu.weight', 'cpu.max', 'cpuset.cpus', 'pids.max', 'io.max']
      : [
          'memory/memory.limit_in_bytes',
          'memory/memory.memsw.limit_in_bytes',
          'cpu/cpu.shares',
          'cpu/cpu.cfs_quota_us',
          'cpu/cpu.cfs_period_us',
          'cpuset/cpuset.cpus',
          'pids/pids.max',
          'devices/devices.list',
        ];
    const present = () =>
      Object.fromEntries(
        files.filter(name => !(name === 'io.max' && noDisk)).map(name => [name, read(paths, name)]),
      );
    const [values, state] = [present(), stateText(container)];
    const changed: Resources = {
      memory: { limit: 48 * MiB, swap: 64 * MiB },
      cpu: { shares: 4096, quota: 10_000, period: 20_000 },
      pids: { limit: 9 },
      devices: [
        { allow: false, type: 'a', major: -1, minor: -1, access: 'rwm' },
        { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
      ],
    };
    const refused: readonly [Resources, string][] = [
      [{ ...changed, cpu: { ...changed.cpu, cpus: '4000' } }, 'linux.resources.cpu.cpus'],
      [
        { ...changed, blockIO: { throttleReadBpsDevice: [{ major: 250, minor: 77, rate: 1 }] } },
        'linux.resources.blockIO.throttleReadBpsDevice[0]',
      ],
      // Wrong in itself: refused before anything is written.
      [
        {
          ...changed,
          devices: [
            { allow: true, type: 'c', major: 1, minor: -1, access: 'rw' },
            { allow: false, type: 'c', major: 1, minor: 3, access: 'w' },
          ],
        },
        'linux.resources.devices[1]',
      ],
    ];
    for (const [resources, field] of refused) {
      await assert.rejects(container.set(resources), (error: unknown) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'ERR_CGROUP', String(error));
        assert.ok(error.message.includes(field), `${error.message} names ${field}`);
        return true;
      });
      assert.deepEqual(present(), values, field);
      assert.equal(stateText(container), state, field);
      assert.deepEqual(container.config.resources, former);
    }
    assert.equal(await answer(on, container, 'try', 'read', '/dev/zero'), 'ok');
    await container.destroy({ force: true });
  });
