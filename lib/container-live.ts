/** Operations on a container that lives: signals, freezing, limits, statistics, processes. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Stats } from './cgroups/stats.ts';
import type { Config, IntelRdt, Resources } from './config/config.ts';
import type { ExecutionOptions, SetOptions } from './container.ts';
import type { Handle } from './container-handle.ts';
import { intending, signalEveryone } from './container-recover.ts';
import { CgroupError, ContainerError, LibcontainerError } from './errors.ts';
import { signalNumber } from './signals.ts';
import { recordText, type StateRecord, statePath } from './state.ts';

const sigkill = 9;

/**
 * To init by its pidfd; `all`, or KILL for a container that shares its pid namespace, to every process in its cgroups.
 */
export async function signalContainer(
  handle: Handle,
  signal: string | number,
  { all = false }: { readonly all?: boolean },
): Promise<void> {
  const number = signalNumber(signal);
  const live = await handle.live();
  // What shares a pid namespace may live on without its init.
  const everyone = all || (number === sigkill && !handle.hasPrivatePids);
  if (everyone && live.status !== 'creating') {
    if (live.status === 'stopped' && !all && (await handle.manager.pids()).length === 0) refuse(handle);
    // Not whether somebody is in them: a process that has ended but is not reaped is in none.
    if (live.pid === 0 || Object.keys(handle.manager.paths).length > 0) {
      await signalEveryone(handle, number);
      return;
    }
    // Without cgroups nothing names the others. KILL to the first process takes those of its pid namespace along.
    if (number !== sigkill)
      throw new CgroupError(
        'ERR_CGROUP_CONTROLLER',
        { file: 'cgroup.procs' },
        { detail: 'signal to all: the container has no cgroup, and only its first process is known' },
      );
  }
  if (live.pid === 0) refuse(handle);
  const pidfd = handle.pidfd(live);
  if (pidfd < 0) refuse(handle);
  try {
    if (!handle.binding.pidfdSendSignal(pidfd, number)) refuse(handle);
  } finally {
    handle.binding.close(pidfd);
  }
  // A frozen process on cgroup v1 gets its SIGKILL only when it is thawed; on v2 this is harmless.
  if (number === sigkill && live.status === 'paused') await handle.manager.thaw();
}

function refuse(handle: Handle): never {
  throw new ContainerError('ERR_CONTAINER_NOT_RUNNING', handle.id, { status: 'stopped' });
}

export async function pauseContainer(handle: Handle, { signal }: ExecutionOptions): Promise<void> {
  await handle.locked(async () => {
    await handle.require('pause');
    await intending(handle, { operation: 'pause' }, async () => {
      try {
        await handle.manager.freeze();
      } catch (error) {
        // Half frozen is worse than either.
        await handle.manager.thaw();
        throw error;
      }
    });
  }, signal);
}

export async function resumeContainer(handle: Handle, { signal }: ExecutionOptions): Promise<void> {
  await handle.locked(async () => {
    await handle.require('resume');
    await handle.manager.thaw();
  }, signal);
}

function changedRdt({ config, manager, id }: Handle, change: IntelRdt | undefined): IntelRdt | undefined {
  if (change === undefined) return undefined;
  const { intelRdt } = config;
  if (intelRdt === undefined || manager.resctrl === undefined)
    throw new ContainerError('ERR_UNSUPPORTED', id, {
      detail: 'linux.intelRdt of a container that was made without',
      hint: 'a container joins its class of service when it starts: make it with linux.intelRdt',
    });
  const { closID: _, enableMonitoring: _2, ...schemas } = change;
  // Its lines come last in the file: those of the start would outdo a change.
  const { schemata: _3, ...rest } = intelRdt;
  return { ...rest, ...schemas };
}

/** Writes the limits and then the record; when either fails, the former limits are written back. */
export async function setResources(
  handle: Handle,
  resources: Resources,
  options: ExecutionOptions & SetOptions,
): Promise<void> {
  await handle.locked(async () => {
    await handle.require('set');
    const { config, record } = handle;
    if (record === undefined) return;
    const former = config.resources;
    const skip = options.skipDevices === true ? { skipDevices: true } : {};
    const wanted: Resources =
      options.skipDevices === true && former.devices !== undefined
        ? { ...resources, devices: former.devices }
        : resources;
    const intelRdt = changedRdt(handle, options.intelRdt);
    const rdt = intelRdt === undefined ? {} : { intelRdt };
    const changed: Config = { ...config, resources: wanted, ...rdt };
    const skipDevices = options.skipDevices === true;
    const { resctrl } = handle.manager;
    await intending(handle, { operation: 'set', resources: wanted, skipDevices, ...rdt }, async () => {
      await handle.manager.set(wanted, former, skip);
      try {
        if (intelRdt !== undefined) await resctrl?.set(intelRdt);
        await saveRecord(handle, { ...record, config: changed });
      } catch (error) {
        if (intelRdt !== undefined && config.intelRdt !== undefined)
          await resctrl?.set(config.intelRdt).catch(() => undefined);
        await handle.manager.set(former, wanted, skip);
        throw error;
      }
    });
  }, options.signal);
}

/** Replaces state.json, under the lock. */
export async function saveRecord(handle: Handle, record: StateRecord): Promise<void> {
  const { init_process_pid: pid, init_process_start: start, ...rest } = record;
  const { parts } = recordText(rest);
  const data = `${parts[0]}${pid}${parts[1]}${start}${parts[2]}`;
  await handle.binding.files(
    [{ op: 'put', path: statePath(handle.directory), data, mode: 0o600, sync: false }],
    false,
  );
  handle.record = record;
  handle.config = record.config;
}

export async function containerStats(handle: Handle): Promise<Stats> {
  await handle.require('stats');
  return handle.manager.stats();
}

/** Until the container stops, the signal is aborted or the consumer returns. */
export async function* statsEvery(
  handle: Handle,
  { intervalMs, signal }: { readonly intervalMs: number; readonly signal?: AbortSignal },
): AsyncGenerator<Stats, void> {
  if (!(intervalMs > 0))
    throw new LibcontainerError('ERR_ARGUMENT', { detail: `intervalMs is ${intervalMs}` });
  for (;;) {
    signal?.throwIfAborted();
    const { status } = await handle.live();
    if (status === 'stopped') return;
    yield await handle.manager.stats();
    await delay(intervalMs, undefined, signal === undefined ? {} : { signal }).catch(() => {
      signal?.throwIfAborted();
    });
  }
}

export async function containerPids(handle: Handle): Promise<number[]> {
  if (handle.record === undefined || handle.destroyed) return [];
  return handle.manager.pids();
}
