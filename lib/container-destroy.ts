/** destroy(): removes all traces of a container, in the order that lets a second try finish what a first one left. */
import type { DestroyOptions } from './container.ts';
import { endInit } from './container-exec.ts';
import type { Handle, LiveState } from './container-handle.ts';
import { signalEveryone } from './container-recover.ts';
import { ContainerError } from './errors.ts';
import { assertAllowed } from './lifecycle.ts';
import { runHooks } from './parent/hooks.ts';
import { stateRemoval } from './parent/init-process.ts';
import { ociState, recordStart } from './state.ts';
import { removeIntent, writeIntent } from './state-intent.ts';

/**
 * runc's rules: a stopped container is removed, a created one is killed first, any other only with `force`.
 * The cgroups go before the record that names them; poststop hooks come last and see `stopped`.
 */
export async function destroyContainer(handle: Handle, options: DestroyOptions): Promise<void> {
  const { force = false, signal } = options;
  if (handle.destroyed) {
    if (force) return;
    throw new ContainerError('ERR_CONTAINER_NOT_EXIST', handle.id);
  }
  // Never started: there is nothing on disk.
  if (handle.record === undefined) {
    if (handle.starting) throw new ContainerError('ERR_CONTAINER_BUSY', handle.id, { status: 'creating' });
    finish(handle);
    return;
  }
  try {
    if (!(await removeQuickly(handle))) await handle.locked(() => remove(handle, force), signal);
  } catch (error) {
    const gone = error instanceof ContainerError && error.code === 'ERR_CONTAINER_NOT_EXIST';
    if (gone) finish(handle);
    if (!gone || !force) throw error;
    return;
  }
  finish(handle);
  const { poststop } = handle.config.hooks;
  if (poststop.length > 0) {
    const state = JSON.stringify(ociState(handle, 'stopped', 0));
    await runHooks({ name: 'poststop', hooks: poststop, state, cwd: handle.config.bundle, signal });
  }
}

/**
 * The usual end of a container that this object has run: its init is reaped, and with it every process of its pid
 * namespace. One native job takes the lock, looks whose directory it is, and removes all. False: not such a case, or not
 * so easy; then the long way, which may be taken at any point of this one.
 */
async function removeQuickly(handle: Handle): Promise<boolean> {
  const { init, record, directory, manager } = handle;
  const { removal } = manager;
  if (init?.exitStatus === undefined || record === undefined || removal === undefined) return false;
  if (!handle.hasPrivatePids) return false;
  await handle.reporting;
  const lock = { op: 'lock', path: directory, record: recordStart(handle.id, record.nonce) } as const;
  try {
    await handle.binding.files([lock, ...removal, ...stateRemoval(directory)], false);
    return true;
  } catch {
    return false;
  }
}

async function remove(handle: Handle, force: boolean): Promise<void> {
  const live = await handle.live();
  if (!force) assertAllowed('destroy', handle.id, live.status);
  // Removed with the state directory: afterwards the ID may be another container's.
  const mine = writeIntent(handle.directory, { operation: 'destroy' }, handle.self);
  try {
    await removeAll(handle, live);
  } catch (error) {
    if (mine) removeIntent(handle.directory);
    throw error;
  }
}

async function removeAll(handle: Handle, live: LiveState): Promise<void> {
  if (live.status === 'stopped') {
    // Without a pid namespace of its own, processes of the container outlive init. After a crash of who created it,
    // a half-made init may be in the cgroups.
    if (!handle.hasPrivatePids || handle.record?.init_process_pid === 0) await signalEveryone(handle, 9);
  } else if (live.pid === 0) await signalEveryone(handle, 9);
  else await endInit(handle);
  await handle.reporting;
  await handle.manager.destroy();
  await handle.binding.files(stateRemoval(handle.directory), false);
}

function finish(handle: Handle): void {
  handle.destroyed = true;
  for (const close of [...handle.closers]) close();
  handle.root.release(handle);
  handle.emitter.emit('destroyed');
}
