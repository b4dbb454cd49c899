/** Resources → writes for cgroup v1 (also the v1 part of a hybrid host). kernel cgroup-v1/; runc's fs driver for the order. */
import type { Resources, ThrottleDevice } from '../../config/config.ts';
import {
  cpusetLimits,
  decimal,
  invalid,
  type LimitWrite,
  pageSizeName,
  pidsLimits,
  rdmaLine,
  refuse,
} from '../limits.ts';

/** What the host decides: which of two files a cgroup of this host has. */
export interface V1Files {
  /** `blkio.bfq.` when the BFQ scheduler gives the weights (kernel 5.0 and later), else `blkio.`. Called only for weights. */
  blkioWeightPrefix(): 'blkio.bfq.' | 'blkio.';
}

export function v1Limits(resources: Resources, files: V1Files): LimitWrite[] {
  if (resources.unified !== undefined && Object.keys(resources.unified).length > 0)
    refuse('unified', 'cannot use unified on cgroup v1');
  return [
    ...memory(resources.memory),
    ...cpu(resources.cpu),
    ...cpusetLimits(resources.cpu),
    ...pidsLimits(resources.pids),
    ...blkio(resources.blockIO, files),
    ...hugetlb(resources.hugepageLimits),
    ...network(resources.network),
    ...rdma(resources.rdma),
  ];
}

function memory(memory: Resources['memory']): LimitWrite[] {
  if (memory === undefined) return [];
  const writes: LimitWrite[] = [];
  const add = (file: string, value: number, field: string, tolerate?: readonly string[]): void => {
    const write = {
      controller: 'memory',
      file,
      value: decimal(value),
      field: `linux.resources.memory.${field}`,
    };
    writes.push(tolerate === undefined ? write : { ...write, tolerate });
  };
  const { limit = 0, swap = 0 } = memory;
  // An unlimited memory without a word about swap means both; the kernel wants memsw >= limit at any time, so swap first.
  const swapFollows = limit === -1 && swap === 0;
  if (swapFollows) add('memory.memsw.limit_in_bytes', -1, 'limit', ['ENOENT']);
  if (swap === -1) add('memory.memsw.limit_in_bytes', -1, 'swap');
  if (limit !== 0) add('memory.limit_in_bytes', limit, 'limit');
  if (swap !== 0 && swap !== -1) add('memory.memsw.limit_in_bytes', swap, 'swap');
  if (memory.reservation !== undefined && memory.reservation !== 0)
    add('memory.soft_limit_in_bytes', memory.reservation, 'reservation');
  if (memory.disableOOMKiller === true) add('memory.oom_control', 1, 'disableOOMKiller');
  const swappiness = memory.swappiness;
  if (swappiness !== undefined && swappiness !== -1) {
    if (swappiness < 0 || swappiness > 100) invalid('memory.swappiness', swappiness, 'valid range is 0-100');
    add('memory.swappiness', swappiness, 'swappiness');
  }
  // checkBeforeUpdate needs no write: the kernel itself answers EBUSY when the limit is below the usage.
  return writes;
}

function cpu(cpu: Resources['cpu']): LimitWrite[] {
  if (cpu === undefined) return [];
  const writes: LimitWrite[] = [];
  const add = (
    file: string,
    value: number | undefined,
    field: string,
    tolerate?: readonly string[],
  ): void => {
    if (value === undefined) return;
    const write = { controller: 'cpu', file, value: decimal(value), field: `linux.resources.cpu.${field}` };
    writes.push(tolerate === undefined ? write : { ...write, tolerate });
  };
  const nonzero = (value: number | undefined) => (value === 0 ? undefined : value);
  // Realtime first: a process with a realtime policy may not enter a cgroup whose runtime is 0.
  add('cpu.rt_period_us', nonzero(cpu.realtimePeriod), 'realtimePeriod');
  add('cpu.rt_runtime_us', nonzero(cpu.realtimeRuntime), 'realtimeRuntime');
  const shares = nonzero(cpu.shares);
  // The kernel clamps silently; the limits are MIN_SHARES and MAX_SHARES, kernel/sched/sched.h.
  if (shares !== undefined && shares < 2)
    invalid('cpu.shares', shares, 'the minimum allowed cpu-shares is 2');
  if (shares !== undefined && shares > 262144)
    invalid('cpu.shares', shares, 'the maximum allowed cpu-shares is 262144');
  if (cpu.idle !== 1) add('cpu.shares', shares, 'shares'); // EINVAL on an idle cgroup
  add('cpu.cfs_period_us', nonzero(cpu.period), 'period');
  add('cpu.cfs_quota_us', nonzero(cpu.quota), 'quota');
  // After the quota: burst may not be larger than it.
  add('cpu.cfs_burst_us', cpu.burst, 'burst', cpu.burst === 0 ? ['ENOENT'] : undefined);
  add('cpu.idle', cpu.idle, 'idle', cpu.idle === 0 ? ['ENOENT'] : undefined);
  return writes;
}

function blkio(io: Resources['blockIO'], files: V1Files): LimitWrite[] {
  if (io === undefined) return [];
  const writes: LimitWrite[] = [];
  const add = (file: string, value: string, field: string): void => {
    writes.push({ controller: 'blkio', file, value, field: `linux.resources.blockIO.${field}` });
  };
  const { weight = 0, leafWeight = 0, weightDevice = [] } = io;
  if (weight !== 0) add(`${files.blkioWeightPrefix()}weight`, decimal(weight), 'weight');
  if (leafWeight !== 0) add('blkio.leaf_weight', decimal(leafWeight), 'leafWeight');
  weightDevice.forEach((device, i) => {
    const at = `${device.major}:${device.minor}`;
    if (device.weight !== undefined && device.weight !== 0)
      add(
        `${files.blkioWeightPrefix()}weight_device`,
        `${at} ${decimal(device.weight)}`,
        `weightDevice[${i}].weight`,
      );
    if (device.leafWeight !== undefined && device.leafWeight !== 0)
      add('blkio.leaf_weight_device', `${at} ${decimal(device.leafWeight)}`, `weightDevice[${i}].leafWeight`);
  });
  const throttle = (file: string, devices: readonly ThrottleDevice[] | undefined, field: string): void => {
    devices?.forEach((d, i) => {
      add(`blkio.throttle.${file}`, `${d.major}:${d.minor} ${decimal(d.rate)}`, `${field}[${i}]`);
    });
  };
  throttle('read_bps_device', io.throttleReadBpsDevice, 'throttleReadBpsDevice');
  throttle('write_bps_device', io.throttleWriteBpsDevice, 'throttleWriteBpsDevice');
  throttle('read_iops_device', io.throttleReadIOPSDevice, 'throttleReadIOPSDevice');
  throttle('write_iops_device', io.throttleWriteIOPSDevice, 'throttleWriteIOPSDevice');
  return writes;
}

function hugetlb(limits: Resources['hugepageLimits']): LimitWrite[] {
  return (limits ?? []).flatMap((entry, i) => {
    const size = pageSizeName(entry.pageSize, i);
    const write = {
      controller: 'hugetlb',
      value: decimal(entry.limit),
      field: `linux.resources.hugepageLimits[${i}]`,
    };
    return [
      { ...write, file: `hugetlb.${size}.limit_in_bytes` },
      // Reservations are counted since 5.7; before it the limit above is all there is.
      { ...write, file: `hugetlb.${size}.rsvd.limit_in_bytes`, tolerate: ['ENOENT'] },
    ];
  });
}

function network(network: Resources['network']): LimitWrite[] {
  const writes: LimitWrite[] = [];
  if (network?.classID !== undefined && network.classID !== 0)
    writes.push({
      controller: 'net_cls',
      file: 'net_cls.classid',
      value: decimal(network.classID),
      field: 'linux.resources.network.classID',
    });
  network?.priorities?.forEach((entry, i) => {
    const field = `linux.resources.network.priorities[${i}]`;
    writes.push({
      controller: 'net_prio',
      file: 'net_prio.ifpriomap',
      value: `${entry.name} ${entry.priority}`,
      field,
    });
  });
  return writes;
}

function rdma(rdma: Resources['rdma']): LimitWrite[] {
  return Object.entries(rdma ?? {}).map(([device, entry]) => ({
    controller: 'rdma',
    file: 'rdma.max',
    value: rdmaLine(device, entry),
    field: `linux.resources.rdma.${device}`,
  }));
}
