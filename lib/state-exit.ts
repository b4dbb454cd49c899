/**
 * The exit record of a container: made empty at its start, written by the monitor (docs/adr/0003) when its first process
 * has ended. The monitor holds a lock on it until then, so a record that is empty and not locked will stay empty: the
 * monitor was killed. A container without a monitor has none.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface ExitRecord {
  readonly kind: 'exited' | 'signaled';
  /** Exit code, or signal number. */
  readonly status: number;
  readonly coreDumped: boolean;
  /** When it ended, in milliseconds since 1970. */
  readonly exitedMs: number;
  /** OOM kills of the container until then, where the cgroup may go with its last process (`CgroupManager.oomCounter`). */
  readonly oomKills?: number;
}

export const exitPath = (directory: string): string => join(directory, 'exit.json');

/** `'none'`: there is no record; `'empty'`: nothing was written yet. */
export function readExit(directory: string): ExitRecord | 'none' | 'empty' {
  let text: string;
  try {
    text = readFileSync(exitPath(directory), 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'none';
    throw error;
  }
  // One write of one line: a reader sees all of it or nothing.
  return text === '' ? 'empty' : (JSON.parse(text) as ExitRecord);
}
