/**
 * What a process that was killed in the middle of an operation has left in a container that lives on: an intent, the
 * temporary file of a record, an exec fifo that was read. Everything here runs under the container's lock.
 */
import { existsSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Handle } from './container-handle.ts';
import { saveRecord } from './container-live.ts';
import { LibcontainerError } from './errors.ts';
import { fifoPath, statePath } from './state.ts';
import {
  type Intent,
  intentPath,
  type OwnedIntent,
  readIntent,
  removeIntent,
  writeIntent,
} from './state-intent.ts';

const sigkill = 9;
const temporary = (handle: Handle): string => `${statePath(handle.directory)}.tmp`;

/** Cheap, without the lock: whether there is something to look at. */
export const needsRecovery = (handle: Handle): boolean =>
  existsSync(intentPath(handle.directory)) ||
  (isMade(handle) && existsSync(temporary(handle))) ||
  fifoWasRead(handle);

/** Before the pid is recorded the start, which holds no lock, writes these files. */
const isMade = (handle: Handle): boolean => (handle.record?.init_process_pid ?? 0) > 0;

/** As /proc shows an init that has not executed its program: the arguments that the spawner gives it. */
const initArguments = /^init\0\d+\0\d+\0\d+\0$/;

/**
 * Whether this process executes its program. The fifo alone cannot tell: who released the container may have been killed
 * before it removed the fifo. A process that is on its way out has no arguments any more: then the fifo decides.
 */
export function executesProgram(pid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
    return words !== '' && !initArguments.test(words);
  } catch {
    return false; // gone
  }
}

function fifoWasRead(handle: Handle): boolean {
  const { record } = handle;
  if (record === undefined || !isMade(handle) || !existsSync(fifoPath(handle.directory))) return false;
  const { init_process_pid: pid, init_process_start: start } = record;
  return handle.binding.startTime(pid) === BigInt(start) && executesProgram(pid);
}

/** Under the lock: nobody else's operation is under way, except a signal, whose owner is then alive. */
export async function recover(handle: Handle): Promise<void> {
  const intent = readIntent(handle.directory);
  if (
    intent !== undefined &&
    (intent === 'torn' || handle.binding.startTime(intent.pid) !== BigInt(intent.start))
  ) {
    // Whoever destroys finishes that too; any other operation may still see it.
    if (intent !== 'torn' && intent.operation === 'destroy') return;
    if (intent !== 'torn') await finish(handle, intent);
    removeIntent(handle.directory);
  }
  if (isMade(handle)) removeIfThere(temporary(handle));
  if (fifoWasRead(handle)) removeIfThere(fifoPath(handle.directory));
}

/** Pid and start time of the CRIU that works on the container. */
export const criuPath = (handle: Handle): string => join(handle.directory, 'criu.json');

async function finish(handle: Handle, intent: OwnedIntent): Promise<void> {
  if (intent.operation === 'checkpoint') {
    const { finishCheckpoint } = await import('./container-checkpoint.ts');
    await finishCheckpoint(handle, intent);
    return;
  }
  if (intent.operation === 'signal' && intent.signal === sigkill) {
    await handle.manager.killAll(sigkill);
    return;
  }
  if (intent.operation !== 'set') {
    await handle.manager.thaw();
    return;
  }
  const { config, record } = handle;
  // Removed when the container was: nothing can be limited any more.
  if (record === undefined || !(await handle.manager.exists())) return;
  const skip = intent.skipDevices ? { skipDevices: true } : {};
  try {
    // Forwards: which of the writes were done is not known, and the former limits need not name what was changed.
    await handle.manager.set(intent.resources, config.resources, skip);
    const { intelRdt } = intent;
    if (intelRdt !== undefined) await handle.manager.resctrl?.set(intelRdt);
    const rdt = intelRdt === undefined ? {} : { intelRdt };
    await saveRecord(handle, { ...record, config: { ...config, resources: intent.resources, ...rdt } });
  } catch (error) {
    if (!(error instanceof LibcontainerError)) throw error;
    // Refused by the kernel, as it would have been then, or half removed.
    await handle.manager.set(config.resources, intent.resources, skip).catch(() => undefined);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

/** A destroy was begun whose process is gone. */
export function isHalfDestroyed(handle: Handle): boolean {
  const intent = readIntent(handle.directory);
  if (intent === undefined || intent === 'torn' || intent.operation !== 'destroy') return false;
  return handle.binding.startTime(intent.pid) !== BigInt(intent.start);
}

/** Does `work` with its intent on disk. */
export async function intending<T>(handle: Handle, intent: Intent, work: () => Promise<T>): Promise<T> {
  const mine = writeIntent(handle.directory, intent, handle.self);
  try {
    return await work();
  } finally {
    if (mine) removeIntent(handle.directory);
  }
}

/**
 * The signal to every process. The cgroups are frozen for a moment meanwhile; a container that is to live on must not stay
 * so. Without the lock: a signal must get through to a container whose operation hangs.
 */
export async function signalEveryone(handle: Handle, signal: number): Promise<void> {
  const recorded = handle.record !== undefined && existsSync(statePath(handle.directory));
  const paused = (await handle.manager.freezerState()) === 'frozen';
  if (!recorded || paused) await handle.manager.killAll(signal);
  else await intending(handle, { operation: 'signal', signal }, () => handle.manager.killAll(signal));
}
