/** What a container's cgroups can tell. One type per event; counters are since the container's start. */
import type { ExitStatus } from '../process.ts';

/** A PSI trigger: tell when tasks stalled for `stallUs` within any `windowUs`. kernel accounting/psi.rst. */
export interface PressureTrigger {
  readonly resource: 'cpu' | 'memory' | 'io';
  /** `some`: at least one task waited; `full`: all of them did. */
  readonly kind: 'some' | 'full';
  /** Microseconds, below the window. */
  readonly stallUs: number;
  /** Microseconds, 500,000 to 10,000,000. */
  readonly windowUs: number;
}

export type MemoryEventName = 'low' | 'high' | 'max' | 'oom' | 'oom_kill' | 'oom_group_kill';
/** kernel cgroup-v1/memory.rst "Memory Pressure". */
export type PressureLevel = 'low' | 'medium' | 'critical';

export interface OomEvent {
  readonly type: 'oom';
  /** Processes killed so far; on v1 the kernel tells before it kills, so the count may still rise. */
  readonly kills: bigint;
}

export type PressureEvent =
  | { readonly type: 'pressure'; readonly trigger: PressureTrigger }
  | { readonly type: 'pressure'; readonly level: PressureLevel };

export type CgroupEvent =
  | OomEvent
  /** A line of memory.events has risen; on v1 only `oom` and `oom_kill` are known. */
  | {
      readonly type: 'memory';
      readonly event: MemoryEventName;
      readonly count: bigint;
      readonly total: bigint;
    }
  | PressureEvent
  /** Forks were refused with EAGAIN because of the pids limit. On v1 from Linux 6.11 on: the first at once, later ones at the end. */
  | { readonly type: 'pidsMax'; readonly count: bigint; readonly total: bigint }
  | { readonly type: 'frozen' }
  | { readonly type: 'thawed' }
  /** No process is left in the container's cgroups (`populated 0`). */
  | { readonly type: 'empty' };

/** A process that this object started, or the container's init, has ended. */
export interface ExitEvent {
  readonly type: 'exit';
  readonly init: boolean;
  readonly pid: number;
  /** `unknown`: another process was its parent and has not recorded it (`monitor: false`), or its monitor was killed. */
  readonly status: ExitStatus;
  /** The container's cgroup counted an OOM kill. Only known for init. */
  readonly oomKilled: boolean;
}

export type ContainerEvent = CgroupEvent | ExitEvent;
