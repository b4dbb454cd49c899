/** restore(): a container whose first process comes out of a checkpoint. Its intent on disk is that of a start. */
import { statSync } from 'node:fs';
import type { Config } from './config/config.ts';
import { refuseLost } from './container-checkpoint.ts';
import { watchExit } from './container-exec.ts';
import { cgroupKeeper, type Handle } from './container-handle.ts';
import { saveRecord } from './container-live.ts';
import { checkRestore, type RestoreOptions } from './criu/options.ts';
import type { RestoreRequest } from './criu/restore.ts';
import { ContainerError } from './errors.ts';
import { startError } from './parent/failure.ts';
import { runHooks } from './parent/hooks.ts';
import { stateCreation, takeBack } from './parent/init-process.ts';
import { StartFailure } from './parent/parent-process.ts';
import { RestoredProcess } from './parent/restored-process.ts';
import { prepareStdio } from './parent/stdio.ts';
import { ownerOutside } from './plan/user-namespace.ts';
import type { Process } from './process.ts';
import { ociState, recordText } from './state.ts';
import { exitPath } from './state-exit.ts';

/** Resolves when the restored processes run. @throws as `LinuxFactory.restore()`; everything is taken back */
export async function restoreFirst(handle: Handle, process: Process, options: RestoreOptions): Promise<void> {
  checkRestore(options);
  refuseLost(handle.id, handle.config);
  if (handle.lifetime === 'owner')
    throw new ContainerError('ERR_UNSUPPORTED', handle.id, {
      detail: "restore with lifetime 'owner'",
      hint: 'a restored container is no child of the monitor',
    });
  handle.starting = true;
  process.claim();
  try {
    handle.root.prepare();
    const init = await spawnRestored(handle, process, options);
    process.attach(init);
    watchExit(handle, process, init, true);
    handle.emitter.emit('started', { pid: init.pid });
  } catch (error) {
    handle.init = undefined;
    handle.record = undefined;
    process.unclaim();
    throw error;
  } finally {
    handle.starting = false;
  }
}

async function spawnRestored(
  handle: Handle,
  process: Process,
  options: RestoreOptions,
): Promise<RestoredProcess> {
  const { binding, manager, directory } = handle;
  const { restore } = await import('./criu/engine.ts');
  const config = handle.config;
  const record = handle.newRecord();
  const cgroup = await manager.prepareStart(config.resources);
  const before = stateCreation(directory, recordText(record));
  const stdio = prepareStdio(binding, process.options, ownerOutside(config));
  let init: RestoredProcess | undefined;
  let made = false;
  const withInit = (): RestoredProcess => {
    if (init === undefined) throw new Error('CRIU notified in an order that it never had');
    return init;
  };
  try {
    const request: RestoreRequest = {
      binding,
      config,
      manager,
      cgroup,
      before,
      stdio: stdio.fds,
      options,
      onMade: () => {
        made = true;
      },
      onBorn: async pid => {
        init = born(handle, pid, stdio);
        await setUp(handle, pid, options.signal);
      },
      onTerminal: fd => withInit().takeTerminal(fd, process.options.consoleSocket),
      onRestored: async pid => {
        const { startTime } = withInit();
        if (handle.lifetime === 'container')
          withInit().record = await binding.lock(exitPath(directory), exitLockMs);
        await saveRecord(handle, {
          ...record,
          config: withTimeNamespace(config, pid),
          init_process_pid: pid,
          init_process_start: Number(startTime),
        });
      },
    };
    await restore(request, cgroupKeeper(handle.root));
    const restored = withInit();
    stdio.closeChildEnds();
    handle.init = restored;
    return restored;
  } catch (failure) {
    const error =
      failure instanceof StartFailure
        ? await startError(failure, {
            containerId: handle.id,
            program: 'criu',
            cwd: '/',
            stateDirectory: directory,
            cgroup,
            cgroupOffset: before.length,
            oomKills: () => manager.oomKillCount(),
          })
        : failure;
    stdio.discard();
    if (made) await undo(handle, init, error);
    throw error;
  }
}

const sigkill = 9;
const exitLockMs = 1000;

/** CRIU is gone; what it had made is in the cgroups, and its root task is our child. */
async function undo(handle: Handle, init: RestoredProcess | undefined, error: unknown): Promise<void> {
  const { binding, manager, config, directory } = handle;
  try {
    await manager.killAll(sigkill);
  } finally {
    await init?.discard();
  }
  await takeBack({ binding, manager, config, directory, containerId: handle.id }, error);
}

function born(
  handle: Handle,
  pid: number,
  stdio: ConstructorParameters<typeof RestoredProcess>[4],
): RestoredProcess {
  const { binding } = handle;
  const startTime = binding.startTime(pid);
  const pidfd = startTime === null ? -1 : binding.pidfdOpen(pid, startTime);
  if (startTime === null || pidfd < 0)
    throw new ContainerError('ERR_INIT_DIED', handle.id, { detail: 'the restored process has ended' });
  return new RestoredProcess(binding, pid, startTime, pidfd, stdio);
}

/** As at a start (runc: "setup-namespaces"): the engine gives the container its network in these. */
async function setUp(handle: Handle, pid: number, signal: AbortSignal | undefined): Promise<void> {
  const { hooks, bundle } = handle.config;
  if (hooks.prestart.length + hooks.createRuntime.length === 0) return;
  const state = JSON.stringify(ociState(handle, 'creating', pid));
  for (const name of ['prestart', 'createRuntime'] as const)
    await runHooks({ name, hooks: hooks[name], state, cwd: bundle, signal });
}

/** CRIU gives a restored process a clock of its own: what is executed beside it must see the same time. */
function withTimeNamespace(config: Config, pid: number): Config {
  if (config.namespaces.some(({ type }) => type === 'time')) return config;
  try {
    const inode = (owner: string): number => statSync(`/proc/${owner}/ns/time`).ino;
    if (inode(String(pid)) === inode('self')) return config;
  } catch {
    return config; // a kernel before 5.6
  }
  return { ...config, namespaces: [...config.namespaces, { type: 'time' }] };
}
