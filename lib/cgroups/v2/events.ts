/** Waiting on a cgroup2 events file: kernfs wakes pollers with EPOLLPRI, and reading the same open file arms it again. */
import { readSync } from 'node:fs';
import { join } from 'node:path';
import type { Binding } from '../../native/binding.ts';
import { errnoName, isGone, parseFlat } from '../file.ts';

const EPOLLPRI = 0x2;
const O_RDONLY = 0;

/** The content of an open cgroup file; undefined when the cgroup is gone. */
export function readOpenFile(fd: number): string | undefined {
  const buffer = Buffer.alloc(4096);
  try {
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, 0));
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/**
 * Waits until `key value` stands in cgroup.events. A cgroup that is gone fulfils everything.
 * @returns false when `timeoutMs` have passed before
 */
export function waitForCgroupEvent(
  binding: Binding,
  directory: string,
  key: 'populated' | 'frozen',
  value: bigint,
  timeoutMs: number,
): Promise<boolean> {
  let fd: number;
  try {
    fd = binding.open(join(directory, 'cgroup.events'), O_RDONLY, 0);
  } catch (error) {
    return isGone(error) || errnoName(error) === 'ENOENT' ? Promise.resolve(true) : Promise.reject(error);
  }
  return new Promise<boolean>((resolve, reject) => {
    const finish = (result: () => void): void => {
      clearTimeout(timer);
      watch.close();
      binding.close(fd);
      result();
    };
    const look = (): void => {
      try {
        const text = readOpenFile(fd);
        if (text === undefined || parseFlat(text).get(key) === value) finish(() => resolve(true));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    // Watched first, read second: a change between the two is then seen by one of them.
    const watch = binding.watch(fd, EPOLLPRI, look);
    const timer = setTimeout(() => finish(() => resolve(false)), timeoutMs);
    look();
  });
}
