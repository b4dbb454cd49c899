/**
 * Executes a process in a running container: joins its cgroups and, by the pidfd of its init, its namespaces.
 * runc's setnsProcess. Nothing is recorded on disk: the process dies with the container.
 */
import type { CgroupManager, CgroupStart } from '../cgroups/manager.ts';
import type { Config, ProcessConfig } from '../config/config.ts';
import type { Binding } from '../native/binding.ts';
import { tellSteps } from '../observe.ts';
import { encodePlan } from '../plan/encode.ts';
import { hasUserNamespace, ownerOutside, parentLimits } from '../plan/user-namespace.ts';
import type { Process } from '../process.ts';
import { startError } from './failure.ts';
import { requestedFault } from './faults.ts';
import { ParentProcess, StartFailure } from './parent-process.ts';
import { pidfdReceiver } from './pidfd-socket.ts';
import { setnsPlan } from './plans.ts';
import { prepareStdio } from './stdio.ts';

export interface SetnsRequest {
  readonly binding: Binding;
  readonly containerId: string;
  readonly directory: string;
  readonly config: Config;
  readonly manager: CgroupManager;
  readonly process: Process;
  readonly processConfig: ProcessConfig;
  readonly initPid: number;
  /** Of the container's init; this function closes it. */
  readonly pidfd: number;
  /** Two-phase exec: it waits before its program until `release()`. */
  readonly waitForRelease: boolean;
  /** When the profile notifies. */
  readonly onListener: ((fd: number, pid: number) => Promise<boolean>) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Resolves when the program executes (or waits for its release). @throws as startInit */
export async function startSetns(request: SetnsRequest): Promise<ParentProcess> {
  try {
    return await start(request);
  } finally {
    request.binding.close(request.pidfd);
  }
}

/**
 * A process that is born in a frozen cgroup is stopped before its execve, and holds all descriptors of this process until
 * it is thawed. Where the cgroup is known to be frozen init joins by itself instead. So it does with an initial CPU
 * affinity, which the cpuset of the cgroup may forbid (EINVAL, sched_setaffinity(2)) and which is for the time before.
 */
function joinedByInit({ cloneInto, ...start }: CgroupStart): CgroupStart {
  if (cloneInto === undefined) return start;
  return { ...start, joinFiles: [...start.joinFiles, `${cloneInto}/cgroup.procs`] };
}

async function start(request: SetnsRequest): Promise<ParentProcess> {
  const { binding, manager, process, processConfig, config, signal, waitForRelease } = request;
  signal?.throwIfAborted();
  const prepared = await manager.prepareExec(process.options.subCgroups ?? {}, { initPid: request.initPid });
  const joinsItself =
    process.options.ignorePaused === true || (processConfig.execCPUAffinity?.initial ?? '') !== '';
  const cgroup = joinsItself ? joinedByInit(prepared) : prepared;
  // Read now, looked at only when the start fails.
  const oomKills = manager.oomKillCount().catch(() => 0);
  const preserved = process.options.preservedFds ?? [];
  const plan = setnsPlan({
    binding,
    containerId: request.containerId,
    config,
    process: processConfig,
    cgroup,
    waitForRelease,
    preservedFds: preserved.length,
  });
  const fault = requestedFault(globalThis.process.env);
  const explain = (failure: StartFailure): Promise<unknown> =>
    startError(failure, {
      containerId: request.containerId,
      program: processConfig.args[0] ?? '',
      cwd: processConfig.cwd,
      stateDirectory: request.directory,
      cgroup,
      cgroupOffset: 0,
      oomKills: async () => (await manager.oomKillCount()) - (await oomKills),
    });
  const parent = new ParentProcess({
    binding,
    job: {
      before: cgroup.operations,
      plan: encodePlan(plan, fault),
      cloneFlags: plan.cloneFlags,
      ...(cgroup.cloneInto === undefined ? {} : { cgroup: cgroup.cloneInto }),
      ...(plan.forks === true ? { forks: true } : {}),
      preserved,
      slots: [request.pidfd],
      ...(hasUserNamespace(config)
        ? { userNamespace: { files: [], views: [], limits: parentLimits(processConfig) } }
        : {}),
      askReady: false,
      ...(process.options.front === undefined ? {} : { front: process.options.front }),
      ...(process.options.unreaped === true ? { unreaped: true } : {}),
      faults: fault !== undefined,
    },
    stdio: prepareStdio(binding, process.options, ownerOutside(config)),
    consoleSocket: process.options.consoleSocket,
    pidfdSocket: pidfdReceiver(process.options, 'setns'),
    onSync: async point => {
      await cgroup.place?.(point.pid);
      return '';
    },
    onListener: request.onListener,
    explain,
  });
  const abort = (): void => parent.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await (waitForRelease ? parent.waiting() : parent.running());
    tellSteps(request.containerId, 'exec', plan.steps, parent.durationsNs);
    return parent;
  } catch (failure) {
    if (!(failure instanceof StartFailure)) throw failure;
    throw await explain(failure);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
