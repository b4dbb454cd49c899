/** `nrunc delete`: removes a stopped or created container, with --force any. */
import { errorCode } from '../error-text.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { warnOfPoststop } from '../removal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const id = containerIdOf(invocation);
  const force = invocation.options.flag('force');
  if (invocation.caller.front !== undefined) await declineHooks(invocation, id);
  await invocation.caller.commit();
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

/** A hook is the caller's to run, in its cgroup. */
async function declineHooks(invocation: Invocation, id: string): Promise<void> {
  let hooks = 0;
  try {
    await using container = await openFactory(invocation).load(id);
    hooks = container.config.hooks.poststop.length;
  } catch {
    // Half of one: destroy() finds its own words, and nothing that could run hooks.
  }
  if (hooks > 0) invocation.caller.decline();
}
