import assert from 'node:assert/strict';
import { isInitialIdMap } from '../../../lib/cgroups/layout.ts';
import { ownerOf } from '../../../lib/cgroups/open.ts';
import { delegatedFiles, delegatee, delegation } from '../../../lib/cgroups/v2/delegation.ts';
import { v2Limits } from '../../../lib/cgroups/v2/limits.ts';
import { type UnifiedLimits, unifiedLimits } from '../../../lib/cgroups/v2/unified.ts';
import type { Config } from '../../../lib/config/config.ts';
import { test } from '../../harness/test.ts';

test('each typed limit is one file with the words of the kernel', () => {
  const limits: UnifiedLimits = {
    memory: {
      high: 1n << 60n,
      max: 'max',
      low: 4096,
      min: 0,
      oomGroup: true,
      swapMax: 0,
      swapHigh: 8192,
      zswapMax: 0,
      zswapWriteback: false,
    },
    cpu: {
      weightNice: -5,
      max: { quotaUs: 5000, periodUs: 10_000 },
      maxBurstUs: 100,
      idle: false,
      uclampMax: 12.5,
    },
    cpuset: { cpus: '0-1', mems: '0', partition: 'member' },
    io: {
      weight: 50,
      weightDevice: [{ major: 8, minor: 0, weight: 200 }],
      max: [
        { major: 8, minor: 0, rbps: 1024, wiops: 'max' },
        { major: 8, minor: 16, riops: 5 },
      ],
      latency: [{ major: 8, minor: 0, targetUs: 5000 }],
      prioClass: 'restrict-to-be',
    },
    pids: { max: 7 },
    hugetlb: { '2MB': { max: 0, rsvdMax: 'max' } },
    rdma: { mlx5_0: { hcaHandle: 2, hcaObject: 'max' } },
    misc: { sev: 3, sev_es: 'max' },
    pressure: false,
    maxDescendants: 10,
    maxDepth: 'max',
  };
  assert.deepEqual(unifiedLimits(limits), {
    'memory.high': '1152921504606846976',
    'memory.max': 'max',
    'memory.low': '4096',
    'memory.min': '0',
    'memory.oom.group': '1',
    'memory.swap.max': '0',
    'memory.swap.high': '8192',
    'memory.zswap.max': '0',
    'memory.zswap.writeback': '0',
    'cpu.idle': '0',
    'cpu.weight.nice': '-5',
    'cpu.max': '5000 10000',
    'cpu.max.burst': '100',
    'cpu.uclamp.max': '12.50',
    'cpuset.cpus': '0-1',
    'cpuset.mems': '0',
    'cpuset.cpus.partition': 'member',
    'io.weight': 'default 50\n8:0 200',
    'io.max': '8:0 rbps=1024 wiops=max\n8:16 riops=5',
    'io.latency': '8:0 target=5000',
    'io.prio.class': 'restrict-to-be',
    'pids.max': '7',
    'hugetlb.2MB.max': '0',
    'hugetlb.2MB.rsvd.max': 'max',
    'rdma.max': 'mlx5_0 hca_handle=2 hca_object=max',
    'misc.max': 'sev 3\nsev_es max',
    'cgroup.pressure': '0',
    'cgroup.max.descendants': '10',
    'cgroup.max.depth': 'max',
  });
  assert.deepEqual(unifiedLimits({}), {});
  // One write for each line, in this order.
  const writes = v2Limits({ unified: unifiedLimits(limits) }, { hasBfqWeight: () => false });
  assert.deepEqual(
    writes.filter(w => w.file === 'io.max').map(w => w.value),
    ['8:0 rbps=1024 wiops=max', '8:16 riops=5'],
  );
});

test('what no kernel takes is refused by name', () => {
  const refused: [UnifiedLimits, string][] = [
    [{ memory: { high: -1 } }, 'memory.high is -1'],
    [{ memory: { low: 1.5 } }, 'memory.low is 1.5'],
    [{ memory: { min: -1n } }, 'memory.min is -1'],
    [{ cpu: { weight: 0 } }, 'cpu.weight is 0'],
    [{ cpu: { weight: 10_001 } }, 'cpu.weight is 10001'],
    [{ cpu: { weightNice: 20 } }, 'cpu.weightNice is 20'],
    [{ cpu: { weight: 1, weightNice: 1 } }, 'cpu.weightNice is 1: cpu.weight is given too'],
    [{ cpu: { uclampMin: 101 } }, 'cpu.uclampMin is 101'],
    [{ io: { latency: [{ major: -1, minor: 0, targetUs: 1 }] } }, 'io.latency.major is -1'],
    [{ misc: { 'a b': 1 } }, 'misc is a b'],
    [{ rdma: { 'a\nb': {} } }, 'rdma is a'],
    [{ hugetlb: { '../x': { max: 1 } } }, 'hugetlb is ../x'],
  ];
  for (const [limits, words] of refused)
    assert.throws(
      () => unifiedLimits(limits),
      (error: unknown) =>
        error instanceof Error &&
        'code' in error &&
        error.code === 'ERR_ARGUMENT' &&
        error.message.includes(words),
      words,
    );
});

test('a cgroup is given away only with a cgroup namespace of its own and a writable mount of it', () => {
  const mount = (flags: number, destination = '/sys/fs/cgroup', type = 'cgroup') =>
    ({ type, destination, flags }) as Config['mounts'][number];
  const process = { user: { uid: 1000, gid: 0, additionalGids: [] } } as unknown as NonNullable<
    Config['process']
  >;
  const namespaces: Config['namespaces'] = [{ type: 'cgroup' }];
  assert.equal(delegatee({ namespaces, mounts: [mount(0)], process }), 1000);
  assert.equal(delegatee({ namespaces, mounts: [mount(0, '/sys/fs/cgroup/', 'cgroup2')], process }), 1000);
  assert.equal(delegatee({ namespaces, mounts: [mount(0)] }), 0);
  assert.equal(delegatee({ namespaces, mounts: [mount(1)], process }), undefined);
  assert.equal(delegatee({ namespaces, mounts: [mount(0, '/mnt')], process }), undefined);
  assert.equal(delegatee({ namespaces: [], mounts: [mount(0)], process }), undefined);
  assert.equal(
    delegatee({ namespaces: [{ type: 'cgroup', path: '/x' }], mounts: [mount(0)], process }),
    undefined,
  );
});

test('with a user namespace its maps say who owns; nobody, when they are not known', {
  requires: ['root'],
}, () => {
  const mounts = [{ type: 'cgroup', destination: '/sys/fs/cgroup', flags: 0 }] as unknown as Config['mounts'];
  const process = { user: { uid: 7 } } as unknown as NonNullable<Config['process']>;
  const namespaces: Config['namespaces'] = [{ type: 'cgroup' }, { type: 'user' }];
  const uidMappings = [{ containerID: 0, hostID: 100_000, size: 10 }];
  assert.equal(ownerOf({ namespaces, mounts, process, uidMappings }), 100_007);
  assert.equal(ownerOf({ namespaces, mounts, process }), undefined);
  assert.equal(ownerOf({ namespaces: [{ type: 'cgroup' }], mounts, process }), 7);
  assert.equal(ownerOf({ namespaces: [{ type: 'cgroup' }], mounts }), undefined, 'root has it already');
});

test("the files that are given away are the kernel's list, never a limit", () => {
  assert.ok(delegatedFiles().includes('cgroup.procs'));
  assert.deepEqual(delegatedFiles('/nonexistent'), [
    'cgroup.procs',
    'cgroup.subtree_control',
    'cgroup.threads',
  ]);
  const operations = delegation('/sys/fs/cgroup/x', 7);
  assert.deepEqual(operations[0], { op: 'chown', path: '/sys/fs/cgroup/x', uid: 7 });
  for (const operation of operations) {
    assert.ok(operation.op === 'chown' && operation.uid === 7);
    assert.doesNotMatch(operation.path, /\.(max|high|low|min|weight)$/);
  }
});

test('the initial user namespace is told by its map', () => {
  assert.ok(isInitialIdMap('         0          0 4294967295\n'));
  assert.equal(isInitialIdMap('0 100000 65536\n'), false);
  assert.equal(isInitialIdMap('0 0 1\n1 1 4294967294\n'), false);
});
