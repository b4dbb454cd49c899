/** `nrunc create`: everything of a start but the program itself; init waits for `nrunc start`. */
import { detachedProcess, prepare, whileWanted, writePidFile } from '../bundle.ts';
import type { Invocation } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { caller } = invocation;
  const { container, options, pidFile } = await prepare(invocation, true);
  await using _closed = container;
  const process = detachedProcess(caller, options);
  await container.start(process, whileWanted(caller));
  if (pidFile !== undefined && process.pid !== undefined) {
    try {
      writePidFile(pidFile, process.pid);
    } catch (error) {
      await container.destroy({ force: true });
      throw error;
    }
  }
  caller.leave(process.pid);
  return 0;
}
