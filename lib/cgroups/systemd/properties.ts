/**
 * Resources → properties of a unit, as runc does it, so that `systemctl show` tells the limits and systemd writes the
 * same values as the file system driver. What is not here systemd has no property for: the files alone say it.
 * systemd.resource-control(5), org.freedesktop.systemd1(5).
 */
import type { Resources } from '../../config/config.ts';
import { invalid } from '../limits.ts';
import { cpuWeight, ioWeight, swapMax } from '../v2/limits.ts';
import type { Property } from './annotations.ts';
import { deviceProperties } from './devices.ts';

/** First versions of systemd with a property. */
const since = { quotaPeriod: 242, allowedCpus: 244, cpuIdle: 252, oomPolicy: 253 } as const;
const infinity = (1n << 64n) - 1n;
const defaultPeriodUs = 100_000;

const uint64 = (name: string, value: number | bigint): Property => [
  name,
  { signature: 't', value: value < 0 ? infinity : BigInt(value) },
];

export interface UnitLimits {
  readonly properties: readonly Property[];
  /** What goes to the files: the quota is one that systemd can express. */
  readonly resources: Resources;
}

/** @throws {CgroupError} a value that the limits cannot have */
export function unitLimits(
  resources: Resources,
  unified: boolean,
  version: number,
  options: { readonly skipDevices?: boolean } = {},
): UnitLimits {
  const { cpu, pids, devices } = resources;
  const quota = quotaOf(cpu?.quota ?? 0, cpu?.period ?? 0, version);
  const properties = [
    ...(devices === undefined || options.skipDevices === true
      ? []
      : deviceProperties(devices, version, unified)),
    ...(unified ? memoryV2(resources) : memoryV1(resources)),
    ...(unified ? weightsV2(resources, version) : weightsV1(resources)),
    ...quota.properties,
    ...(pids?.limit === undefined ? [] : [uint64('TasksMax', pids.limit === 0 ? 1 : pids.limit)]),
    ...cpuset('AllowedCPUs', 'cpu.cpus', cpu?.cpus ?? '', version),
    ...cpuset('AllowedMemoryNodes', 'cpu.mems', cpu?.mems ?? '', version),
    ...(unified ? unifiedProperties(resources.unified ?? {}, version) : []),
  ];
  const rounded = quota.quota !== (cpu?.quota ?? 0);
  return {
    properties,
    resources: rounded ? { ...resources, cpu: { ...cpu, quota: quota.quota } } : resources,
  };
}

function memoryV1({ memory }: Resources): Property[] {
  const limit = memory?.limit ?? 0;
  return limit === 0 ? [] : [uint64('MemoryLimit', limit)];
}

function memoryV2({ memory }: Resources): Property[] {
  const { limit = 0, swap = 0, reservation = 0 } = memory ?? {};
  const swapValue = memory === undefined ? undefined : swapMax(limit, swap);
  return [
    ...(limit === 0 ? [] : [uint64('MemoryMax', limit)]),
    ...(reservation === 0 ? [] : [uint64('MemoryLow', reservation)]),
    ...(swapValue === undefined
      ? []
      : [uint64('MemorySwapMax', swapValue === 'max' ? infinity : BigInt(swapValue))]),
  ];
}

function weightsV1({ cpu, blockIO }: Resources): Property[] {
  const { shares = 0 } = cpu ?? {};
  const { weight = 0 } = blockIO ?? {};
  return [
    ...(shares === 0 ? [] : [uint64('CPUShares', shares)]),
    ...(weight === 0 ? [] : [uint64('BlockIOWeight', weight)]),
  ];
}

function weightsV2({ cpu, blockIO }: Resources, version: number): Property[] {
  const { shares = 0, idle } = cpu ?? {};
  const { weight = 0 } = blockIO ?? {};
  const properties: Property[] = [];
  // An idle cgroup has no weight; 0 is systemd's word for idle.
  if (idle === 1) properties.push(...(version < since.cpuIdle ? [] : [uint64('CPUWeight', 0)]));
  else if (shares !== 0) properties.push(uint64('CPUWeight', cpuWeight(shares)));
  // runc leaves it out; systemd would then write its default at the next reload.
  if (weight !== 0) properties.push(uint64('IOWeight', ioWeight(weight)));
  return properties;
}

interface Quota {
  readonly quota: number;
  readonly properties: readonly Property[];
}

/**
 * systemd keeps the quota as whole percents of a CPU: one between two is rounded up, and the rounded one is written to
 * the file too, else the two would take turns.
 */
function quotaOf(quota: number, period: number, version: number): Quota {
  if (quota === 0 && period === 0) return { quota, properties: [] };
  const properties: Property[] = [];
  if (period !== 0 && version >= since.quotaPeriod) properties.push(uint64('CPUQuotaPeriodUSec', period));
  if (quota <= 0) return { quota, properties: [...properties, uint64('CPUQuotaPerSecUSec', infinity)] };
  const periodUs = BigInt(period === 0 ? defaultPeriodUs : Math.trunc(period));
  const exact = (BigInt(Math.trunc(quota)) * 1_000_000n) / periodUs;
  const perSecond = ((exact + 9_999n) / 10_000n) * 10_000n;
  return {
    quota: perSecond === exact ? quota : Number((perSecond * periodUs) / 1_000_000n),
    properties: [...properties, uint64('CPUQuotaPerSecUSec', perSecond)],
  };
}

/** `0-3,7` → bits, the lowest byte first. */
function cpuset(name: string, field: string, list: string, version: number): Property[] {
  if (list === '' || version < since.allowedCpus) return [];
  const bytes: number[] = [];
  for (const range of list.split(',')) {
    const [, low, high = low] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(range) ?? [];
    const [from, to] = [Number(low), Number(high)];
    if (low === undefined || from > to || to > maxCpu)
      invalid(field, list, 'must be a list of numbers and ranges');
    for (let at = from; at <= to; at += 1) bytes[at >> 3] = (bytes[at >> 3] ?? 0) | (1 << (at & 7));
  }
  return [[name, { signature: 'ay', value: Uint8Array.from(bytes, byte => byte ?? 0) }]];
}
/** CONFIG_NR_CPUS is 8192 at most; a larger number would only make a large array. */
const maxCpu = 65_535;

const memoryFiles: { readonly [file: string]: string } = {
  'memory.high': 'MemoryHigh',
  'memory.low': 'MemoryLow',
  'memory.min': 'MemoryMin',
  'memory.max': 'MemoryMax',
  'memory.swap.max': 'MemorySwapMax',
  'pids.max': 'TasksMax',
};

/** Files of `unified` that systemd has a property for; the others are written as files only. */
function unifiedProperties(unified: { readonly [file: string]: string }, version: number): Property[] {
  const idle = unified['cpu.idle']?.trim() === '1';
  return Object.entries(unified).flatMap(([file, text]): readonly Property[] => {
    const field = `unified[${JSON.stringify(file)}]`;
    const value = text.trim();
    const number = (): bigint => {
      if (value === 'max') return infinity;
      if (!/^\d+$/.test(value)) return invalid(field, text, 'must be a number or max');
      return BigInt(value);
    };
    const memory = memoryFiles[file];
    if (memory !== undefined) return [uint64(memory, number())];
    switch (file) {
      case 'cpu.idle':
        return idle && version >= since.cpuIdle ? [uint64('CPUWeight', 0)] : [];
      case 'cpu.weight':
        return idle ? [] : [uint64('CPUWeight', number())];
      case 'cpu.max': {
        const [, quota, period] = /^(max|\d+)(?:\s+(\d+))?$/.exec(value) ?? [];
        if (quota === undefined) return invalid(field, text, 'must be QUOTA or QUOTA PERIOD');
        return quotaOf(quota === 'max' ? -1 : Number(quota), Number(period ?? defaultPeriodUs), version)
          .properties;
      }
      case 'cpuset.cpus':
        return cpuset('AllowedCPUs', field, value, version);
      case 'cpuset.mems':
        return cpuset('AllowedMemoryNodes', field, value, version);
      case 'memory.oom.group':
        if (version < since.oomPolicy) return [];
        return [['OOMPolicy', { signature: 's', value: number() === 1n ? 'kill' : 'continue' }]];
      default:
        return [];
    }
  });
}
