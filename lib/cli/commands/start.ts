/** `nrunc start`: releases the init of a created container. */
import { notifyOptions } from '../bundle.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { caller } = invocation;
  const notify = notifyOptions(caller);
  await using container = await openFactory(invocation).load(containerIdOf(invocation), notify);
  // A hook is the caller's to run, in its cgroup; and who waits for READY=1 watches that process.
  if (notify.notifySocket !== undefined || container.config.hooks.poststart.length > 0) caller.decline();
  await caller.commit();
  await container.exec();
  await container.ready();
  return 0;
}
