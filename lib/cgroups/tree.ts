/** Removing cgroup directories: what is below first, waiting for what keeps them busy, up to a deadline. */
import { rmdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { CgroupError } from '../errors.ts';
import { cgroupTree, errnoName, isGone, pidsBelow } from './file.ts';

/** Waits until the cgroup may be empty or `ms` have passed; v2 has an event for it, v1 has not. */
export type EmptyWait = (directory: string, ms: number) => Promise<void>;

const firstPauseMs = 1;
const longestPauseMs = 100;

/**
 * v1 tells nobody when the last task has left (the release_agent is one program for the whole hierarchy), so try again
 * with growing pauses, as runc does.
 */
export function backoffWait(): EmptyWait {
  let pauseMs = firstPauseMs;
  return async (_, ms) => {
    await delay(Math.min(pauseMs, ms));
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  };
}

/** @throws {CgroupError} ERR_CGROUP_BUSY with the pids that are left at the deadline */
export async function removeTree(directory: string, deadline: number, waitEmpty: EmptyWait): Promise<void> {
  for (;;) {
    const busy = await removeOnce(directory);
    if (!busy) return;
    const left = deadline - Date.now();
    if (left <= 0) {
      const pids = await pidsBelow(directory);
      const detail = `${directory}${pids.length > 0 ? ` (pids ${pids.join(' ')})` : ''}`;
      throw new CgroupError('ERR_CGROUP_BUSY', { file: directory, pids }, { cause: busy, detail });
    }
    await waitEmpty(directory, left);
  }
}

/** The error when a directory was busy; undefined when all are gone. */
async function removeOnce(directory: string): Promise<unknown> {
  for (const cgroup of await cgroupTree(directory)) {
    try {
      await rmdir(cgroup);
    } catch (cause) {
      if (isGone(cause)) continue;
      if (errnoName(cause) === 'EBUSY' || errnoName(cause) === 'ENOTEMPTY') return cause;
      throw new CgroupError('ERR_CGROUP', { file: cgroup }, { cause });
    }
  }
  return undefined;
}
