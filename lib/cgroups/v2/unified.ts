/**
 * The files of cgroup v2 as typed values: what the specification's own properties cannot say. The result is
 * `linux.resources.unified`, so it works with every driver, and is recorded, changed and refused as that is.
 * kernel Documentation/admin-guide/cgroup-v2.rst.
 */
import { LibcontainerError } from '../../errors.ts';

/** Bytes, or a count; `'max'`: no limit. */
export type Limit = number | bigint | 'max';

export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

export interface UnifiedLimits {
  readonly memory?: {
    /** Above it the container is slowed down and reclaimed, never killed. */
    readonly high?: Limit;
    readonly max?: Limit;
    /** Protected as long as others can give; `min`: whatever happens. */
    readonly low?: Limit;
    readonly min?: Limit;
    /** An OOM kill ends all processes of the container, not one. */
    readonly oomGroup?: boolean;
    /** Swap alone. */
    readonly swapMax?: Limit;
    readonly swapHigh?: Limit;
    readonly zswapMax?: Limit;
    /** Linux 6.8. */
    readonly zswapWriteback?: boolean;
  };
  readonly cpu?: {
    /** 1 … 10000, default 100. */
    readonly weight?: number;
    /** -20 … 19, as nice(1); instead of `weight`. */
    readonly weightNice?: number;
    readonly max?: { readonly quotaUs: number | 'max'; readonly periodUs?: number };
    readonly maxBurstUs?: number;
    readonly idle?: boolean;
    /** Percent. */
    readonly uclampMin?: number;
    readonly uclampMax?: number;
  };
  readonly cpuset?: {
    readonly cpus?: string;
    readonly mems?: string;
    readonly partition?: 'member' | 'root' | 'isolated';
  };
  readonly io?: {
    /** 1 … 10000, default 100. */
    readonly weight?: number;
    readonly weightDevice?: readonly (DeviceNumber & { readonly weight: number })[];
    readonly max?: readonly (DeviceNumber & {
      readonly rbps?: Limit;
      readonly wbps?: Limit;
      readonly riops?: Limit;
      readonly wiops?: Limit;
    })[];
    /** Others are slowed down when this container's requests take longer. */
    readonly latency?: readonly (DeviceNumber & { readonly targetUs: number })[];
    readonly prioClass?: 'no-change' | 'promote-to-rt' | 'restrict-to-be' | 'idle';
  };
  readonly pids?: { readonly max: Limit };
  /** Page size, as `2MB`. */
  readonly hugetlb?: { readonly [pageSize: string]: { readonly max?: Limit; readonly rsvdMax?: Limit } };
  readonly rdma?: {
    readonly [device: string]: { readonly hcaHandle?: Limit; readonly hcaObject?: Limit };
  };
  /** Resource (`res_a`, `sev`) → count. */
  readonly misc?: { readonly [resource: string]: Limit };
  /** PSI accounting of this cgroup (Linux 6.1); default on. Thresholds are `container.events({ pressure })`. */
  readonly pressure?: boolean;
  readonly maxDescendants?: Limit;
  readonly maxDepth?: Limit;
}

type Files = { [file: string]: string };
type Add = (file: string, value: string | undefined) => void;

const wrong = (name: string, value: unknown, why: string): never => {
  throw new LibcontainerError('ERR_ARGUMENT', { detail: `${name} is ${String(value)}: ${why}` });
};

function limit(name: string, value: Limit | undefined): string | undefined {
  if (value === undefined || value === 'max') return value;
  if (typeof value === 'bigint' ? value < 0n : !Number.isSafeInteger(value) || value < 0)
    wrong(name, value, "must be 'max' or an integer that is not negative");
  return value.toString();
}

function within(name: string, value: number | undefined, low: number, high: number): string | undefined {
  if (value === undefined) return undefined;
  if (!Number.isInteger(value) || value < low || value > high)
    wrong(name, value, `must be an integer from ${low} to ${high}`);
  return String(value);
}

const flag = (value: boolean | undefined): string | undefined =>
  value === undefined ? undefined : value ? '1' : '0';

const at = (name: string, { major, minor }: DeviceNumber): string =>
  `${within(`${name}.major`, major, 0, 0xfff)}:${within(`${name}.minor`, minor, 0, 0xf_ffff)}`;

function memory(add: Add, memory: NonNullable<UnifiedLimits['memory']>): void {
  for (const name of ['high', 'max', 'low', 'min'] as const)
    add(`memory.${name}`, limit(`memory.${name}`, memory[name]));
  add('memory.oom.group', flag(memory.oomGroup));
  add('memory.swap.max', limit('memory.swapMax', memory.swapMax));
  add('memory.swap.high', limit('memory.swapHigh', memory.swapHigh));
  add('memory.zswap.max', limit('memory.zswapMax', memory.zswapMax));
  add('memory.zswap.writeback', flag(memory.zswapWriteback));
}

function cpu(add: Add, cpu: NonNullable<UnifiedLimits['cpu']>): void {
  if (cpu.weight !== undefined && cpu.weightNice !== undefined)
    wrong('cpu.weightNice', cpu.weightNice, 'cpu.weight is given too');
  add('cpu.idle', flag(cpu.idle));
  add('cpu.weight', within('cpu.weight', cpu.weight, 1, 10_000));
  add('cpu.weight.nice', within('cpu.weightNice', cpu.weightNice, -20, 19));
  if (cpu.max !== undefined) {
    const quota = limit('cpu.max.quotaUs', cpu.max.quotaUs);
    const period = limit('cpu.max.periodUs', cpu.max.periodUs);
    add('cpu.max', period === undefined ? quota : `${quota} ${period}`);
  }
  // After the quota: a burst larger than it is EINVAL.
  add('cpu.max.burst', limit('cpu.maxBurstUs', cpu.maxBurstUs));
  for (const name of ['uclampMin', 'uclampMax'] as const) {
    const value = cpu[name];
    if (value === undefined) continue;
    if (!(value >= 0 && value <= 100)) wrong(`cpu.${name}`, value, 'must be a percentage');
    add(name === 'uclampMin' ? 'cpu.uclamp.min' : 'cpu.uclamp.max', value.toFixed(2));
  }
}

function io(add: Add, io: NonNullable<UnifiedLimits['io']>): void {
  const weights = (io.weightDevice ?? []).map(
    d => `${at('io.weightDevice', d)} ${within('io.weightDevice.weight', d.weight, 1, 10_000)}`,
  );
  const weight = within('io.weight', io.weight, 1, 10_000);
  add('io.weight', lines([...(weight === undefined ? [] : [`default ${weight}`]), ...weights]));
  add(
    'io.max',
    lines(
      (io.max ?? []).map(d => {
        const words = (['rbps', 'wbps', 'riops', 'wiops'] as const).flatMap(key => {
          const value = limit(`io.max.${key}`, d[key]);
          return value === undefined ? [] : [`${key}=${value}`];
        });
        return [at('io.max', d), ...words].join(' ');
      }),
    ),
  );
  add(
    'io.latency',
    lines(
      (io.latency ?? []).map(
        d => `${at('io.latency', d)} target=${limit('io.latency.targetUs', d.targetUs)}`,
      ),
    ),
  );
  add('io.prio.class', io.prioClass);
}

const lines = (rows: readonly string[]): string | undefined =>
  rows.length === 0 ? undefined : rows.join('\n');

/** A name that is a part of a file's name or of a line of one. */
function word(kind: string, name: string): string {
  if (!/^[\w.-]+$/.test(name)) wrong(kind, name, 'must be one word');
  return name;
}

/**
 * @throws {LibcontainerError} ERR_ARGUMENT for a value that no kernel takes
 * @example { ...config.resources, unified: { ...config.resources.unified, ...unifiedLimits({ memory: { high: 48 << 20 } }) } }
 */
export function unifiedLimits(limits: UnifiedLimits): { readonly [file: string]: string } {
  const files: Files = {};
  const add: Add = (file, value) => {
    if (value !== undefined) files[file] = value;
  };
  if (limits.memory !== undefined) memory(add, limits.memory);
  if (limits.cpu !== undefined) cpu(add, limits.cpu);
  add('cpuset.cpus', limits.cpuset?.cpus);
  add('cpuset.mems', limits.cpuset?.mems);
  add('cpuset.cpus.partition', limits.cpuset?.partition);
  if (limits.io !== undefined) io(add, limits.io);
  add('pids.max', limit('pids.max', limits.pids?.max));
  for (const [size, { max, rsvdMax }] of Object.entries(limits.hugetlb ?? {})) {
    const name = `hugetlb.${word('hugetlb', size)}`;
    add(`${name}.max`, limit(`${name}.max`, max));
    add(`${name}.rsvd.max`, limit(`${name}.rsvdMax`, rsvdMax));
  }
  const rdma = Object.entries(limits.rdma ?? {}).map(([device, { hcaHandle, hcaObject }]) =>
    [
      word('rdma', device),
      ...(hcaHandle === undefined ? [] : [`hca_handle=${limit('rdma.hcaHandle', hcaHandle)}`]),
      ...(hcaObject === undefined ? [] : [`hca_object=${limit('rdma.hcaObject', hcaObject)}`]),
    ].join(' '),
  );
  add('rdma.max', lines(rdma));
  const misc = Object.entries(limits.misc ?? {});
  add(
    'misc.max',
    lines(misc.map(([name, value]) => `${word('misc', name)} ${limit(`misc.${name}`, value)}`)),
  );
  add('cgroup.pressure', flag(limits.pressure));
  add('cgroup.max.descendants', limit('maxDescendants', limits.maxDescendants));
  add('cgroup.max.depth', limit('maxDepth', limits.maxDepth));
  return files;
}
