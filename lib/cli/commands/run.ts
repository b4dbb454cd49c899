/** `nrunc run`: create and start in one. In the foreground it lends its streams and signals, and cleans up at the end. */
import type { Container } from '../../index.ts';
import { detachedProcess, prepare, whileWanted, writePidFile } from '../bundle.ts';
import { errorText } from '../error-text.ts';
import { exitCode } from '../exit-code.ts';
import { Foreground } from '../foreground.ts';
import type { Invocation } from '../invocation.ts';
import type { Log } from '../log.ts';
import { warnOfPoststop } from '../removal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const detached = invocation.options.flag('detach');
  const { caller } = invocation;
  // Streams and signals of the caller's own.
  if (!detached) caller.decline();
  const { container, options, pidFile } = await prepare(invocation, detached);
  await using _closed = container;
  using foreground = detached ? undefined : new Foreground(options);
  const process = foreground?.process ?? detachedProcess(caller, options);
  await container.run(process, whileWanted(caller));
  try {
    if (pidFile !== undefined && process.pid !== undefined) writePidFile(pidFile, process.pid);
    if (foreground === undefined) {
      await container.ready();
      caller.leave(process.pid);
      return 0;
    }
    foreground.started();
    const status = await foreground.ended();
    if (!invocation.options.flag('keep')) await removeAfterExit(container, invocation.log);
    return exitCode(status);
  } catch (error) {
    await container.destroy({ force: true });
    throw error;
  }
}

/** Its status is what the caller asked for, whether or not what is left can be removed, or somebody else did that. */
async function removeAfterExit(container: Container, log: Log): Promise<void> {
  try {
    await warnOfPoststop(log, () => container.destroy({ force: true }));
  } catch (error) {
    log.error(errorText(error));
  }
}
