/** Resources (whose numbers are v1's) → writes for cgroup v2. kernel cgroup-v2.rst; conversions as runc's. */
import type { Resources, ThrottleDevice } from '../../config/config.ts';
import { CgroupError } from '../../errors.ts';
import {
  cpusetLimits,
  decimal,
  decimalOrMax,
  invalid,
  type LimitWrite,
  pageSizeName,
  pidsLimits,
  rdmaLine,
  refuse,
} from '../limits.ts';

/** What the host decides. Called only when a weight is given. */
export interface V2Files {
  /** True when io.bfq.weight exists: it takes the spec's weight as it is, and per device. */
  hasBfqWeight(): boolean;
}

/**
 * cpu.shares (2 … 262144, default 1024) → cpu.weight (1 … 10000, default 100): a curve through all three points, which the
 * older linear form missed (1024 became 39). opencontainers/cgroups ConvertCPUSharesToCgroupV2Value.
 */
export function cpuWeight(shares: number): number {
  if (shares === 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const l = Math.log2(shares);
  return Math.ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34));
}

/** blkio.weight (10 … 1000) → io.weight (1 … 10000), linear. */
export const ioWeight = (weight: number): number =>
  weight === 0 ? 0 : Math.trunc(1 + ((weight - 10) * 9999) / 990);

/** memory.swap.max is swap alone, the spec's number is memory and swap together. undefined: leave it alone. */
export function swapMax(limit: number, swap: number): string | undefined {
  if (limit === -1 && swap === 0) return 'max';
  if (swap === 0) return undefined;
  if (swap === -1) return 'max';
  if (limit === 0) return invalid('memory.swap', swap, 'unable to set swap limit without memory limit');
  if (limit < 0) return invalid('memory.limit', limit, 'invalid memory value');
  if (swap < limit) return invalid('memory.swap', swap, 'memory+swap limit should be >= memory limit');
  return decimal(swap - limit);
}

export function v2Limits(resources: Resources, files: V2Files): LimitWrite[] {
  const { network } = resources;
  if (network?.classID !== undefined && network.classID !== 0)
    refuse('network.classID', 'cgroup v2 has no net_cls controller');
  if (network?.priorities !== undefined && network.priorities.length > 0)
    refuse('network.priorities', 'cgroup v2 has no net_prio controller');
  return [
    ...memory(resources.memory),
    ...cpu(resources.cpu),
    ...cpusetLimits(resources.cpu),
    ...pidsLimits(resources.pids),
    ...io(resources.blockIO, files),
    ...v2Hugetlb(resources.hugepageLimits),
    ...v2Rdma(resources.rdma),
    // Last, so that a file named here wins over the converted property (runc's order).
    ...unified(resources.unified),
  ];
}

function memory(memory: Resources['memory']): LimitWrite[] {
  if (memory === undefined) return [];
  if (memory.disableOOMKiller === true)
    refuse('memory.disableOOMKiller', 'cgroup v2 cannot disable the OOM killer');
  if (memory.swappiness !== undefined && memory.swappiness !== -1)
    refuse('memory.swappiness', 'cgroup v2 has no swappiness per cgroup');
  const writes: LimitWrite[] = [];
  const { limit = 0, swap = 0, reservation = 0 } = memory;
  const swapValue = swapMax(limit, swap);
  if (swapValue !== undefined) {
    const write = {
      controller: 'memory',
      file: 'memory.swap.max',
      value: swapValue,
      field: 'linux.resources.memory.swap',
    };
    // Without swap accounting the file is absent; "none" and "no limit" then mean what is already so.
    writes.push(swapValue === 'max' || swapValue === '0' ? { ...write, tolerate: ['ENOENT'] } : write);
  }
  const add = (file: string, value: number, field: string): void => {
    if (value !== 0)
      writes.push({
        controller: 'memory',
        file,
        value: decimalOrMax(value),
        field: `linux.resources.memory.${field}`,
      });
  };
  add('memory.max', limit, 'limit');
  add('memory.low', reservation, 'reservation');
  return writes;
}

function cpu(cpu: Resources['cpu']): LimitWrite[] {
  if (cpu === undefined) return [];
  if (cpu.realtimeRuntime !== undefined && cpu.realtimeRuntime !== 0)
    refuse('cpu.realtimeRuntime', 'cgroup v2 has no realtime limits');
  if (cpu.realtimePeriod !== undefined && cpu.realtimePeriod !== 0)
    refuse('cpu.realtimePeriod', 'cgroup v2 has no realtime limits');
  const writes: LimitWrite[] = [];
  const add = (file: string, value: string, field: string, tolerate?: readonly string[]): void => {
    const write = { controller: 'cpu', file, value, field: `linux.resources.cpu.${field}` };
    writes.push(tolerate === undefined ? write : { ...write, tolerate });
  };
  const { shares = 0, quota = 0, period = 0, idle, burst } = cpu;
  if (idle !== undefined) add('cpu.idle', decimal(idle), 'idle', idle === 0 ? ['ENOENT'] : undefined);
  // EINVAL on an idle cgroup, whose weight is 0 by definition.
  if (shares !== 0 && idle !== 1) add('cpu.weight', decimal(cpuWeight(shares)), 'shares');
  // cpu.max takes "QUOTA PERIOD"; 100000 is the kernel's default period.
  if (quota !== 0 || period !== 0)
    add(
      'cpu.max',
      `${quota > 0 ? decimal(quota) : 'max'} ${period === 0 ? '100000' : decimal(period)}`,
      quota !== 0 ? 'quota' : 'period',
    );
  // After the quota: a burst larger than it is EINVAL.
  if (burst !== undefined)
    add('cpu.max.burst', decimal(burst), 'burst', burst === 0 ? ['ENOENT'] : undefined);
  return writes;
}

function io(io: Resources['blockIO'], files: V2Files): LimitWrite[] {
  if (io === undefined) return [];
  if (io.leafWeight !== undefined && io.leafWeight !== 0)
    refuse('blockIO.leafWeight', 'cgroup v2 has no leaf weight');
  const writes: LimitWrite[] = [];
  const add = (file: string, value: string, field: string): void => {
    writes.push({ controller: 'io', file, value, field: `linux.resources.blockIO.${field}` });
  };
  const { weight = 0, weightDevice = [] } = io;
  if (weight !== 0) {
    if (files.hasBfqWeight()) add('io.bfq.weight', decimal(weight), 'weight');
    else add('io.weight', decimal(ioWeight(weight)), 'weight');
  }
  weightDevice.forEach((device, i) => {
    if (device.leafWeight !== undefined && device.leafWeight !== 0)
      refuse(`blockIO.weightDevice[${i}].leafWeight`, 'cgroup v2 has no leaf weight');
    if (device.weight === undefined || device.weight === 0) return;
    const [file, value] = files.hasBfqWeight()
      ? ['io.bfq.weight', device.weight]
      : ['io.weight', ioWeight(device.weight)];
    add(file, `${device.major}:${device.minor} ${decimal(value)}`, `weightDevice[${i}].weight`);
  });
  const throttle = (key: string, devices: readonly ThrottleDevice[] | undefined, field: string): void => {
    devices?.forEach((d, i) => {
      // In v1 rate 0 means no limit; io.max says so with a word.
      add(
        'io.max',
        `${d.major}:${d.minor} ${key}=${d.rate === 0 ? 'max' : decimal(d.rate)}`,
        `${field}[${i}]`,
      );
    });
  };
  throttle('rbps', io.throttleReadBpsDevice, 'throttleReadBpsDevice');
  throttle('wbps', io.throttleWriteBpsDevice, 'throttleWriteBpsDevice');
  throttle('riops', io.throttleReadIOPSDevice, 'throttleReadIOPSDevice');
  throttle('wiops', io.throttleWriteIOPSDevice, 'throttleWriteIOPSDevice');
  return writes;
}

export function v2Hugetlb(limits: Resources['hugepageLimits']): LimitWrite[] {
  return (limits ?? []).flatMap((entry, i) => {
    const size = pageSizeName(entry.pageSize, i);
    const field = `linux.resources.hugepageLimits[${i}]`;
    const write = { controller: 'hugetlb', value: decimal(entry.limit), field };
    return [
      { ...write, file: `hugetlb.${size}.max` },
      { ...write, file: `hugetlb.${size}.rsvd.max`, tolerate: ['ENOENT'] }, // since 5.7
    ];
  });
}

export function v2Rdma(rdma: Resources['rdma']): LimitWrite[] {
  return Object.entries(rdma ?? {}).map(([device, entry]) => ({
    controller: 'rdma',
    file: 'rdma.max',
    value: rdmaLine(device, entry),
    field: `linux.resources.rdma.${device}`,
  }));
}

function unified(unified: Resources['unified']): LimitWrite[] {
  return Object.entries(unified ?? {}).flatMap(([file, value]) => {
    const field = `linux.resources.unified[${JSON.stringify(file)}]`;
    const dot = file.indexOf('.');
    if (file.includes('/') || file.includes('\0'))
      throw new CgroupError(
        'ERR_CGROUP',
        { file: field },
        { detail: `unified resource ${JSON.stringify(file)} must be a file name (no slashes)` },
      );
    if (dot <= 0)
      throw new CgroupError(
        'ERR_CGROUP',
        { file: field },
        { detail: `unified resource ${JSON.stringify(file)} must be in the form CONTROLLER.PARAMETER` },
      );
    // Files such as io.max take one line per write.
    const lines = value.split('\n').filter(row => row !== '');
    const controller = file.slice(0, dot);
    return (lines.length === 0 ? [value] : lines).map(row => ({ controller, file, value: row, field }));
  });
}
