/**
 * Starts a container's first process: one native job does the state directory, the cgroups, the clone and the hand
 * shake with init; here are the order, the hooks, and what is taken back when any of it fails. runc's process_linux.go.
 */
import type { CgroupManager, CgroupStart } from '../cgroups/manager.ts';
import type { Config, ProcessConfig } from '../config/config.ts';
import { ContainerError } from '../errors.ts';
import type { Binding, FileOperation, SpawnJob } from '../native/binding.ts';
import { tellSteps } from '../observe.ts';
import { encodePlan } from '../plan/encode.ts';
import type { StartPlan } from '../plan/steps.ts';
import { hasUserNamespace, ownerOutside, userNamespaceJob } from '../plan/user-namespace.ts';
import type { Process } from '../process.ts';
import { fifoPath, ociState, type RecordText, statePath } from '../state.ts';
import { exitPath } from '../state-exit.ts';
import { intentPath } from '../state-intent.ts';
import { startError } from './failure.ts';
import { requestedFault } from './faults.ts';
import { runHooks } from './hooks.ts';
import { mapIds } from './id-maps.ts';
import { countOrder, ownerOrders } from './monitor-orders.ts';
import { moveNetDevices } from './net-devices.ts';
import { notifyDirectory, notifyPath } from './notify-socket.ts';
import { ParentProcess, StartFailure, type SyncPoint } from './parent-process.ts';
import { pidfdReceiver } from './pidfd-socket.ts';
import { standardPlan, templateOf } from './plans.ts';
import { prepareStdio } from './stdio.ts';

export interface InitRequest {
  readonly binding: Binding;
  readonly containerId: string;
  readonly directory: string;
  readonly config: Config;
  readonly manager: CgroupManager;
  readonly record: RecordText;
  readonly process: Process;
  readonly processConfig: ProcessConfig;
  /** init waits on exec.fifo (create) or executes at once (run). */
  readonly wait: boolean;
  /** The container has a NOTIFY_SOCKET, whose directory is made with the rest. */
  readonly notify: boolean;
  /** Called before the program can run, when `notify` is set and init does not wait. */
  readonly onReady?: ((pid: number) => void) | undefined;
  /** When the profile notifies. */
  readonly onListener: ((fd: number, pid: number) => Promise<boolean>) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly lifetime: Lifetime;
  readonly nonce: string;
}

/**
 * `container`: it outlives its daemon, and a monitor writes down how it ends; `owner`: it is removed when its daemon has
 * died; `child`: it outlives its daemon, whose child it is: its status is lost then.
 */
export type Lifetime = 'container' | 'owner' | 'child';

/** O_PATH: init opens the fifo for real through /proc/self/fd when it waits. Same value on all architectures we support. */
const openPath = 0o10000000;
/** Who may open the fifo for writing is the container's root; reading (releasing) is ours alone. */
const fifoMode = 0o622;
const writeOnly = 1;
/** mkdir, put (state.json), mkfifo when init waits; the cgroups come behind. */
const operationsBefore = (request: InitRequest): FileOperation[] => {
  const { directory, record } = request;
  const { uid, gid } = ownerOutside(request.config) ?? ownIds();
  const operations = stateCreation(directory, record);
  if (request.wait) operations.push({ op: 'mkfifo', path: fifoPath(directory), mode: fifoMode, uid, gid });
  if (request.notify)
    operations.push({ op: 'mkdir', path: notifyDirectory(directory), mode: 0o755, existing: 'error' });
  return operations;
};

export const stateCreation = (directory: string, record: RecordText): FileOperation[] => [
  // Atomic: of two processes that start the same ID one gets EEXIST. 0711: a user in the container must get to the fifo.
  { op: 'mkdir', path: directory, mode: 0o711, existing: 'error' },
  // The intent, before the first effect outside: whoever finds it after a crash knows which cgroups to remove.
  { op: 'put', path: statePath(directory), data: record.intent, mode: 0o600, sync: false },
];

/** Removes the state directory of a container that is gone or never came to be; its cgroups are removed before. */
export const stateRemoval = (directory: string): FileOperation[] => [
  // The record goes first: what is left without it is nobody's container.
  { op: 'unlink', path: statePath(directory) },
  ...leftoverRemoval(directory),
];

/** What is left when the record is gone: of a removal that was cut short, or of a start that had not written its record. */
export const leftoverRemoval = (directory: string): FileOperation[] => [
  { op: 'unlink', path: `${statePath(directory)}.tmp` },
  { op: 'unlink', path: intentPath(directory) },
  { op: 'unlink', path: fifoPath(directory) },
  { op: 'unlink', path: exitPath(directory) },
  { op: 'unlink', path: notifyPath(directory) },
  { op: 'rmdir', path: notifyDirectory(directory) },
  { op: 'rmdir', path: directory },
];

/**
 * Resolves when init waits or the program executes. On failure everything is taken back first.
 * @throws {LibcontainerError} see failure.ts; `signal.reason` when aborted
 */
export async function startInit(request: InitRequest): Promise<ParentProcess> {
  const { signal, manager, config, wait } = request;
  signal?.throwIfAborted();
  const cgroup = await manager.prepareStart(config.resources);
  const before = operationsBefore(request);
  const cgroupOffset = before.length;
  const { job, plan } = initJob(request, cgroup, [...before, ...cgroup.operations]);
  const stdio = prepareStdio(request.binding, request.process.options, ownerOutside(config));
  const explain = (failure: StartFailure): Promise<unknown> =>
    startError(failure, {
      containerId: request.containerId,
      program: request.processConfig.args[0] ?? '',
      cwd: request.processConfig.cwd,
      stateDirectory: request.directory,
      cgroup,
      cgroupOffset,
      oomKills: () => manager.oomKillCount(),
    });
  const parent = new ParentProcess({
    binding: request.binding,
    job,
    stdio,
    consoleSocket: request.process.options.consoleSocket,
    pidfdSocket: pidfdReceiver(request.process.options, 'standard'),
    onSync: point => answerSync(request, cgroup, point),
    onListener: request.onListener,
    onReady: asks(request)
      ? async pid => {
          request.onReady?.(pid);
          return stateText(request, 'created', pid);
        }
      : undefined,
    explain,
  });
  const abort = (): void => parent.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const waits = wait || request.processConfig.program === 'late';
    await (waits ? parent.waiting() : parent.running());
    tellSteps(request.containerId, 'init', plan.steps, parent.durationsNs);
    return parent;
  } catch (failure) {
    if (!(failure instanceof StartFailure)) throw failure;
    const error = await explain(failure);
    // A hook has been killed with init; whoever aborted shall not find it any more.
    if (signal?.aborted === true) await parent.answered();
    // Refused before there was a child: the spawner has undone its own operations, and a state directory that is there
    // belongs to another container.
    const stage = failure.event?.stage;
    if (stage !== 'prepare' && stage !== 'spawn') await takeBack(request, error);
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** After init is reaped. If this fails too, the intent stays on disk and `destroy()` can be tried again. */
export async function takeBack(
  request: Pick<InitRequest, 'binding' | 'manager' | 'config' | 'directory' | 'containerId'>,
  error: unknown,
): Promise<void> {
  const { manager, binding } = request;
  try {
    if (!request.config.namespaces.some(({ type, path }) => type === 'pid' && path === undefined))
      await manager.killAll(sigkill);
    await manager.destroy();
    await binding.files(stateRemoval(request.directory), false);
  } catch (second) {
    throw new ContainerError('ERR_START', request.containerId, {
      hint: 'what it left behind is still recorded: destroy the container with force',
      cause: new AggregateError([error, second], 'the start failed, and so did taking it back'),
    });
  }
}

const sigkill = 9;

function initJob(
  request: InitRequest,
  cgroup: CgroupStart,
  before: readonly FileOperation[],
): { readonly job: Omit<SpawnJob, 'stdio'>; readonly plan: StartPlan } {
  const { binding, config, processConfig, process, directory, wait, record } = request;
  const preserved = process.options.preservedFds ?? [];
  const plan = standardPlan({
    binding,
    containerId: request.containerId,
    config,
    process: processConfig,
    manager: request.manager,
    cgroup,
    wait,
    preservedFds: preserved.length,
  });
  const fault = requestedFault(globalThis.process.env);
  const job: Omit<SpawnJob, 'stdio'> = {
    before,
    plan: encodePlan(plan, fault, templateOf(plan)),
    cloneFlags: plan.cloneFlags,
    ...(cgroup.cloneInto === undefined ? {} : { cgroup: cgroup.cloneInto }),
    ...(plan.pidNamespacePath === undefined ? {} : { pidNamespace: plan.pidNamespacePath }),
    preserved,
    slots: [
      ...(wait ? [{ path: fifoPath(directory), flags: openPath }] : []),
      ...(plan.trees ?? []),
      ...joinSlots(plan),
    ],
    ...(plan.entered === undefined ? {} : { entered: plan.entered }),
    ...(plan.forks === true ? { forks: true } : {}),
    ...(hasUserNamespace(config)
      ? { userNamespace: userNamespaceJob(config, processConfig, plan, ownIds()) }
      : {}),
    stateFile: { path: statePath(directory), text: record.parts, mode: 0o600, sync: false },
    ...monitoring(request),
    ...(process.options.front === undefined ? {} : { front: process.options.front }),
    askReady: asks(request),
    ...(request.process.options.unreaped === true ? { unreaped: true } : {}),
    // Only init's own startContainer hooks read it. config.md "State": they see `created`.
    ...(config.hooks.startContainer.length > 0 ? { readyState: stateText(request, 'created', '@PID@') } : {}),
    faults: fault !== undefined,
  };
  return { job, plan };
}

const ownIds = (): { readonly uid: number; readonly gid: number } => ({
  uid: globalThis.process.geteuid?.() ?? 0,
  gid: globalThis.process.getegid?.() ?? 0,
});

/** Cgroup files that init cannot open itself. */
const joinSlots = ({ steps }: StartPlan): { readonly path: string; readonly flags: number }[] =>
  steps.flatMap(step =>
    step.kind === 'joinCgroup' && step.slot !== undefined ? [{ path: step.file, flags: writeOnly }] : [],
  );

function monitoring(request: InitRequest): Pick<SpawnJob, 'monitor'> {
  const { lifetime, directory, manager, containerId: id, nonce } = request;
  if (lifetime === 'child') return {};
  const owner =
    lifetime === 'owner' ? ownerOrders({ id, nonce, directory }, manager, stateRemoval(directory)) : '';
  return { monitor: { exitFile: exitPath(directory), orders: `${owner}${countOrder(manager)}` } };
}

const asks = (request: InitRequest): boolean => request.notify && !request.wait;

/** The pid as a number, or as the spawner's placeholder that becomes one. */
function stateText(request: InitRequest, status: 'creating' | 'created', pid: number | '@PID@'): string {
  const state = ociState({ id: request.containerId, config: request.config }, status, 0);
  return JSON.stringify(state).replace('"pid":0', `"pid":${pid}`);
}

async function answerSync(request: InitRequest, cgroup: CgroupStart, point: SyncPoint): Promise<string> {
  const { hooks, bundle, netDevices = [] } = request.config;
  if (point.name === 'cgroup') {
    await cgroup.place?.(point.pid);
    return '';
  }
  if (point.name === 'netDevices') {
    await moveNetDevices(request.binding, point, netDevices);
    return '';
  }
  if (point.name === 'userNamespace') {
    await mapIds(request.config, point.pid, request.processConfig.oomScoreAdj);
    return '';
  }
  const state = stateText(request, 'creating', point.pid);
  if (point.name === 'createRuntime')
    for (const name of ['prestart', 'createRuntime'] as const)
      await runHooks({ name, hooks: hooks[name], state, cwd: bundle, signal: request.signal });
  return state;
}
