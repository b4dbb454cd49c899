/** `nrunc kill`: a signal for init, or with the hidden --all for every process. */
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options } = invocation;
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  await invocation.caller.commit();
  const signal = invocation.arguments[1] ?? 'SIGTERM';
  await container.signal(signal === '' ? 'SIGTERM' : signal, { all: options.flag('all') });
  return 0;
}
