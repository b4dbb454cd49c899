/** `nrunc delete`: removes a stopped or created container, with --force any. */
import { errorCode } from '../error-text.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { warnOfPoststop } from '../removal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const id = containerIdOf(invocation);
  const force = invocation.options.flag('force');
  try {
    await warnOfPoststop(invocation.log, () => openFactory(invocation).destroy(id, { force }));
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ERR_CONTAINER_RUNNING' || code === 'ERR_CONTAINER_PAUSED') {
      const status = error instanceof Error && 'status' in error ? String(error.status) : 'running';
      throw new Error(`cannot delete container ${id} that is not stopped: ${status}`);
    }
    throw error;
  }
  return 0;
}
