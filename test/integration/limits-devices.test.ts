/** Limits of devices: disks with the BFQ scheduler, writes, rdma, the classes of the network; and fields without effect. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseLayout } from '../../lib/cgroups/layout.ts';
import { V1Manager } from '../../lib/cgroups/v1/manager.ts';
import { V2Manager } from '../../lib/cgroups/v2/manager.ts';
import { CgroupError } from '../../lib/errors.ts';
import { unifiedLimits } from '../../lib/index.ts';
import { binding } from '../../lib/native/binding.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { lane } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { cgroupBox, memberOf } from './cgroup-box.ts';
import { fixture } from './fixture.ts';
import { onV2 } from './limits-random.ts';
import { loopDisk } from './loop-disk.ts';

const MiB = 1 << 20;
const run = (program: string, ...args: string[]) => spawnSync(program, args, { encoding: 'utf8' });
const refused = (code: string, word: string) => (error: unknown) => {
  assert.ok(error instanceof CgroupError, String(error));
  assert.equal(error.code, code, error.message);
  assert.ok(error.message.includes(word), error.message);
  return true;
};

test('writes to a throttled disk are slow, by bytes and by requests, and quick again', {
  proves: [
    'linux.resources.blockIO.throttleWriteBpsDevice',
    'linux.resources.blockIO.throttleWriteIOPSDevice',
  ],
  requires: ['root', onV2 ? 'controller:io' : 'controller:blkio'],
  timeoutMs: 60_000,
}, async t => {
  const disk = loopDisk(t, 2 * MiB);
  if (disk === undefined) return;
  const { major, minor, path } = disk;
  const writeMs = async (): Promise<number> => {
    const before = performance.now();
    const words = ['if=/dev/zero', `of=${path}`, 'bs=65536', 'count=24', 'oflag=direct', 'conv=notrunc'];
    assert.equal((await memberOf(box.joinFiles, ['dd', ...words, 'status=none']).exit()).code, 0);
    return performance.now() - before;
  };
  const limit = (bytes: number, requests: number) => ({
    blockIO: {
      throttleWriteBpsDevice: [{ major, minor, rate: bytes }],
      throttleWriteIOPSDevice: [{ major, minor, rate: requests }],
    },
  });
  const box = await cgroupBox(t, limit(512 * 1024, 0));
  assert.equal(
    onV2 ? box.read('', 'io.max') : box.read('blkio', 'blkio.throttle.write_bps_device'),
    onV2 ? `${major}:${minor} rbps=max wbps=524288 riops=max wiops=max` : `${major}:${minor} 524288`,
  );
  // 1.5 MiB at half a MiB a second: three seconds, less what the kernel lets through at first.
  const slow = await writeMs();
  assert.ok(slow > 1500, `took ${slow} ms`);
  await box.manager.set(limit(0, 0), {});
  const quick = await writeMs();
  assert.ok(quick < slow / 2, `${quick} ms without the limit, ${slow} with it`);
  await box.manager.set(limit(0, 8), {});
  const few = await writeMs();
  assert.ok(few > 1000 && few > quick, `24 requests at 8 a second took ${few} ms`);
});

test('weights of a disk with the BFQ scheduler, in general and for the device', {
  proves: ['linux.resources.blockIO.weight', 'linux.resources.blockIO.weightDevice'],
  requires: ['root', onV2 ? 'controller:io' : 'controller:blkio'],
}, async t => {
  // The module and the scheduler are the machine's: only a guest's are changed.
  if (lane() === 'host') return t.skip('only a guest has a disk and a scheduler to itself');
  const disk = loopDisk(t, MiB);
  if (disk === undefined) return;
  assert.equal(run('modprobe', 'bfq').status, 0);
  writeFileSync(`/sys/block/${disk.path.slice('/dev/'.length)}/queue/scheduler`, 'bfq');
  const { major, minor } = disk;
  const box = await cgroupBox(t, { blockIO: { weight: 200, weightDevice: [{ major, minor, weight: 300 }] } });
  const seen = (): string =>
    onV2
      ? box.read('', 'io.bfq.weight')
      : `default ${box.read('blkio', 'blkio.bfq.weight')}\n${box.read('blkio', 'blkio.bfq.weight_device').split('\n').at(-1)}`;
  assert.equal(seen(), `default 200\n${major}:${minor} 300`);
  await box.manager.set({ blockIO: { weight: 400, weightDevice: [{ major, minor, weight: 500 }] } }, {});
  assert.equal(seen(), `default 400\n${major}:${minor} 500`);
  await assert.rejects(
    box.manager.set({ blockIO: { weight: 100, weightDevice: [{ major: 250, minor: 77, weight: 500 }] } }, {}),
    refused('ERR_CGROUP', 'linux.resources.blockIO.weightDevice[0].weight'),
  );
  assert.equal(seen(), `default 400\n${major}:${minor} 500`);
});

test('leaf weights, which no kernel since 5.0 has, are refused by name', {
  proves: ['linux.resources.blockIO.leafWeight', 'linux.resources.blockIO.weightDevice'],
  requires: ['root', onV2 ? 'controller:io' : 'controller:blkio'],
}, async t => {
  const code = onV2 ? 'ERR_UNSUPPORTED' : 'ERR_CGROUP';
  await assert.rejects(cgroupBox(t, { blockIO: { leafWeight: 100 } }), refused(code, 'blockIO.leafWeight'));
  const weightDevice = [{ major: 7, minor: 0, leafWeight: 100 }];
  await assert.rejects(
    cgroupBox(t, { blockIO: { weightDevice } }),
    refused(code, 'blockIO.weightDevice[0].leafWeight'),
  );
});

test('huge pages of a size that this machine has not are refused by name', {
  proves: ['linux.resources.hugepageLimits'],
  requires: ['root', 'controller:hugetlb'],
}, async t => {
  for (const pageSize of ['3KB', '2mb'])
    await assert.rejects(
      cgroupBox(t, {
        hugepageLimits: [
          { pageSize: '2MB', limit: 2 * MiB },
          { pageSize, limit: 1 },
        ],
      }),
      refused('ERR_CGROUP', 'linux.resources.hugepageLimits[1]'),
    );
});

/** A software device over a network interface; where there is none the reason. */
function rdmaDevice(t: TestContext): string | undefined {
  for (const module of ['rdma_rxe', 'dummy']) run('modprobe', module);
  const words = ['link', 'add', 'rxe_test', 'type', 'rxe', 'netdev', 'lcrdma0'];
  for (const [program, ...args] of [
    ['ip', 'link', 'add', 'lcrdma0', 'type', 'dummy'],
    ['ip', 'link', 'set', 'lcrdma0', 'up'],
    ['rdma', ...words],
  ]) {
    const { status, stderr } = run(program ?? '', ...args);
    if (status !== 0) return `${program} ${args.join(' ')}: ${stderr?.trim()}`;
  }
  t.after(() => {
    run('rdma', 'link', 'delete', 'rxe_test');
    run('ip', 'link', 'delete', 'lcrdma0');
  });
  return undefined;
}

test('rdma: limits of a device stand in the file, change, and a device that is not there is refused', {
  proves: ['linux.resources.rdma'],
  requires: ['root', 'controller:rdma', 'rdma'],
}, async t => {
  const reason = lane() === 'host' ? 'devices of the host are not ours to make' : rdmaDevice(t);
  if (reason !== undefined) return t.skip(reason);
  const box = await cgroupBox(t, { rdma: { rxe_test: { hcaHandles: 3, hcaObjects: 10_000 } } });
  assert.equal(box.read('rdma', 'rdma.max'), 'rxe_test hca_handle=3 hca_object=10000');
  assert.deepEqual((await box.manager.stats()).rdma, { rxe_test: { hcaHandles: 0, hcaObjects: 0 } });
  await box.manager.set({ rdma: { rxe_test: { hcaHandles: 4 } } }, {});
  assert.equal(box.read('rdma', 'rdma.max'), 'rxe_test hca_handle=4 hca_object=10000');
  await assert.rejects(
    box.manager.set({ rdma: { rxe_test: { hcaHandles: 9 }, nothere: { hcaObjects: 1 } } }, {}),
    refused('ERR_CGROUP', 'linux.resources.rdma.nothere'),
  );
  assert.equal(box.read('rdma', 'rdma.max'), 'rxe_test hca_handle=4 hca_object=10000');
});

/**
 * A directory in place of a hierarchy: no machine of ours has a misc resource (encrypted memory), and not every one an
 * rdma controller. What the kernel does by itself there is not proven.
 */
test('rdma and misc where a directory stands in for the kernel: written, counted, and refused without the controller', {
  requires: ['root'],
}, async t => {
  const root = makeDirectory(t);
  const line = (type: string, name: string, options: string): string =>
    `30 29 0:30 / ${join(root, name)} rw - ${type} ${type} rw${options}`;
  for (const name of ['rdma/box', 'pids/box', 'unified/box'])
    mkdirSync(join(root, name), { recursive: true });
  const put = (path: string, text: string) => writeFileSync(join(root, path), text);
  const get = (path: string) => readFileSync(join(root, path), 'utf8');
  for (const name of ['rdma/box', 'unified/box']) {
    put(`${name}/rdma.max`, '');
    put(`${name}/rdma.current`, 'mlx5_0 hca_handle=1 hca_object=20\nocrdma1 hca_handle=0 hca_object=0\n');
  }
  const v1 = parseLayout(
    [line('cgroup', 'rdma', ',rdma'), line('cgroup', 'pids', ',pids')].join('\n'),
    '2:rdma:/\n1:pids:/\n',
  );
  const rdma = { mlx5_0: { hcaHandles: 2, hcaObjects: 2000 } };
  const onRdma = new V1Manager(binding(), v1, {
    rdma: join(root, 'rdma/box'),
    pids: join(root, 'pids/box'),
  });
  await onRdma.set({ rdma }, {});
  assert.equal(get('rdma/box/rdma.max'), 'mlx5_0 hca_handle=2 hca_object=2000');
  assert.deepEqual((await onRdma.stats()).rdma, {
    mlx5_0: { hcaHandles: 1, hcaObjects: 20 },
    ocrdma1: { hcaHandles: 0, hcaObjects: 0 },
  });
  const without = new V1Manager(binding(), v1, { pids: join(root, 'pids/box') });
  await assert.rejects(without.set({ rdma }, {}), refused('ERR_CGROUP_CONTROLLER', 'linux.resources.rdma'));

  put('unified/box/cgroup.controllers', 'misc rdma\n');
  put('unified/box/misc.max', '');
  put('unified/box/misc.current', 'sev 3\nsev_es 0\n');
  const v2 = parseLayout(line('cgroup2', 'unified', ''), '0::/\n');
  const unified = new V2Manager(binding(), v2, join(root, 'unified/box'));
  await unified.set({ rdma, unified: unifiedLimits({ misc: { sev: 10 } }) }, {});
  assert.equal(get('unified/box/rdma.max'), 'mlx5_0 hca_handle=2 hca_object=2000');
  assert.equal(get('unified/box/misc.max'), 'sev 10');
  const { misc } = await unified.stats();
  assert.deepEqual(Object.keys(misc), ['sev', 'sev_es']);
  await assert.rejects(
    unified.set({ unified: { 'misc.nothere': '1' } }, {}),
    refused('ERR_CGROUP', 'misc.nothere'),
  );
  put('unified/box/cgroup.controllers', 'pids\n');
  await assert.rejects(unified.set({ rdma }, {}), refused('ERR_CGROUP_CONTROLLER', 'linux.resources.rdma'));
  await assert.rejects(
    unified.set({ unified: { 'misc.max': 'sev 1' } }, {}),
    refused('ERR_CGROUP_CONTROLLER', 'wanted misc'),
  );
});

test('what the kernel takes no more has no effect, as with runc: memory.kernel, memory.kernelTCP, memory.useHierarchy', {
  proves: [
    'linux.resources.memory.kernel',
    'linux.resources.memory.kernelTCP',
    'linux.resources.memory.useHierarchy',
  ],
  requires: ['root', 'controller:memory'],
}, async t => {
  const on = await fixture(t, {
    process: { args: ['/bin/sleep', '1000'] },
    patch: spec => {
      spec.linux.resources.memory = {
        limit: 64 * MiB,
        kernel: 8 * MiB,
        kernelTCP: 8 * MiB,
        useHierarchy: false,
      };
      return spec;
    },
  });
  const container = await on.create();
  await container.run(on.process());
  const { cgroup_paths: paths } = await container.state();
  const directory = paths.memory ?? paths[''] ?? '';
  const read = (file: string): string | undefined =>
    existsSync(join(directory, file)) ? readFileSync(join(directory, file), 'utf8').trim() : undefined;
  assert.equal(read(onV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(64 * MiB));
  const unlimited = '9223372036854771712';
  for (const file of ['memory.kmem.limit_in_bytes', 'memory.kmem.tcp.limit_in_bytes'])
    assert.ok([undefined, unlimited].includes(read(file)), `${file}: ${read(file)}`);
  assert.ok([undefined, '1'].includes(read('memory.use_hierarchy')));
  await container.destroy({ force: true });
});

test('v1: what a member sends carries the class of its cgroup', {
  proves: ['linux.resources.network.classID'],
  requires: ['root', 'controller:net_cls', 'iptables'],
}, async t => {
  if (lane() === 'host') return t.skip('the rules of the host are not ours');
  const rule = ['OUTPUT', '-m', 'cgroup', '--cgroup', String(0x100001)];
  const added = run('iptables', '-A', ...rule);
  if (added.status !== 0) return t.skip(`no match by class: ${added.stderr?.trim()}`);
  t.after(() => run('iptables', '-D', ...rule));
  const packets = (): number =>
    Number(/^\s*(\d+).*cgroup/m.exec(run('iptables', '-L', 'OUTPUT', '-v', '-n', '-x').stdout)?.[1]);
  const box = await cgroupBox(t, { network: { classID: 0x100001 } });
  const send = ['/bin/bash', '-c', 'echo hello >/dev/udp/127.0.0.1/9'];
  assert.equal(run(send[0] ?? '', ...send.slice(1)).status, 0);
  assert.equal(packets(), 0, 'nobody else has the class');
  assert.equal((await memberOf(box.joinFiles, send).exit()).code, 0);
  assert.equal(packets(), 1);
  await box.manager.set({ network: { classID: 7 } }, {});
  assert.equal((await memberOf(box.joinFiles, send).exit()).code, 0);
  assert.equal(packets(), 1);
});

test('v1: what a member sends over an interface has the priority of its cgroup', {
  proves: ['linux.resources.network.priorities'],
  requires: ['root', 'controller:net_prio'],
}, async t => {
  if (lane() === 'host') return t.skip('the queues of the host are not ours');
  run('modprobe', 'sch_prio');
  const queue = ['dev', 'lo', 'root', 'handle', '1:', 'prio'];
  const added = run('tc', 'qdisc', 'add', ...queue);
  if (added.status !== 0) return t.skip(`no queue by priority: ${added.stderr?.trim()}`);
  t.after(() => run('tc', 'qdisc', 'del', ...queue));
  // tc-prio(8): priority 6 goes to the first band, what has none to the second.
  const packets = (): number => {
    const { stdout } = run('tc', '-s', 'class', 'show', 'dev', 'lo');
    return Number(/class prio 1:1 [\s\S]*?Sent \d+ bytes (\d+) pkt/.exec(stdout)?.[1]);
  };
  const box = await cgroupBox(t, { network: { priorities: [{ name: 'lo', priority: 6 }] } });
  const send = ['/bin/bash', '-c', 'echo hello >/dev/udp/127.0.0.1/9'];
  assert.equal((await memberOf([], send).exit()).code, 0);
  assert.equal(packets(), 0);
  assert.equal((await memberOf(box.joinFiles, send).exit()).code, 0);
  assert.ok(packets() > 0);
});
