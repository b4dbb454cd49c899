/**
 * Whom a command works for: its own process, as ever, or one that asks `nrunc serve` through the front (docs/adr/0026).
 * Commands take directory, environment, output and descriptors from here, never from `process`.
 */
import { printError, writeAll } from './output.ts';

export interface Caller {
  /** What relative paths of the command line are relative to. */
  readonly cwd: string;
  readonly env: { readonly [name: string]: string | undefined };
  /** Descriptors 0 to 2 for a process that outlives the command. */
  readonly stdio: 'inherit' | readonly [number, number, number];
  /** Served: the socket over which the front is asked to clone. */
  readonly front: number | undefined;
  /** Served: aborted when the front is gone. */
  readonly signal: AbortSignal | undefined;
  print(text: string): void;
  printError(text: string): void;
  /** To a log that this command has opened. */
  writeLog(fd: number, text: string): void;
  /** Served: throws {@link NotServed}, and the caller does it by itself with Node. Only before `commit()`. */
  decline(): void;
  /**
   * Right before the first effect. Served: resolves when the front has said that it still waits; one that has not goes on by
   * itself, and nothing may be done twice. @throws {NotServed}
   */
  commit(): Promise<void>;
  /** What was held back, since the command might have been declined. */
  flush(): void;
  /** The process that lives on as a child of the caller. */
  leave(pid: number | undefined): void;
}

/** No failure of the command: somebody else does it. */
export class NotServed extends Error {}

const nothing = (): void => undefined;
const atOnce = Promise.resolve();

export const ownProcess: Caller = {
  get cwd() {
    return process.cwd();
  },
  env: process.env,
  stdio: 'inherit',
  front: undefined,
  signal: undefined,
  print: text => writeAll(1, text),
  printError,
  writeLog: writeAll,
  decline: nothing,
  commit: () => atOnce,
  flush: nothing,
  leave: nothing,
};
