/**
 * checkpoint(): CRIU reads the container while its cgroup is frozen. Whatever happens to CRIU or to this process, the
 * container then goes on or is stopped: it is never left frozen, and its network never closed (docs/adr/0018).
 */
import { closeSync, existsSync, openSync, readFileSync, unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from './config/config.ts';
import { notifies } from './config/seccomp.ts';
import { cgroupKeeper, type Handle, type LiveState, type Root } from './container-handle.ts';
import { criuPath, intending } from './container-recover.ts';
import { type CheckpointOptions, type CheckpointResult, checkCheckpoint } from './criu/options.ts';
import { ContainerError, CriuError } from './errors.ts';
import type { CheckpointIntent } from './state-intent.ts';

/** What CRIU would leave out without a word, and what a restored process must not be without. */
export function refuseLost(id: string, config: Config): void {
  const lost: [boolean, string, string][] = [
    [config.landlock !== undefined, 'landlock', 'CRIU does not restore Landlock rules'],
    [config.overlay !== undefined, 'overlay', 'CRIU would look for its layers by the names of descriptors'],
    [
      config.seccomp !== undefined && notifies(config.seccomp),
      'linux.seccomp with SCMP_ACT_NOTIFY',
      'nobody would hold the listener of the restored filter',
    ],
    [config.mounts.some(({ idmap }) => idmap !== undefined), 'an idmapped mount', 'CRIU does not know them'],
  ];
  for (const [found, what, hint] of lost)
    if (found)
      throw new ContainerError('ERR_UNSUPPORTED', id, {
        detail: `checkpoint and restore with ${what}`,
        hint,
      });
}

export async function checkpointContainer(
  handle: Handle,
  options: CheckpointOptions,
): Promise<CheckpointResult> {
  checkCheckpoint(options);
  return handle.locked(async () => {
    const live = await handle.require('checkpoint');
    refuseLost(handle.id, handle.config);
    const pidfd = handle.pidfd(live);
    if (pidfd < 0) throw new ContainerError('ERR_CONTAINER_NOT_RUNNING', handle.id, { status: 'stopped' });
    try {
      const paused = live.status === 'paused';
      const opened = outlivingNetwork(handle.config, options);
      const intent = {
        operation: 'checkpoint',
        paused,
        ...(opened === undefined ? {} : { opened }),
      } as const;
      return await intending(handle, intent, () => dumpContainer(handle, live, options));
    } finally {
      handle.binding.close(pidfd);
    }
  }, options.signal);
}

/**
 * A network that is there after the container, and is to be open then: CRIU leaves it closed, so that the other ends of
 * established connections hear nothing until the restore. Without any in the image nobody waits for that.
 */
function outlivingNetwork(config: Config, options: CheckpointOptions): string | undefined {
  if (options.tcpEstablished === true) return undefined;
  return config.namespaces.find(({ type }) => type === 'network')?.path;
}

async function dumpContainer(
  handle: Handle,
  live: LiveState,
  options: CheckpointOptions,
): Promise<CheckpointResult> {
  const { binding, config, manager } = handle;
  const { CriuGone, dump, unlockNetwork } = await import('./criu/engine.ts');
  const paused = live.status === 'paused';
  // Held: afterwards the process may be gone, and the path of the configuration may name another one by now.
  const network = hasNetwork(config) ? openSync(networkOf(live.pid), 'r') : undefined;
  try {
    const request = { binding, config, manager, pid: live.pid, criuFile: criuPath(handle), options };
    const result = await dump(request, cgroupKeeper(handle.root));
    if (options.leaveRunning === true || options.preDump === true) return result;
    // A process of a frozen cgroup of v1 does not die.
    await manager.thaw();
    await ended(handle, live);
    if (network !== undefined && outlivingNetwork(config, options) !== undefined)
      await unlockNetwork(network);
    return result;
  } catch (error) {
    const gone = error instanceof CriuError && error.cause instanceof CriuGone;
    if (gone && network !== undefined) await unlockNetwork(network);
    // It was paused, so it stays paused, unless that has ended it.
    if (paused && binding.startTime(live.pid) === live.startTime) await manager.freeze();
    throw error;
  } finally {
    if (network !== undefined) closeSync(network);
    removeCriuFile(handle);
    if (!paused) await manager.thaw();
  }
}

const networkOf = (pid: number): string => `/proc/${pid}/ns/net`;

const hasNetwork = (config: Config): boolean => config.namespaces.some(({ type }) => type === 'network');

export function removeCriuFile(handle: Handle): void {
  for (const path of [criuPath(handle), `${criuPath(handle)}.tmp`]) {
    try {
      unlinkSync(path);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }
}

/** CRIU has killed it: until it is reaped. */
async function ended(handle: Handle, live: LiveState): Promise<void> {
  if (handle.init !== undefined) await handle.init.exited();
  else await handle.gone(handle.binding.pidfdOpen(live.pid, live.startTime));
}

const criuEndMs = 10_000;

/**
 * What a process that died in a checkpoint has left. CRIU takes back its work when its client is gone, so it is given the
 * time for that; killed in the middle it could end the processes that it works on.
 */
export async function finishCheckpoint(handle: Handle, intent: CheckpointIntent): Promise<void> {
  const { binding, config, manager, record } = handle;
  const pidfd = criuPidfd(handle);
  if (pidfd >= 0) await endCriu(handle, pidfd);
  const { init_process_pid: pid = 0, init_process_start: start = 0 } = record ?? {};
  const lives = pid > 0 && binding.startTime(pid) === BigInt(start);
  if (!lives) await openNetwork(intent.opened);
  else if (hasNetwork(config)) await openNetwork(networkOf(pid));
  removeCriuFile(handle);
  await recoverCgroupOptions(handle.root);
  if (lives && intent.paused) await manager.freeze();
  else await manager.thaw();
}

/** What a process that was killed while CRIU was at work has left on the host. */
export async function recoverCgroupOptions(root: Root): Promise<void> {
  const keeper = cgroupKeeper(root);
  if (!existsSync(keeper.file)) return;
  const { recoverCgroupOptions: recover } = await import('./criu/engine.ts');
  await recover(keeper);
}

async function openNetwork(path: string | undefined): Promise<void> {
  if (path === undefined || !existsSync(path)) return; // with the container
  const { unlockNetwork } = await import('./criu/engine.ts');
  const fd = openSync(path, 'r');
  try {
    await unlockNetwork(fd);
  } finally {
    closeSync(fd);
  }
}

function criuPidfd(handle: Handle): number {
  try {
    const { pid, start } = JSON.parse(readFileSync(criuPath(handle), 'utf8')) as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof start !== 'number') return -1;
    return handle.binding.pidfdOpen(pid, BigInt(start));
  } catch {
    return -1; // it was not started yet
  }
}

async function endCriu(handle: Handle, pidfd: number): Promise<void> {
  const late = new AbortController();
  const deadline = delay(criuEndMs, undefined, { signal: late.signal }).then(
    () => handle.binding.pidfdSendSignal(pidfd, 9),
    () => false,
  );
  // Takes the pidfd over.
  await handle.gone(pidfd);
  late.abort();
  await deadline;
}
