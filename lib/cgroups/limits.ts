/** What both layouts share of turning Resources into writes: the shape of one write, numbers, and clear refusals. */
import type { Resources } from '../config/config.ts';
import { CgroupError } from '../errors.ts';

/** One write of a limit. */
export interface LimitWrite {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
  /** The property that asked for it: `linux.resources.memory.limit`. */
  readonly field: string;
  /** Errno names that are no failure. */
  readonly tolerate?: readonly string[];
}

/** Decimal digits of an integer of the configuration, also beyond 2^53. */
export const decimal = (value: number): string =>
  Number.isSafeInteger(value) ? String(value) : BigInt(Math.trunc(value)).toString();

/** A limit where negative means none. */
export const decimalOrMax = (value: number): string => (value < 0 ? 'max' : decimal(value));

export function refuse(field: string, why: string): never {
  throw new CgroupError(
    'ERR_UNSUPPORTED',
    { file: `linux.resources.${field}` },
    { detail: `linux.resources.${field}: ${why}` },
  );
}

export function invalid(field: string, value: unknown, why: string): never {
  const at = { file: `linux.resources.${field}`, value: String(value) };
  throw new CgroupError('ERR_CGROUP', at, { detail: `linux.resources.${field} ${String(value)}: ${why}` });
}

/** `2MB` as in the specification; anything else cannot be a file name of the controller. */
export function pageSizeName(pageSize: string, index: number): string {
  if (/^[1-9][0-9]*[KMG]B$/.test(pageSize)) return pageSize;
  return invalid(`hugepageLimits[${index}].pageSize`, pageSize, 'must be a number and KB, MB or GB');
}

/** The value of pids.max: 0 becomes 1 (no process could ever be started), negative means no limit. */
export const pidsMax = (limit: number): string => (limit === 0 ? '1' : decimalOrMax(limit));

export function rdmaLine(
  device: string,
  entry: { readonly hcaHandles?: number; readonly hcaObjects?: number },
): string {
  const words = [device];
  if (entry.hcaHandles !== undefined) words.push(`hca_handle=${decimal(entry.hcaHandles)}`);
  if (entry.hcaObjects !== undefined) words.push(`hca_object=${decimal(entry.hcaObjects)}`);
  return words.join(' ');
}

/** The files of cpuset and pids have the same names and values in both layouts. */
export function cpusetLimits(cpu: Resources['cpu']): LimitWrite[] {
  const writes: LimitWrite[] = [];
  for (const name of ['cpus', 'mems'] as const) {
    const value = cpu?.[name];
    if (value === undefined || value === '') continue;
    writes.push({
      controller: 'cpuset',
      file: `cpuset.${name}`,
      value,
      field: `linux.resources.cpu.${name}`,
    });
  }
  return writes;
}

export function pidsLimits(pids: Resources['pids']): LimitWrite[] {
  if (pids?.limit === undefined) return [];
  return [
    { controller: 'pids', file: 'pids.max', value: pidsMax(pids.limit), field: 'linux.resources.pids.limit' },
  ];
}
