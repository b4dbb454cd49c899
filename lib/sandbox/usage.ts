/** What the processes of a container have used, from the few files of its cgroups that say so. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface ResourceUsage {
  /** Processor time of all processes, in milliseconds. */
  readonly cpuMs: number;
  readonly userMs: number;
  readonly systemMs: number;
  /** The most memory at any time, in bytes; undefined where the kernel does not say (cgroup v2 before Linux 5.19). */
  readonly peakMemoryBytes: number | undefined;
}

const text = (directory: string | undefined, file: string): string | undefined => {
  if (directory === undefined) return undefined;
  try {
    return readFileSync(join(directory, file), 'utf8');
  } catch {
    // The controller is not there, or the cgroup is gone with its container.
    return undefined;
  }
};

const row = (flat: string | undefined, name: string): number =>
  Number(new RegExp(`^${name} (\\d+)`, 'm').exec(flat ?? '')?.[1] ?? 0);
const single = (value: string | undefined): number | undefined =>
  value === undefined ? undefined : Number(value);

/** USER_HZ, time(7). */
const msPerTick = 10;

/** @param paths `State.cgroup_paths`. Undefined without cgroups: an ordinary user to whom none are delegated. */
export function usageOf(paths: { readonly [controller: string]: string }): ResourceUsage | undefined {
  const unified = paths[''];
  if (unified !== undefined) {
    const stat = text(unified, 'cpu.stat');
    if (stat === undefined) return undefined;
    const ms = (name: string): number => row(stat, name) / 1000;
    const peak = single(text(unified, 'memory.peak'));
    return {
      cpuMs: ms('usage_usec'),
      userMs: ms('user_usec'),
      systemMs: ms('system_usec'),
      peakMemoryBytes: peak,
    };
  }
  const total = single(text(paths.cpuacct, 'cpuacct.usage'));
  if (total === undefined) return undefined;
  const ticks = text(paths.cpuacct, 'cpuacct.stat');
  return {
    cpuMs: total / 1e6,
    userMs: row(ticks, 'user') * msPerTick,
    systemMs: row(ticks, 'system') * msPerTick,
    peakMemoryBytes: single(text(paths.memory, 'memory.max_usage_in_bytes')),
  };
}

/** Times since `before`; the peak is that of the whole life. */
export function usageSince(
  before: ResourceUsage | undefined,
  now: ResourceUsage | undefined,
): ResourceUsage | undefined {
  if (before === undefined || now === undefined) return now;
  return {
    cpuMs: now.cpuMs - before.cpuMs,
    userMs: now.userMs - before.userMs,
    systemMs: now.systemMs - before.systemMs,
    peakMemoryBytes: now.peakMemoryBytes,
  };
}

/** OOM kills that the cgroup has counted. memory.events (v2), memory.oom_control (v1, Linux 4.13). */
export function oomKills(paths: { readonly [controller: string]: string }): number {
  const unified = paths[''];
  return unified === undefined
    ? row(text(paths.memory, 'memory.oom_control'), 'oom_kill')
    : row(text(unified, 'memory.events'), 'oom_kill');
}
