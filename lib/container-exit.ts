/** How a container's first process ended, whoever started it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Handle } from './container-handle.ts';
import { ContainerError } from './errors.ts';
import type { Binding, KernelExit } from './native/binding.ts';
import type { ExitStatus } from './process.ts';
import { signalName } from './signals.ts';
import { type ExitRecord, exitPath, readExit } from './state-exit.ts';

export interface ContainerExit {
  /** `unknown`: its monitor was killed or it never had one, and the kernel (before 6.15) does not tell. */
  readonly status: ExitStatus;
  /** The container's cgroup counted an OOM kill. */
  readonly oomKilled: boolean;
  /** When it ended, if that was recorded. */
  readonly exitedAt: Date | undefined;
}

export const exitStatusOf = ({ kind, status, coreDumped }: KernelExit): ExitStatus =>
  kind === 'exited' ? { kind, code: status } : { kind, signal: signalName(status), coreDumped };

/** The monitor writes within a millisecond of the end; a machine that stands still must not make its word lost. */
const recordWaitMs = 10_000;

/** The record of a process that has ended. */
async function recordedExit(handle: Handle): Promise<ExitRecord | undefined> {
  const { binding, directory } = handle;
  const deadline = Date.now() + recordWaitMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 16)) {
    // In this order: what was written before the lock went is seen.
    const isHeld = binding.isLocked(exitPath(directory));
    const record = readExit(directory);
    if (record === 'none') return undefined;
    if (record !== 'empty') return record;
    if (!isHeld || Date.now() > deadline) return undefined;
    await delay(pauseMs);
  }
}

/** Of a container whose first process has ended. Not known is not killed: the cgroup may be gone, or another's by now. */
export async function oomKilled(handle: Handle): Promise<boolean> {
  const { manager, directory } = handle;
  if ((await manager.oomKillCount().catch(() => 0)) > 0) return true;
  const record = manager.oomCounter === undefined ? 'none' : readExit(directory);
  return typeof record === 'object' && (record.oomKills ?? 0) > 0;
}

const reapMs = 200;

/** How the process behind a pidfd has ended, if the kernel tells. Takes the pidfd over. */
export async function kernelExit(binding: Binding, pidfd: number): Promise<KernelExit | undefined> {
  try {
    const deadline = Date.now() + reapMs;
    for (let pauseMs = 1; ; pauseMs *= 2) {
      const exit = binding.pidfdExit(pidfd);
      if (exit !== null || Date.now() > deadline) return exit ?? undefined;
      await delay(pauseMs);
    }
  } finally {
    binding.close(pidfd);
  }
}

/** Of a process that has ended. @param kernel What a pidfd told, if one was open. */
export async function exitOf(
  handle: Handle,
  kernel?: Promise<KernelExit | undefined>,
): Promise<ContainerExit> {
  const record = await recordedExit(handle);
  const found = record ?? (await kernel);
  return {
    status: handle.init?.exitStatus ?? (found === undefined ? { kind: 'unknown' } : exitStatusOf(found)),
    oomKilled: await oomKilled(handle),
    exitedAt: record === undefined ? undefined : new Date(record.exitedMs),
  };
}

/** Waits for the end of the first process. */
export async function waitForExit(handle: Handle, signal: AbortSignal | undefined): Promise<ContainerExit> {
  signal?.throwIfAborted();
  const live = await handle.live();
  if (handle.record === undefined) throw new ContainerError('ERR_CONTAINER_NOT_EXIST', handle.id);
  if (handle.init !== undefined) {
    await orAborted(handle.init.exited(), signal);
    return exitOf(handle);
  }
  const pidfd = live.pid === 0 ? -1 : handle.pidfd(live);
  if (pidfd < 0) return exitOf(handle);
  try {
    await ended(handle, pidfd, signal);
  } catch (error) {
    handle.binding.close(pidfd);
    throw error;
  }
  return exitOf(handle, kernelExit(handle.binding, pidfd));
}

function ended(handle: Handle, pidfd: number, signal: AbortSignal | undefined): Promise<void> {
  let stop = (): void => undefined;
  const end = new Promise<void>(resolve => {
    const watch = handle.binding.pidfdWatch(pidfd, resolve);
    stop = () => watch.close();
  });
  return orAborted(end, signal).finally(stop);
}

async function orAborted(end: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await end;
    return;
  }
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
  try {
    await Promise.race([end, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
