/** What limits do to real processes, beyond what cgroups.test.ts shows: io, cpusets, OOM policies, huge pages, typed limits. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CgroupError } from '../../lib/errors.ts';
import { type UnifiedLimits, unifiedLimits } from '../../lib/index.ts';
import { eventually } from '../harness/deadline.ts';
import { lane } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { type CgroupBox, cgroupBox, memberOf } from './cgroup-box.ts';
import { onV2 } from './limits-random.ts';
import { type Disk, loopDisk } from './loop-disk.ts';

const MiB = 1024 * 1024;

const failure =
  (code: string, ...words: string[]) =>
  (error: unknown) => {
    assert.ok(error instanceof CgroupError, String(error));
    assert.equal(error.code, code, error.message);
    for (const word of words)
      assert.ok(
        `${error.message} ${error.hint}`.includes(word),
        `${error.message} (${error.hint}) does not say ${word}`,
      );
    return true;
  };

async function readMs(box: CgroupBox, disk: Disk): Promise<number> {
  const before = performance.now();
  const args = [`if=${disk.path}`, 'of=/dev/null', 'bs=65536', 'count=24', 'iflag=direct', 'status=none'];
  assert.equal((await memberOf(box.joinFiles, ['dd', ...args]).exit()).code, 0);
  return performance.now() - before;
}

test('a throttled disk is slow, and quick again when the limit is taken away', {
  proves: ['linux.resources.blockIO.throttleReadBpsDevice', 'linux.resources.blockIO.throttleReadIOPSDevice'],
  requires: ['root', onV2 ? 'controller:io' : 'controller:blkio'],
  timeoutMs: 60_000,
}, async t => {
  const disk = loopDisk(t, 2 * MiB);
  if (disk === undefined) return;
  const { major, minor } = disk;
  const throttled = { blockIO: { throttleReadBpsDevice: [{ major, minor, rate: 512 * 1024 }] } };
  const free = {
    blockIO: {
      throttleReadBpsDevice: [{ major, minor, rate: 0 }],
      throttleReadIOPSDevice: [{ major, minor, rate: 0 }],
    },
  };
  const box = await cgroupBox(t, throttled);
  assert.equal(
    onV2 ? box.read('', 'io.max') : box.read('blkio', 'blkio.throttle.read_bps_device'),
    onV2 ? `${major}:${minor} rbps=524288 wbps=max riops=max wiops=max` : `${major}:${minor} 524288`,
  );
  // 1.5 MiB at half a MiB a second: three seconds, less what the kernel lets through at first.
  const slow = await readMs(box, disk);
  assert.ok(slow > 1500, `took ${slow} ms`);
  await box.manager.set(free, throttled);
  const quick = await readMs(box, disk);
  assert.ok(quick < slow / 2, `${quick} ms without the limit, ${slow} with it`);
  await box.manager.set({ blockIO: { throttleReadIOPSDevice: [{ major, minor, rate: 8 }] } }, free);
  const few = await readMs(box, disk);
  assert.ok(few > 1000 && few > quick, `24 requests at 8 a second took ${few} ms`);
});

test('the cpus of a cpuset are what sched_getaffinity tells, also after an update', {
  proves: ['linux.resources.cpu.cpus', 'linux.resources.cpu.mems'],
  requires: ['root', 'controller:cpuset'],
}, async t => {
  const all = readFileSync('/sys/devices/system/cpu/online', 'utf8').trim();
  const box = await cgroupBox(t, { cpu: { cpus: '0', mems: '0' } });
  const seen = () => memberOf(box.joinFiles, ['nproc']).line();
  assert.equal(await seen(), '1');
  await box.manager.set({ cpu: { cpus: all } }, { cpu: { cpus: '0' } });
  assert.equal(await seen(), String(spawnSync('nproc', { encoding: 'utf8' }).stdout.trim()));
});

test('what is over the memory limit goes to the swap, as far as the limit of both allows it', {
  proves: ['linux.resources.memory.limit', 'linux.resources.memory.swap'],
  requires: ['root', 'controller:memory', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  if (lane() === 'host') return t.skip('the swap of the host is not ours');
  const disk = loopDisk(t, 48 * MiB);
  if (disk === undefined) return;
  for (const program of ['mkswap', 'swapon'])
    assert.equal(spawnSync(program, [disk.path]).status, 0, program);
  t.after(() => assert.equal(spawnSync('swapoff', [disk.path]).status, 0));
  const box = await cgroupBox(t, { memory: { limit: 16 * MiB, swap: 64 * MiB } });
  const eater = box.run('eat', String(32 * MiB));
  assert.match(await eater.line(), /^eaten/);
  const swapped = onV2
    ? box.read('', 'memory.swap.current')
    : /^swap (\d+)$/m.exec(box.read('memory', 'memory.stat'))?.[1];
  assert.ok(Number(swapped) > 8 * MiB, `${swapped} bytes`);
  await box.manager.killAll(9);
  await eater.exit();
  await box.manager.set({ memory: { limit: 16 * MiB, swap: 20 * MiB } }, {});
  const second = box.run('eat', String(32 * MiB));
  assert.equal((await second.exit()).signal, 'SIGKILL');
});

test('v1: the OOM killer can be switched off: who is over the limit waits until there is room', {
  proves: ['linux.resources.memory.disableOOMKiller', 'linux.resources.memory.swappiness'],
  requires: ['root', 'cgroup-v1', 'controller:memory', 'probe'],
}, async t => {
  const former = { memory: { limit: 16 * MiB, swap: 16 * MiB, swappiness: 7, disableOOMKiller: true } };
  const box = await cgroupBox(t, former);
  assert.equal(box.read('memory', 'memory.swappiness'), '7');
  const eater = box.run('eat', String(24 * MiB));
  await eventually('the cgroup is out of memory', () =>
    /under_oom 1/.test(box.read('memory', 'memory.oom_control')),
  );
  assert.equal(eater.process.exitCode, null);
  await box.manager.set({ memory: { limit: 64 * MiB, swap: 64 * MiB } }, former);
  assert.match(await eater.line(), /^eaten/);
  assert.match(box.read('memory', 'memory.oom_control'), /^oom_kill_disable 1/);
});

test('v1: class and priorities of the network', {
  proves: ['linux.resources.network.classID', 'linux.resources.network.priorities'],
  requires: ['root', 'controller:net_cls', 'controller:net_prio'],
}, async t => {
  const former = { network: { classID: 0x100001, priorities: [{ name: 'lo', priority: 5 }] } };
  const box = await cgroupBox(t, former);
  assert.equal(box.read('net_cls', 'net_cls.classid'), String(0x100001));
  assert.match(box.read('net_prio', 'net_prio.ifpriomap'), /^lo 5$/m);
  const next = { network: { classID: 7, priorities: [{ name: 'nothere', priority: 1 }] } };
  await assert.rejects(
    box.manager.set(next, former),
    failure('ERR_CGROUP', 'linux.resources.network.priorities[0]', 'nothere 1'),
  );
  assert.equal(box.read('net_cls', 'net_cls.classid'), String(0x100001));
});

test('cpu: idle, burst and, where the kernel has it, realtime', {
  proves: [
    'linux.resources.cpu.idle',
    'linux.resources.cpu.burst',
    'linux.resources.cpu.realtimeRuntime',
    'linux.resources.cpu.realtimePeriod',
  ],
  requires: ['root', 'controller:cpu'],
}, async t => {
  const box = await cgroupBox(t, { cpu: { quota: 50_000, period: 100_000, burst: 20_000, idle: 1 } });
  const files = onV2
    ? { burst: 'cpu.max.burst', idle: 'cpu.idle', weight: 'cpu.weight' }
    : { burst: 'cpu.cfs_burst_us', idle: 'cpu.idle', weight: 'cpu.shares' };
  assert.equal(box.read('cpu', files.burst), '20000');
  assert.equal(box.read('cpu', files.idle), '1');
  const idle = { cpu: { idle: 1 } };
  // Weight and policy exclude each other: the kernel takes them in one order only.
  await box.manager.set({ cpu: { idle: 0, shares: 2048 } }, idle);
  assert.equal(box.read('cpu', files.weight), onV2 ? '174' : '2048');
  await box.manager.set(idle, {});
  const bad = { cpu: { idle: 0, shares: 512, cpus: '4000' } };
  if (existsSync(join(box.manager.paths.cpuset ?? box.manager.paths[''] ?? '', 'cpuset.cpus')))
    await assert.rejects(box.manager.set(bad, idle), failure('ERR_CGROUP', 'cpu.cpus'));
  assert.equal(box.read('cpu', files.idle), '1', 'an idle cgroup is idle again after a failed update');
  const realtime = { cpu: { realtimeRuntime: 10_000, realtimePeriod: 100_000 } };
  if (onV2)
    await assert.rejects(box.manager.set(realtime, {}), failure('ERR_UNSUPPORTED', 'cpu.realtimeRuntime'));
  else if (existsSync(join(box.manager.paths.cpu ?? '', 'cpu.rt_runtime_us'))) {
    // Without realtime of its own a cgroup takes no realtime process (sched_setscheduler(2): EPERM).
    const attempt = async () =>
      (await memberOf(box.joinFiles, ['chrt', '--rr', '1', 'true']).exit()).code === 0;
    assert.equal(await attempt(), false);
    await box.manager.set(realtime, {});
    assert.equal(box.read('cpu', 'cpu.rt_runtime_us'), '10000');
    assert.equal(await attempt(), true);
  } else
    await assert.rejects(
      box.manager.set(realtime, {}),
      failure('ERR_CGROUP', 'cpu.realtimePeriod', 'this kernel has no'),
    );
});

test('huge pages over the limit cannot be reserved', {
  proves: ['linux.resources.hugepageLimits'],
  requires: ['root', 'controller:hugetlb', 'probe', 'file:/proc/sys/vm/nr_hugepages'],
}, async t => {
  const box = await cgroupBox(t, { hugepageLimits: [{ pageSize: '2MB', limit: 2 * MiB }] });
  const directory = box.manager.paths.hugetlb ?? box.manager.paths[''] ?? '';
  for (const name of onV2 || existsSync(join(directory, 'hugetlb.2MB.max'))
    ? ['hugetlb.2MB.max', 'hugetlb.2MB.rsvd.max']
    : ['hugetlb.2MB.limit_in_bytes', 'hugetlb.2MB.rsvd.limit_in_bytes'])
    assert.equal(readFileSync(join(directory, name), 'utf8').trim(), String(2 * MiB), name);
  // The pool is the machine's: only a guest's is filled.
  if (lane() === 'host') return;
  const pool = '/proc/sys/vm/nr_hugepages';
  writeFileSync(pool, '4');
  t.after(() => writeFileSync(pool, '0'));
  assert.equal(readFileSync(pool, 'utf8').trim(), '4');
  assert.equal(await box.run('eat', String(4 * MiB), 'huge').line(), 'ENOMEM');
  const program = box.run('eat', String(2 * MiB), 'huge');
  assert.match(await program.line(), /^eaten/);
  assert.equal((await box.manager.stats()).hugetlb['2MB']?.usage, BigInt(2 * MiB));
});

test('v2: typed limits stand in their files, and do what they say', {
  proves: ['linux.resources.unified'],
  requires: ['root', 'cgroup-v2', 'controller:memory', 'controller:cpu', 'controller:pids', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  const former = {
    unified: unifiedLimits({
      memory: { high: 16 * MiB, max: 64 * MiB, low: 4 * MiB, min: MiB, oomGroup: true, swapMax: 0 },
      cpu: { weightNice: 5, max: { quotaUs: 30_000, periodUs: 60_000 } },
      pids: { max: 50 },
      maxDepth: 1,
    }),
  };
  const box = await cgroupBox(t, former);
  const files: { readonly [file: string]: string } = {
    'memory.high': String(16 * MiB),
    'memory.max': String(64 * MiB),
    'memory.low': String(4 * MiB),
    'memory.min': String(MiB),
    'memory.oom.group': '1',
    'cpu.weight.nice': '5',
    'cpu.max': '30000 60000',
    'pids.max': '50',
    'cgroup.max.depth': '1',
  };
  for (const [file, value] of Object.entries(files)) assert.equal(box.read('', file), value, file);
  const directory = box.manager.paths[''] ?? '';
  mkdirSync(join(directory, 'one'));
  assert.throws(() => mkdirSync(join(directory, 'one/two')), { code: 'EAGAIN' });

  // Over `high`: slowed down and counted, not killed.
  const eater = box.run('eat', String(17 * MiB));
  await eventually('memory.high was passed', () => !/^high 0$/m.test(box.read('', 'memory.events')));
  assert.equal(eater.process.signalCode, null);
  // One more, over `max`: all of the group go.
  await box.manager.set({ unified: unifiedLimits({ memory: { high: 'max', max: 24 * MiB } }) }, former);
  const second = box.run('eat', String(64 * MiB));
  assert.equal((await second.exit()).signal, 'SIGKILL');
  assert.equal((await eater.exit()).signal, 'SIGKILL');
  assert.match(box.read('', 'memory.events'), /^oom_group_kill [1-9]/m);
  // Back as it was when a later one is refused: also the weight that was set as a nice value.
  const weight = box.read('', 'cpu.weight');
  await assert.rejects(
    box.manager.set(
      { unified: { ...unifiedLimits({ cpu: { weightNice: -3 } }), 'pids.max': 'many' } },
      former,
    ),
    failure('ERR_CGROUP', 'unified["pids.max"]', 'many'),
  );
  assert.equal(box.read('', 'cpu.weight'), weight);
});

test('v2: of the typed limits that not every kernel has, the value in the file, or a refusal that names it', {
  proves: ['linux.resources.unified'],
  requires: ['root', 'cgroup-v2', 'controller:memory', 'controller:cpu', 'controller:io'],
}, async t => {
  const box = await cgroupBox(t, {});
  const rows: readonly (readonly [limits: UnifiedLimits, file: string, value: string])[] = [
    [{ memory: { swapHigh: 8 * MiB } }, 'memory.swap.high', String(8 * MiB)],
    [{ memory: { zswapMax: 4 * MiB } }, 'memory.zswap.max', String(4 * MiB)],
    [{ memory: { zswapWriteback: false } }, 'memory.zswap.writeback', '0'],
    [{ cpu: { uclampMin: 10 } }, 'cpu.uclamp.min', '10.00'],
    [{ cpu: { uclampMax: 80.5 } }, 'cpu.uclamp.max', '80.50'],
    [{ cpuset: { partition: 'member' } }, 'cpuset.cpus.partition', 'member'],
    [{ io: { prioClass: 'restrict-to-be' } }, 'io.prio.class', 'restrict-to-be'],
    [{ hugetlb: { '3KB': { max: 0 } } }, 'hugetlb.3KB.max', '0'],
    [{ maxDescendants: 3 }, 'cgroup.max.descendants', '3'],
  ];
  for (const [limits, file, value] of rows) {
    const unified = unifiedLimits(limits);
    if (existsSync(join(box.manager.paths[''] ?? '', file))) {
      await box.manager.set({ unified }, {});
      assert.equal(box.read('', file), value, file);
    } else
      await assert.rejects(
        box.manager.set({ unified }, {}),
        failure('ERR_CGROUP', `unified["${file}"]`, `this kernel has no ${file}`),
      );
  }
});

test('v2: io.latency, io.weight and pressure, and what a controller does not know', {
  proves: ['linux.resources.blockIO.weight'],
  requires: ['root', 'cgroup-v2', 'controller:io'],
}, async t => {
  const disk = loopDisk(t, MiB);
  if (disk === undefined) return;
  const { major, minor } = disk;
  const box = await cgroupBox(t, {});
  const has = (file: string): boolean => existsSync(join(box.manager.paths[''] ?? '', file));
  const latency = { unified: unifiedLimits({ io: { latency: [{ major, minor, targetUs: 5000 }] } }) };
  if (has('io.latency')) {
    await box.manager.set(latency, {});
    assert.equal(box.read('', 'io.latency'), `${major}:${minor} target=5000`);
    const bad = { unified: { 'io.latency': `${major}:${minor} target=1`, 'io.max': '4000:4000 rbps=1' } };
    await assert.rejects(box.manager.set(bad, latency), failure('ERR_CGROUP', 'unified["io.max"]'));
    assert.equal(box.read('', 'io.latency'), `${major}:${minor} target=5000`);
  } else
    await assert.rejects(
      box.manager.set(latency, {}),
      failure('ERR_CGROUP', 'this kernel has no io.latency'),
    );
  // Where the scheduler BFQ is loaded its file is the one, as in runc.
  const [file, value] = has('io.bfq.weight') ? ['io.bfq.weight', 500] : ['io.weight', 4950];
  if (has(file)) {
    await box.manager.set({ blockIO: { weight: 500 } }, {});
    assert.equal(box.read('', file).split('\n')[0], `default ${value}`);
  }
  if (has('cgroup.pressure')) {
    await box.manager.set({ unified: unifiedLimits({ pressure: false }) }, {});
    assert.equal(box.read('', 'cgroup.pressure'), '0');
  }
  await assert.rejects(
    cgroupBox(t, { unified: unifiedLimits({ misc: { nothing: 1 } }) }),
    (error: unknown) =>
      error instanceof CgroupError &&
      ['ERR_CGROUP', 'ERR_CGROUP_CONTROLLER'].includes(error.code) &&
      error.message.includes('unified["misc.max"]'),
  );
  await assert.rejects(
    cgroupBox(t, { unified: { 'nosuch.max': '1' } }),
    failure(
      'ERR_CGROUP_CONTROLLER',
      'unified["nosuch.max"]',
      'wanted nosuch',
      'available: ',
      'memory',
      'delegated: ',
    ),
  );
  await assert.rejects(
    cgroupBox(t, { unified: { 'memory.nosuch': '1' } }),
    failure('ERR_CGROUP', 'this kernel has no memory.nosuch'),
  );
  for (const [resources, word] of [
    [{ network: { classID: 1 } }, 'network.classID'],
    [{ memory: { swappiness: 5 } }, 'memory.swappiness'],
    [{ memory: { disableOOMKiller: true } }, 'memory.disableOOMKiller'],
    [{ blockIO: { leafWeight: 10 } }, 'blockIO.leafWeight'],
  ] as const)
    await assert.rejects(cgroupBox(t, resources), failure('ERR_UNSUPPORTED', word));
});

test('v2: a parent that holds processes, or is below a threaded cgroup, is told with its remedy', {
  requires: ['root', 'cgroup-v2', 'controller:pids', 'probe'],
}, async t => {
  const box = await cgroupBox(t, {});
  const name = (box.manager.paths[''] ?? '').slice('/sys/fs/cgroup'.length);
  const program = box.run('sleep');
  assert.equal(await program.line(), 'ready');
  const below = `${name}/a/b`;
  await assert.rejects(
    cgroupBox(t, { pids: { limit: 5 } }, below),
    failure(
      'ERR_CGROUP_CONTROLLER',
      'linux.resources.pids.limit',
      'wanted pids',
      'available: ',
      'holds processes itself',
    ),
  );
  assert.equal(box.read('', 'cgroup.type'), 'domain');
  assert.equal(box.read('', 'cgroup.subtree_control'), '');
  await box.manager.killAll(9);
  await program.exit();
  const directory = box.manager.paths[''] ?? '';
  rmSync(join(directory, 'nothing'), { force: true });
  assert.deepEqual(
    readdirSync(directory, { withFileTypes: true }).filter(e => e.isDirectory()),
    [],
    'a refused start leaves no directory',
  );
  mkdirSync(join(directory, 'threads'));
  writeFileSync(join(directory, 'threads/cgroup.type'), 'threaded');
  await assert.rejects(cgroupBox(t, {}, below), failure('ERR_CGROUP_TYPE', 'is domain threaded'));
  await assert.rejects(cgroupBox(t, {}, `${name}/threads/x`), failure('ERR_CGROUP_TYPE', 'is threaded'));
});
