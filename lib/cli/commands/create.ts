/** `nrunc create`: everything of a start but the program itself; init waits for `nrunc start`. */
import { detachedProcess, prepare, writePidFile } from '../bundle.ts';
import type { Invocation } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { container, options, pidFile } = await prepare(invocation, true);
  const process = detachedProcess(options);
  await container.start(process);
  if (pidFile !== undefined && process.pid !== undefined) {
    try {
      writePidFile(pidFile, process.pid);
    } catch (error) {
      await container.destroy({ force: true });
      throw error;
    }
  }
  return 0;
}
