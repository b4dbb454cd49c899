/** The start plan of a container, for people: nothing is done. */
import type { Handle } from './container-handle.ts';
import { ContainerError } from './errors.ts';
import { standardPlan } from './parent/plans.ts';
import type { StartPlan } from './plan/steps.ts';
import { type Process, resolveProcess } from './process.ts';

export async function planOf(
  handle: Handle,
  process: Process | undefined,
  wait: boolean,
): Promise<StartPlan> {
  const { config, manager } = handle;
  const options = process?.options ?? config.process;
  if (options === undefined)
    throw new ContainerError('ERR_ARGUMENT', handle.id, {
      detail: 'config.process is absent: give a process',
    });
  // A cgroup in use is refused for a start; for the plan of what runs already it is where it would go.
  const { pid } = await handle.live();
  const cgroup = await (pid === 0 ? manager.prepareStart(config.resources) : manager.prepareExec({}));
  return standardPlan({
    binding: handle.binding,
    containerId: handle.id,
    config,
    process: resolveProcess(options, config.process),
    manager,
    cgroup,
    wait,
    preservedFds: process?.options.preservedFds?.length ?? 0,
  });
}
