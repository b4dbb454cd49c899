/** `nrunc restore`: a container out of an image that `nrunc checkpoint` or `runc checkpoint` has written. */
import { loadConfig, type RestoreOptions } from '../../index.ts';
import { absolute, checkTerminal, configOptions, detachedProcess, writePidFile } from '../bundle.ts';
import { criuOptions } from '../criu.ts';
import { errorText } from '../error-text.ts';
import { exitCode } from '../exit-code.ts';
import { Foreground } from '../foreground.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { warnOfPoststop } from '../removal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options, log, caller } = invocation;
  if (process.geteuid?.() !== 0) log.warning('nrunc restore is untested with rootless containers');
  const restoreOptions = allOptions(invocation);
  const pidFile = absolute(caller, options.text('pid-file'));
  const consoleSocket = absolute(caller, options.text('console-socket'));
  const bundle = options.text('bundle') ?? '';
  if (bundle !== '') process.chdir(bundle);
  const config = await loadConfig('.', configOptions(invocation));
  if (config.process === undefined) throw new Error('process property must not be empty');
  const detached = options.flag('detach');
  checkTerminal(config.process.terminal, detached, consoleSocket);
  const processOptions = { ...config.process, ...(consoleSocket === undefined ? {} : { consoleSocket }) };
  using foreground = detached ? undefined : new Foreground(processOptions);
  const restored = foreground?.process ?? detachedProcess(caller, processOptions);
  const container = await openFactory(invocation).restore(
    containerIdOf(invocation),
    config,
    restored,
    restoreOptions,
  );
  try {
    if (pidFile !== undefined && restored.pid !== undefined) writePidFile(pidFile, restored.pid);
    if (foreground === undefined) {
      restored.unref();
      return 0;
    }
    foreground.started();
    const status = await foreground.ended();
    try {
      await warnOfPoststop(log, () => container.destroy({ force: true }));
    } catch (error) {
      log.error(errorText(error));
    }
    return exitCode(status);
  } catch (error) {
    await container.destroy({ force: true });
    throw error;
  }
}

function allOptions(invocation: Invocation): RestoreOptions {
  const { options } = invocation;
  const lsmProfile = options.text('lsm-profile') ?? '';
  const lsmMountContext = options.text('lsm-mount-context') ?? '';
  return {
    ...criuOptions(invocation),
    ...(lsmProfile === '' ? {} : { lsmProfile }),
    ...(lsmMountContext === '' ? {} : { lsmMountContext }),
  };
}
