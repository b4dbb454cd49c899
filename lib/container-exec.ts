/** Starting processes: a container's first one, its release, and further ones. */
import { closeSync, constants, openSync, readSync, unlinkSync } from 'node:fs';
import type { Command, ExecutionOptions, PreparedProcess } from './container.ts';
import { oomKilled } from './container-exit.ts';
import type { Handle } from './container-handle.ts';
import { signalEveryone } from './container-recover.ts';
import { listenerOf } from './container-seccomp.ts';
import { ContainerError, LibcontainerError, SyscallError } from './errors.ts';
import { assertAllowed } from './lifecycle.ts';
import type { ContainerInit } from './parent/container-init.ts';
import { runHooks } from './parent/hooks.ts';
import { startInit, takeBack } from './parent/init-process.ts';
import { forwardNotify, withNotify } from './parent/notify-socket.ts';
import { ParentProcess } from './parent/parent-process.ts';
import { startSetns } from './parent/setns-process.ts';
import { encodeCommand } from './plan/encode.ts';
import { Process, resolveProcess } from './process.ts';
import { fifoPath, ociState, recordText } from './state.ts';

/** True when a start makes the container's first process. */
export const isFirst = (handle: Handle): boolean => handle.record === undefined;

/** First process. `wait`: it stands at the exec fifo afterwards (create), else its program runs. */
export async function startFirst(
  handle: Handle,
  process: Process,
  wait: boolean,
  { signal }: ExecutionOptions,
): Promise<void> {
  const { program } = process.options;
  // No program will ever read the fifo's absence from its own command line (container-recover.ts).
  if (wait && program !== undefined)
    throw new LibcontainerError('ERR_ARGUMENT', {
      detail: `process.program '${program}' needs ${program === 'late' ? 'prepare' : 'run'}()`,
    });
  if (handle.starting || handle.destroyed)
    throw new ContainerError(
      handle.destroyed ? 'ERR_CONTAINER_NOT_EXIST' : 'ERR_CONTAINER_STARTED',
      handle.id,
    );
  handle.starting = true;
  process.claim();
  try {
    handle.root.prepare();
    const parent = await spawnFirst(handle, process, wait, signal);
    process.attach(parent);
    watchExit(handle, process, parent, true);
    if (wait || process.options.program === 'late') handle.emitter.emit('created', { pid: parent.pid });
    else await started(handle, parent.pid, signal);
  } catch (error) {
    handle.notify?.close();
    process.unclaim();
    throw error;
  } finally {
    handle.starting = false;
  }
}

async function spawnFirst(
  handle: Handle,
  process: Process,
  wait: boolean,
  signal: AbortSignal | undefined,
): Promise<ParentProcess> {
  const onListener = listenerOf(handle, 'creating', undefined);
  const record = handle.newRecord();
  const processConfig = resolveProcess(process.options, handle.config.process);
  const notify = withNotify(handle.notifySocket, handle.directory, handle.config, processConfig);
  const parent = await startInit({
    binding: handle.binding,
    containerId: handle.id,
    directory: handle.directory,
    config: notify.config,
    manager: handle.manager,
    record: recordText(record),
    process,
    processConfig: notify.processConfig,
    wait,
    notify: handle.notifySocket !== undefined,
    onReady: pid => listenNotify(handle, pid),
    onListener,
    signal,
    lifetime: handle.lifetime,
    nonce: record.nonce,
  });
  handle.init = parent;
  handle.record = {
    ...record,
    init_process_pid: parent.pid,
    init_process_start: Number(parent.startTime),
  };
  return parent;
}

/** Before the program can say anything. */
function listenNotify(handle: Handle, pid: number): void {
  const { notifySocket } = handle;
  if (notifySocket === undefined) return;
  handle.notify = forwardNotify(handle.binding, handle.directory, notifySocket, () => pid);
  handle.closers.add(handle.notify.close);
}

export async function notified(handle: Handle): Promise<void> {
  const { notify } = handle;
  if (notify === undefined) return;
  const live = await handle.live();
  if (live.status === 'stopped') return;
  const ended = handle.init === undefined ? handle.gone(handle.pidfd(live)) : handle.init.exited();
  await Promise.race([notify.ready, ended]);
}

/** The program runs: `started`, and the poststart hooks, whose failure ends the container. */
async function started(handle: Handle, pid: number, signal: AbortSignal | undefined): Promise<void> {
  handle.emitter.emit('started', { pid });
  const { poststart } = handle.config.hooks;
  if (poststart.length === 0) return;
  const state = JSON.stringify(ociState(handle, 'running', pid));
  try {
    await runHooks({ name: 'poststart', hooks: poststart, state, cwd: handle.config.bundle, signal });
  } catch (error) {
    await endInit(handle);
    throw error;
  }
}

/** SIGKILL to init and, when it shares its pid namespace, to everything in its cgroups; resolves when init is gone. */
export async function endInit(handle: Handle): Promise<void> {
  const live = await handle.live();
  if (live.pid === 0) return;
  const pidfd = handle.pidfd(live);
  if (pidfd >= 0) handle.binding.pidfdSendSignal(pidfd, 9);
  // Also thaws: on cgroup v1 a frozen process does not die.
  if (!handle.hasPrivatePids || live.status === 'paused') await signalEveryone(handle, 9);
  if (handle.init === undefined) await handle.gone(pidfd);
  else {
    if (pidfd >= 0) handle.binding.close(pidfd);
    await handle.init.exited();
  }
}

export function watchExit(handle: Handle, process: Process, parent: ContainerInit, init: boolean): void {
  parent.onExit = status => {
    if (handle.emitter.listenerCount('exit') > 0) {
      const report = async (): Promise<void> => {
        const killed = init && (await oomKilled(handle));
        // In a turn of its own: what a listener throws is its own affair, not destroy()'s.
        queueMicrotask(() => {
          handle.emitter.emit('exit', { process, status, init, oomKilled: killed });
        });
      };
      // destroy() waits for it: the count goes with the cgroup.
      handle.reporting = Promise.all([handle.reporting, report()]).then(() => undefined);
    }
    if (!init) return;
    handle.notify?.close();
    handle.emitter.emit('stopped');
  };
}

/** Releases a created init: `nrunc start`. */
export async function release(handle: Handle, { signal }: ExecutionOptions): Promise<void> {
  await handle.locked(async () => {
    const live = await handle.require('exec');
    const pidfd = handle.pidfd(live);
    listenNotify(handle, live.pid);
    try {
      await readFifo(handle, pidfd, signal);
    } catch (error) {
      handle.notify?.close();
      throw error;
    } finally {
      if (pidfd >= 0) handle.binding.close(pidfd);
    }
    // Our own child tells whether its startContainer hooks and execve went well; of another's we know that it goes on.
    if (handle.init !== undefined) await handle.init.executed();
    await started(handle, live.pid, signal);
  }, signal);
}

const epollIn = 1;

/**
 * init writes one byte when somebody opens the fifo for reading. Opened non-blocking: if init died, an open would wait
 * for ever (fifo(7)). A program that ends at once is no error: its byte has been read.
 */
async function readFifo(handle: Handle, pidfd: number, signal: AbortSignal | undefined): Promise<void> {
  const path = fifoPath(handle.directory);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  const byte = Buffer.alloc(1);
  let dead = pidfd < 0;
  const wakers: (() => void)[] = [];
  const watches = [
    handle.binding.watch(fd, epollIn, () => {
      for (const wake of wakers) wake();
    }),
  ];
  if (pidfd >= 0)
    watches.push(
      handle.binding.pidfdWatch(pidfd, () => {
        dead = true;
        for (const wake of wakers) wake();
      }),
    );
  const abort = (): void => {
    for (const wake of wakers) wake();
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const endedBefore = dead;
      if (tryRead(fd, byte)) break;
      if (endedBefore)
        throw new ContainerError('ERR_CONTAINER_STOPPED', handle.id, {
          message: 'container process is already dead',
        });
      await new Promise<void>(resolve => {
        wakers.push(resolve);
        if (dead || signal?.aborted === true) resolve();
      });
    }
    unlinkSync(path);
  } finally {
    signal?.removeEventListener('abort', abort);
    for (const watch of watches) watch.close();
    closeSync(fd);
  }
}

function tryRead(fd: number, byte: Buffer): boolean {
  try {
    return readSync(fd, byte) > 0;
  } catch (error) {
    // The writer is there, its byte is not.
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return false;
    throw error;
  }
}

/** A further process, in a created, running or (if asked) paused container. */
export async function startFurther(
  handle: Handle,
  process: Process,
  waitForRelease: boolean,
  { signal }: ExecutionOptions,
): Promise<ParentProcess> {
  if (process.options.program !== undefined)
    throw new LibcontainerError('ERR_ARGUMENT', {
      detail: 'process.program is for the first process of a container',
    });
  const live = await handle.live();
  if (!(live.status === 'paused' && process.options.ignorePaused === true))
    assertAllowed('join', handle.id, live.status);
  const onListener = listenerOf(handle, live.status, live.pid);
  process.claim();
  try {
    const pidfd = handle.pidfd(live);
    if (pidfd < 0) assertAllowed('join', handle.id, 'stopped');
    const parent = await startSetns({
      binding: handle.binding,
      containerId: handle.id,
      directory: handle.directory,
      config: handle.config,
      manager: handle.manager,
      process,
      processConfig: resolveProcess(process.options, handle.config.process),
      initPid: live.pid,
      pidfd,
      waitForRelease,
      onListener,
      signal,
    });
    process.attach(parent);
    watchExit(handle, process, parent, false);
    return parent;
  } catch (error) {
    process.unclaim();
    // The container ended meanwhile: its pid namespace cannot be entered, or takes no new process (pid_namespaces(7)).
    const errno =
      error instanceof LibcontainerError && error.code === 'ERR_SPAWN' ? errnoOf(error.cause) : '';
    if (errno === 'ESRCH' || (errno === 'ENOMEM' && (await handle.live()).status === 'stopped'))
      throw new ContainerError('ERR_CONTAINER_NOT_RUNNING', handle.id, { status: 'stopped', cause: error });
    throw error;
  }
}

const errnoOf = (cause: unknown): string => (cause instanceof SyscallError ? cause.errnoName : '');

export async function prepareFurther(
  handle: Handle,
  process: Process,
  options: ExecutionOptions,
): Promise<PreparedProcess> {
  const parent = await startFurther(handle, process, true, options);
  return prepared(process, parent, async command => {
    if (command !== undefined)
      throw new LibcontainerError('ERR_ARGUMENT', { detail: 'release(): this process has its program' });
    parent.release();
    await parent.executed();
  });
}

/** The first process, of a container whose program is told by the release. */
export async function prepareFirst(
  handle: Handle,
  process: Process,
  options: ExecutionOptions,
): Promise<PreparedProcess> {
  if (process.options.program !== 'late')
    throw new LibcontainerError('ERR_ARGUMENT', {
      detail: "prepare(): a container's first process must have program 'late'",
    });
  await startFirst(handle, process, false, options);
  const parent = handle.init;
  if (!(parent instanceof ParentProcess)) throw new ContainerError('ERR_CONTAINER_NOT_RUNNING', handle.id);
  return prepared(process, parent, async command => {
    const { args, env } = checkedCommand(command, handle.config.process?.env ?? []);
    if (!parent.release(encodeCommand(args, env)))
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail:
          'release(): arguments and environment are larger than a packet of a UNIX socket (some 200 kB)',
      });
    await parent.executed();
    await started(handle, parent.pid, undefined);
  });
}

/** The rules of a Process's own arguments. */
function checkedCommand(command: Command | undefined, env: readonly string[]): Required<Command> {
  if (command === undefined)
    throw new LibcontainerError('ERR_ARGUMENT', { detail: 'release(): which program? { args } is needed' });
  const checked = new Process({ args: command.args, env: command.env ?? env });
  return { args: checked.options.args, env: checked.options.env ?? [] };
}

function prepared(
  process: Process,
  parent: ParentProcess,
  go: (command: Command | undefined) => Promise<void>,
): PreparedProcess {
  let released = false;
  const cancel = async (): Promise<void> => {
    parent.abort();
    await parent.exited();
  };
  return {
    process,
    pid: parent.pid,
    release: async command => {
      await go(command);
      released = true;
    },
    cancel,
    [Symbol.asyncDispose]: async () => {
      // One that was released lives on; one that was not would wait for ever.
      if (!released) await cancel();
    },
  };
}

/** After a failed poststart hook of `run()` nothing may be left: the caller has nothing that it could destroy. */
export async function removeAfterFailedRun(handle: Handle, error: unknown): Promise<void> {
  await takeBack(
    {
      binding: handle.binding,
      manager: handle.manager,
      config: handle.config,
      directory: handle.directory,
      containerId: handle.id,
    },
    error,
  );
  handle.init = undefined;
  handle.record = undefined;
}
