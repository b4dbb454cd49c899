/** Removing a container: a poststop hook that fails has no say in it (runtime.md, "Lifecycle", step 13). */
import { HookError } from '../index.ts';
import { errorText } from './error-text.ts';
import type { Log } from './log.ts';

export async function warnOfPoststop(log: Log, remove: () => Promise<void>): Promise<void> {
  try {
    await remove();
  } catch (error) {
    // It is thrown when all else is done.
    if (!(error instanceof HookError) || error.hook !== 'poststop') throw error;
    log.warning(errorText(error));
  }
}
