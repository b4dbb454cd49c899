/** `nrunc run`: create and start in one. In the foreground it lends its streams and signals, and cleans up at the end. */
import { detachedProcess, prepare, writePidFile } from '../bundle.ts';
import { exitCode } from '../exit-code.ts';
import { Foreground } from '../foreground.ts';
import type { Invocation } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const detached = invocation.options.flag('detach');
  const { container, options, pidFile } = await prepare(invocation, detached);
  using foreground = detached ? undefined : new Foreground(options);
  const process = foreground?.process ?? detachedProcess(options);
  await container.run(process);
  try {
    if (pidFile !== undefined && process.pid !== undefined) writePidFile(pidFile, process.pid);
    if (foreground === undefined) {
      await container.ready();
      return 0;
    }
    foreground.started();
    const status = await foreground.ended();
    if (!invocation.options.flag('keep')) await container.destroy();
    return exitCode(status);
  } catch (error) {
    await container.destroy({ force: true });
    throw error;
  }
}
