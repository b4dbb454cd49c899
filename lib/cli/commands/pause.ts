/** `nrunc pause`. */
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  await invocation.caller.commit();
  await container.pause();
  return 0;
}
