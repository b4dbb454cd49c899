/** `nrunc start`: releases the init of a created container. */
import { notifyOptions } from '../bundle.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  await using container = await openFactory(invocation).load(containerIdOf(invocation), notifyOptions());
  await container.exec();
  await container.ready();
  return 0;
}
