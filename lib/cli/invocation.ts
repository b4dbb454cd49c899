/** What every command gets: its options and arguments, the global options, the log. */
import { LinuxFactory } from '../index.ts';
import type { Caller } from './caller.ts';
import type { Log } from './log.ts';
import type { Options } from './options.ts';

export interface Invocation {
  readonly command: string;
  readonly options: Options;
  readonly arguments: readonly string[];
  readonly globals: Options;
  /** Absolute. */
  readonly root: string;
  readonly log: Log;
  readonly caller: Caller;
}

export const containerIdOf = (invocation: Invocation): string => invocation.arguments[0] ?? '';

export const openFactory = (invocation: Invocation): LinuxFactory =>
  // Whoever runs nrunc waits for init itself, as a subreaper (containerd's shim, conmon), or nrunc does: no monitor between.
  new LinuxFactory({ root: invocation.root, monitor: false });
