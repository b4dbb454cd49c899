/** What the container layer asks of CRIU; one bundle of its own (criu.cjs), loaded by the first checkpoint or restore. */
import { keepingCgroupOptions } from './cgroup-options.ts';
import { type DumpRequest, dump as dumpOf } from './dump.ts';
import type { CheckpointResult } from './options.ts';
import { type RestoreRequest, restore as restoreOf } from './restore.ts';

export { CriuGone } from './conversation.ts';
export { unlockNetwork } from './unlock.ts';

/** @throws as dump.ts says */
export const dump = (request: DumpRequest): Promise<CheckpointResult> =>
  keepingCgroupOptions(() => dumpOf(request));

/** @throws as restore.ts says */
export const restore = (request: RestoreRequest): Promise<void> =>
  keepingCgroupOptions(() => restoreOf(request));
