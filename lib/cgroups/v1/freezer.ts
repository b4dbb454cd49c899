/** The v1 freezer. kernel cgroup-v1/freezer-subsystem.rst. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CgroupError } from '../../errors.ts';
import { isGone, readCgroupFileNow, writeCgroupFile } from '../file.ts';
import type { FreezerState } from '../manager.ts';

const defaultTimeoutMs = 10_000;

export function freezerStateV1(directory: string): FreezerState {
  const text = readCgroupFileNow(join(directory, 'freezer.state'))?.trim();
  return text === 'FROZEN' ? 'frozen' : text === 'FREEZING' ? 'freezing' : 'thawed';
}

/**
 * While processes appear in the cgroup, v1 may stay FREEZING forever: writing FROZEN again takes the new ones in, and a
 * thaw in between lets those go on that wait for each other (runc fs/freezer.go; the kernel has no event for this).
 */
export async function freezeV1(directory: string, timeoutMs = defaultTimeoutMs): Promise<void> {
  const file = join(directory, 'freezer.state');
  const deadline = Date.now() + timeoutMs;
  try {
    for (let tries = 1; ; tries++) {
      await writeCgroupFile(file, 'FROZEN');
      const state = freezerStateV1(directory);
      if (state === 'frozen') return;
      if (Date.now() > deadline) break;
      if (tries % 50 === 0) {
        await writeCgroupFile(file, 'THAWED');
        await delay(10);
      } else if (tries % 10 === 0) await delay(1);
    }
  } catch (error) {
    await thawV1(directory);
    throw error;
  }
  await thawV1(directory);
  throw new CgroupError(
    'ERR_CGROUP',
    { file, value: 'FROZEN' },
    { hint: 'a process in it cannot be stopped; see its wchan' },
  );
}

/** A cgroup that is gone has nobody to wake. */
export async function thawV1(directory: string): Promise<void> {
  try {
    await writeCgroupFile(join(directory, 'freezer.state'), 'THAWED');
  } catch (error) {
    if (!(error instanceof CgroupError && isGone(error.cause))) throw error;
  }
}
