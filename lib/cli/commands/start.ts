/** `nrunc start`: releases the init of a created container. */
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  await container.exec();
  return 0;
}
