/**
 * state.json: the record of a container in `<root>/<id>/`, with runc's keys and ours, written by temporary file and
 * rename. It exists from before the first effect of a start (`init_process_pid` 0: the intent), so that whoever comes
 * after a crash finds the cgroups. No zod here: `state`, `kill`, `delete` and `list` must start quickly.
 */
import { readFileSync } from 'node:fs';
import type { Config } from './config/config.ts';
import { ContainerError } from './errors.ts';
import type { Status } from './lifecycle.ts';

/** Grows when a field changes its meaning. */
export const stateVersion = 1;

export interface State {
  readonly id: string;
  /** 0: a start is under way, or it never came to a process. */
  readonly init_process_pid: number;
  /** Clock ticks since boot, /proc/pid/stat field 22; pid and start time together name a process. */
  readonly init_process_start: number;
  /** RFC 3339. */
  readonly created: string;
  readonly rootless: boolean;
  /** Controller → absolute directory; v2: key ''. */
  readonly cgroup_paths: { readonly [controller: string]: string };
  /** Type → /proc/PID/ns file. */
  readonly namespace_paths: { readonly [type: string]: string };
  readonly config: Config;
  /** Ours: `stateVersion`. */
  readonly version: number;
  /** Ours: unique per container, so that one with the same ID that was made later is not mistaken for it. */
  readonly nonce: string;
  /** Ours: uid that made it. */
  readonly owner: number;
  /** Ours: the process that starts it; while it lives and the pid is 0 the status is `creating`. */
  readonly creator: { readonly pid: number; readonly start: number };
}

/** The state as the runtime-spec has it (hooks' stdin, `nrunc state`), with runc's additions. */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: Status;
  /** 0 when stopped. */
  readonly pid: number;
  readonly bundle: string;
  readonly annotations: { readonly [name: string]: string };
}
