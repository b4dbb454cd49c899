/** What the container layer asks of CRIU; one bundle of its own (criu.cjs), loaded by the first checkpoint or restore. */
import { type Keeper, keepingCgroupOptions } from './cgroup-options.ts';
import { type DumpRequest, dump as dumpOf } from './dump.ts';
import type { CheckpointResult } from './options.ts';
import { type RestoreRequest, restore as restoreOf } from './restore.ts';

export { recoverCgroupOptions } from './cgroup-options.ts';
export { CriuGone } from './conversation.ts';
export { unlockNetwork } from './unlock.ts';

/** @throws as dump.ts says */
export const dump = (request: DumpRequest, keeper: Keeper): Promise<CheckpointResult> =>
  keepingCgroupOptions(keeper, () => dumpOf(request));

/** @throws as restore.ts says */
export const restore = (request: RestoreRequest, keeper: Keeper): Promise<void> =>
  keepingCgroupOptions(keeper, () => restoreOf(request));
