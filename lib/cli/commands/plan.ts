/** `nrunc plan`: the start plan of a bundle, or of a container that exists, before anything is done. */
import { type Container, explainPlan, loadConfig, printPlan } from '../../index.ts';
import { configOptions } from '../bundle.ts';
import { type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options } = invocation;
  await using container = await planned(invocation);
  const plan = await container.plan(undefined, { wait: options.flag('wait') });
  invocation.caller.print(
    options.flag('json') ? `${JSON.stringify(explainPlan(plan), undefined, 2)}\n` : printPlan(plan),
  );
  return 0;
}

/** Without --bundle an ID names a container of the state root; else it is only a name in the plan's paths. */
async function planned(invocation: Invocation): Promise<Container> {
  const [id] = invocation.arguments;
  const bundle = invocation.options.text('bundle');
  if (id !== undefined && bundle === undefined) return openFactory(invocation).load(id);
  const config = await loadConfig(bundle ?? '.', configOptions(invocation));
  return openFactory(invocation).create(id ?? 'container', config);
}
