import assert from 'node:assert/strict';
import { decimal, pidsMax } from '../../../lib/cgroups/limits.ts';
import { restoredValue } from '../../../lib/cgroups/update.ts';
import { v1Limits } from '../../../lib/cgroups/v1/limits.ts';
import { cpuWeight, ioWeight, swapMax, v2Limits } from '../../../lib/cgroups/v2/limits.ts';
import type { Resources } from '../../../lib/config/config.ts';
import { CgroupError } from '../../../lib/errors.ts';
import { test } from '../../harness/test.ts';

const v1 = (resources: Resources, prefix: 'blkio.bfq.' | 'blkio.' = 'blkio.bfq.') =>
  v1Limits(resources, { blkioWeightPrefix: () => prefix }).map(w => `${w.file}=${w.value}`);
const v2 = (resources: Resources, bfq = false) =>
  v2Limits(resources, { hasBfqWeight: () => bfq }).map(w => `${w.file}=${w.value}`);

const refusal = (code: string, field: string) => (error: unknown) => {
  assert.ok(error instanceof CgroupError, String(error));
  assert.equal(error.code, code);
  assert.ok(error.message.includes(field), `${error.message} does not name ${field}`);
  return true;
};

test('cpu.shares become cpu.weight on the curve through minimum, default and maximum', {
  proves: ['linux.resources.cpu.shares'],
  trap: 17,
}, () => {
  const pairs = [
    [0, 0],
    [1, 1],
    [2, 1],
    [3, 2],
    [512, 59],
    [1024, 100],
    [2048, 174],
    [262143, 10000],
    [262144, 10000],
    [300000, 10000],
  ];
  for (const [shares = 0, weight] of pairs) assert.equal(cpuWeight(shares), weight, `shares ${shares}`);
  let former = 0;
  for (let shares = 2; shares <= 262144; shares = Math.ceil(shares * 1.07)) {
    assert.ok(cpuWeight(shares) >= former, `falls at ${shares}`);
    former = cpuWeight(shares);
  }
});

test('blkio.weight becomes io.weight linearly', () => {
  assert.deepEqual([10, 100, 500, 1000].map(ioWeight), [1, 910, 4950, 10000]);
});

test('memory.swap of the spec counts memory too, memory.swap.max does not', {
  proves: ['linux.resources.memory.swap'],
  trap: 17,
}, () => {
  assert.equal(swapMax(100, 300), '200');
  assert.equal(swapMax(100, 100), '0');
  assert.equal(swapMax(100, -1), 'max');
  assert.equal(swapMax(-1, 0), 'max');
  assert.equal(swapMax(100, 0), undefined);
  assert.throws(() => swapMax(0, 100), refusal('ERR_CGROUP', 'memory.swap'));
  assert.throws(() => swapMax(-1, 100), refusal('ERR_CGROUP', 'memory.limit'));
  assert.throws(
    () => swapMax(200, 100),
    refusal('ERR_CGROUP', 'memory+swap limit should be >= memory limit'),
  );
});

test('numbers beyond 2^53 keep their digits', () => {
  assert.equal(decimal(2 ** 63 - 4096), '9223372036854771712');
  assert.equal(decimal(-1), '-1');
});

test('pids.limit: 0 is 1, negative is max, unset writes nothing', {
  proves: ['linux.resources.pids.limit'],
  trap: 17,
}, () => {
  assert.deepEqual([0, 1, -1, 32768].map(pidsMax), ['1', '1', 'max', '32768']);
  assert.deepEqual(v1({ pids: {} }), []);
  assert.deepEqual(v2({ pids: { limit: 0 } }), ['pids.max=1']);
});

test('v1 writes memory in an order that a new cgroup accepts', {
  proves: [
    'linux.resources.memory.limit',
    'linux.resources.memory.swappiness',
    'linux.resources.memory.disableOOMKiller',
  ],
}, () => {
  assert.deepEqual(v1({ memory: { limit: 1000, swap: 2000, reservation: 500, swappiness: 0 } }), [
    'memory.limit_in_bytes=1000',
    'memory.memsw.limit_in_bytes=2000',
    'memory.soft_limit_in_bytes=500',
    'memory.swappiness=0',
  ]);
  assert.deepEqual(v1({ memory: { limit: -1 } }), [
    'memory.memsw.limit_in_bytes=-1',
    'memory.limit_in_bytes=-1',
  ]);
  assert.deepEqual(v1({ memory: { limit: 1000, swap: -1 } }), [
    'memory.memsw.limit_in_bytes=-1',
    'memory.limit_in_bytes=1000',
  ]);
  assert.deepEqual(v1({ memory: { disableOOMKiller: true } }), ['memory.oom_control=1']);
  assert.deepEqual(v1({ memory: { disableOOMKiller: false } }), []);
  assert.throws(
    () => v1({ memory: { swappiness: 101 } }),
    refusal('ERR_CGROUP', 'linux.resources.memory.swappiness'),
  );
});

test('v1 cpu: burst after quota, shares not on an idle cgroup, their range is checked', {
  proves: [
    'linux.resources.cpu.burst',
    'linux.resources.cpu.idle',
    'linux.resources.cpu.shares',
    'linux.resources.cpu.quota',
  ],
  trap: 17,
}, () => {
  assert.deepEqual(v1({ cpu: { shares: 512, quota: -1, period: 50000, burst: 100, idle: 0 } }), [
    'cpu.shares=512',
    'cpu.cfs_period_us=50000',
    'cpu.cfs_quota_us=-1',
    'cpu.cfs_burst_us=100',
    'cpu.idle=0',
  ]);
  assert.deepEqual(v1({ cpu: { shares: 512, idle: 1 } }), ['cpu.idle=1']);
  assert.deepEqual(v1({ cpu: { realtimePeriod: 1000, realtimeRuntime: 500 } }), [
    'cpu.rt_period_us=1000',
    'cpu.rt_runtime_us=500',
  ]);
  assert.throws(
    () => v1({ cpu: { shares: 1 } }),
    refusal('ERR_CGROUP', 'the minimum allowed cpu-shares is 2'),
  );
  assert.throws(
    () => v1({ cpu: { shares: 262145 } }),
    refusal('ERR_CGROUP', 'the maximum allowed cpu-shares is 262144'),
  );
});

test('v2 cpu: quota and period share one file', () => {
  assert.deepEqual(v2({ cpu: { quota: 50000 } }), ['cpu.max=50000 100000']);
  assert.deepEqual(v2({ cpu: { period: 20000 } }), ['cpu.max=max 20000']);
  assert.deepEqual(v2({ cpu: { quota: -1, period: 20000 } }), ['cpu.max=max 20000']);
  assert.deepEqual(v2({ cpu: { quota: 50000, burst: 1000 } }), [
    'cpu.max=50000 100000',
    'cpu.max.burst=1000',
  ]);
  assert.deepEqual(v2({ cpu: { shares: 1024, idle: 1 } }), ['cpu.idle=1']);
  assert.deepEqual(v2({ cpu: { shares: 1024, cpus: '0-1', mems: '0' } }), [
    'cpu.weight=100',
    'cpuset.cpus=0-1',
    'cpuset.mems=0',
  ]);
});

test('v2 memory', () => {
  assert.deepEqual(v2({ memory: { limit: 1000, swap: 3000, reservation: 500 } }), [
    'memory.swap.max=2000',
    'memory.max=1000',
    'memory.low=500',
  ]);
  assert.deepEqual(v2({ memory: { limit: -1 } }), ['memory.swap.max=max', 'memory.max=max']);
});

test('block IO on both layouts', { proves: ['linux.resources.blockIO'], trap: 17 }, () => {
  const blockIO = {
    weight: 100,
    weightDevice: [{ major: 8, minor: 0, weight: 500 }],
    throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1024 }],
    throttleWriteIOPSDevice: [{ major: 8, minor: 16, rate: 0 }],
  };
  assert.deepEqual(v1({ blockIO }), [
    'blkio.bfq.weight=100',
    'blkio.bfq.weight_device=8:0 500',
    'blkio.throttle.read_bps_device=8:0 1024',
    'blkio.throttle.write_iops_device=8:16 0',
  ]);
  assert.deepEqual(v2({ blockIO }), [
    'io.weight=910',
    'io.weight=8:0 4950',
    'io.max=8:0 rbps=1024',
    'io.max=8:16 wiops=max',
  ]);
  assert.deepEqual(v2({ blockIO: { weight: 100 } }, true), ['io.bfq.weight=100']);
  assert.deepEqual(v1({ blockIO: { leafWeight: 100 } }), ['blkio.leaf_weight=100']);
});

test('hugetlb limits the reservations too; rdma and network', {
  proves: ['linux.resources.hugepageLimits', 'linux.resources.rdma', 'linux.resources.network'],
}, () => {
  const hugepageLimits = [{ pageSize: '2MB', limit: 2 ** 63 - 4096 }];
  assert.deepEqual(v1({ hugepageLimits }), [
    'hugetlb.2MB.limit_in_bytes=9223372036854771712',
    'hugetlb.2MB.rsvd.limit_in_bytes=9223372036854771712',
  ]);
  assert.deepEqual(v2({ hugepageLimits }), [
    'hugetlb.2MB.max=9223372036854771712',
    'hugetlb.2MB.rsvd.max=9223372036854771712',
  ]);
  assert.throws(
    () => v2({ hugepageLimits: [{ pageSize: '../2MB', limit: 1 }] }),
    refusal('ERR_CGROUP', 'hugepageLimits[0].pageSize'),
  );
  assert.deepEqual(v2({ rdma: { mlx5_0: { hcaHandles: 3, hcaObjects: 4 } } }), [
    'rdma.max=mlx5_0 hca_handle=3 hca_object=4',
  ]);
  assert.deepEqual(v1({ network: { classID: 1048577, priorities: [{ name: 'lo', priority: 3 }] } }), [
    'net_cls.classid=1048577',
    'net_prio.ifpriomap=lo 3',
  ]);
});

test('what a layout has no file for is refused by name', () => {
  const v2Refused: readonly (readonly [Resources, string])[] = [
    [{ memory: { disableOOMKiller: true } }, 'memory.disableOOMKiller'],
    [{ memory: { swappiness: 10 } }, 'memory.swappiness'],
    [{ cpu: { realtimeRuntime: 1 } }, 'cpu.realtimeRuntime'],
    [{ cpu: { realtimePeriod: 1 } }, 'cpu.realtimePeriod'],
    [{ blockIO: { leafWeight: 10 } }, 'blockIO.leafWeight'],
    [
      { blockIO: { weightDevice: [{ major: 1, minor: 1, leafWeight: 10 }] } },
      'blockIO.weightDevice[0].leafWeight',
    ],
    [{ network: { classID: 1 } }, 'network.classID'],
    [{ network: { priorities: [{ name: 'lo', priority: 1 }] } }, 'network.priorities'],
  ];
  for (const [resources, field] of v2Refused)
    assert.throws(() => v2(resources), refusal('ERR_UNSUPPORTED', `linux.resources.${field}`));
  assert.throws(
    () => v1({ unified: { 'memory.high': '1' } }),
    refusal('ERR_UNSUPPORTED', 'linux.resources.unified'),
  );
});

test('unified: a line is a write, names stay inside the cgroup', {
  proves: ['linux.resources.unified'],
}, () => {
  const unified = { 'io.max': '8:0 rbps=1\n8:16 rbps=2\n', 'memory.high': '100' };
  assert.deepEqual(v2({ unified }), ['io.max=8:0 rbps=1', 'io.max=8:16 rbps=2', 'memory.high=100']);
  assert.throws(
    () => v2({ unified: { '../memory.high': '1' } }),
    refusal('ERR_CGROUP', 'must be a file name (no slashes)'),
  );
  assert.throws(
    () => v2({ unified: { memory: '1' } }),
    refusal('ERR_CGROUP', 'must be in the form CONTROLLER.PARAMETER'),
  );
});

test('a file goes back to what it said, also by key', () => {
  const cases: readonly (readonly [string, string, string, string])[] = [
    ['memory.limit_in_bytes', '9223372036854771712\n', '1000', '9223372036854771712'],
    ['memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n', '1', '0'],
    ['cpu.max', 'max 100000\n', '1000 2000', 'max 100000'],
    [
      'io.max',
      '8:0 rbps=5 wbps=max riops=max wiops=max\n',
      '8:0 rbps=1',
      '8:0 rbps=5 wbps=max riops=max wiops=max',
    ],
    ['io.max', '', '8:0 rbps=1', '8:0 rbps=max wbps=max riops=max wiops=max'],
    ['blkio.throttle.read_bps_device', '8:16 7\n', '8:0 1', '8:0 0'],
    ['io.weight', 'default 100\n8:0 50\n', '200', 'default 100'],
    ['io.weight', 'default 100\n8:0 50\n', '8:0 70', '8:0 50'],
    ['net_prio.ifpriomap', 'lo 0\neth0 2\n', 'eth0 5', 'eth0 2'],
  ];
  for (const [file, before, written, expected] of cases)
    assert.equal(restoredValue(`/x/${file}`, before, written), expected, file);
});
