/**
 * The plan of a process that is exec'd into a running container (runc's linuxSetnsInit). Pure. A first stage, which the
 * container cannot see, joins everything and gives up its privileges; the process that it then makes in the container's
 * pid namespace has, from its first instruction, nothing that the container does not have (docs/adr/0008).
 */
import type { CgroupStart } from '../cgroups/manager.ts';
import type { Config, ProcessConfig } from '../config/config.ts';
import { hasNamespace, unsupported } from './namespaces.ts';
import { namespaceFlags } from './numbers.ts';
import {
  affinityStep,
  apparmorStep,
  capabilityMasks,
  consoleStep,
  execStep,
  lastPrivilegeSteps,
  memoryPolicySteps,
  personalitySteps,
  rlimitSteps,
  type SeccompProgram,
  schedulingSteps,
} from './process-steps.ts';
import { keyringStep } from './standard-init.ts';
import type { StartPlan, Step } from './steps.ts';
import { hasUserNamespace } from './user-namespace.ts';

export interface SetnsInitContext {
  readonly containerId: string;
  /** Of CgroupManager.prepareExec. */
  readonly cgroup: Pick<CgroupStart, 'joinFiles' | 'cloneInto' | 'place'>;
  readonly lastCapability: number;
  /** Slot of the pidfd of the container's init. */
  readonly pidfdSlot: number;
  readonly preservedFds: number;
  readonly seccomp?: SeccompProgram;
  /** Two-phase exec: the process waits before execve until it is released. */
  readonly waitForRelease: boolean;
}

/** @throws {ConfigError} ERR_UNSUPPORTED, ERR_SPEC_INVALID */
export function planSetnsInit(config: Config, process: ProcessConfig, context: SetnsInitContext): StartPlan {
  const { cgroup, seccomp, pidfdSlot } = context;
  if (config.seccomp !== undefined && seccomp === undefined) {
    throw unsupported('linux.seccomp', 'no compiled program was given for it');
  }
  const affinity = process.execCPUAffinity;
  // setns(2) with a pidfd takes them all at once and orders them itself. The pid namespace applies to children only.
  let namespaces = 0;
  for (const { type } of config.namespaces) namespaces |= namespaceFlags[type];
  const forks = hasNamespace(config, 'pid');
  const late = forks && !needsPrivilegesInside(process, seccomp !== undefined);
  // Of one in a user namespace the parent sets them (RLIMIT_* above the hard ones need a privilege on the host).
  const limits = hasUserNamespace(config) ? [] : rlimitSteps(process);
  // The clone needs a descriptor for the pidfd; to lower a limit needs no privilege.
  const tooLow = (step: Step): boolean =>
    step.kind === 'rlimit' && step.name === 'RLIMIT_NOFILE' && step.soft < 64n;
  const fork: readonly Step[] = [{ kind: 'forkInto' }, ...(late ? limits.filter(tooLow) : [])];

  const steps: Step[] = [
    // config.md execCPUAffinity: before the cgroup is joined, whose cpuset may forbid it.
    ...affinityStep(affinity?.initial, 'process.execCPUAffinity.initial'),
    ...(cgroup.place === undefined ? [] : [{ kind: 'sync', name: 'cgroup' } as const]),
    // The files are host paths, so before the mount namespace.
    ...cgroup.joinFiles.map(file => ({ kind: 'joinCgroup', file }) as const),
    ...affinityStep(affinity?.final, 'process.execCPUAffinity.final'),
  ];
  if (process.oomScoreAdj !== undefined) steps.push({ kind: 'oomScoreAdj', value: process.oomScoreAdj });
  if (namespaces !== 0) steps.push({ kind: 'setns', type: namespaces, slot: pidfdSlot });
  // Without a mount namespace no setns changes the root: the process would run in the host's files, while the
  // container is in a chroot.
  if (!hasNamespace(config, 'mount')) {
    steps.push({ kind: 'openRootfs', path: config.rootfs, bind: false, parentPropagation: 0 });
    steps.push({ kind: 'chroot' });
  }
  // The container's own keyring, by its name.
  if (!config.noNewKeyring) steps.push(keyringStep(config, context.containerId, process));
  if (process.terminal) {
    // /dev/console is the terminal of the container's first process.
    steps.push(consoleStep(process, false));
  }
  if (process.noNewPrivileges) steps.push({ kind: 'noNewPrivileges' });
  steps.push(
    ...(forks && !late ? fork : []),
    ...schedulingSteps(process),
    ...personalitySteps(config),
    ...memoryPolicySteps(config),
    ...(late ? limits.filter(step => !tooLow(step)) : limits),
    // With forkInto the parent is asked anyway.
    ...(forks ? [] : [{ kind: 'ready' } as const]),
  );

  // After the user's change, unlike in a container's start: the profile of a running container may forbid what
  // comes before (runc's linuxSetnsInit).
  steps.push(
    ...lastPrivilegeSteps(process, {
      lastCapability: context.lastCapability,
      userNamespace: hasUserNamespace(config),
      landlock: config.landlock,
      label: apparmorStep(process),
      ...(late ? { fork } : {}),
      ...(seccomp === undefined ? {} : { seccomp }),
    }),
    ...(context.waitForRelease ? [{ kind: 'waitStart' } as const] : []),
    execStep(process, context.preservedFds),
  );
  const { unavailable } = capabilityMasks(process.capabilities, context.lastCapability);
  return {
    steps,
    cloneFlags: 0,
    forks,
    ...(unavailable.length === 0
      ? {}
      : { warnings: unavailable.map(name => `capability ${name} is not known here and was left out`) }),
  };
}

/**
 * A filter without no_new_privs needs CAP_SYS_ADMIN when it is loaded, and behind it the clone might be forbidden; a child
 * does not get the scheduling of its parent with SCHED_FLAG_RESET_ON_FORK, nor may a SCHED_DEADLINE task have one
 * (sched(7)). The second stage must then hold all privileges for a moment.
 */
function needsPrivilegesInside({ noNewPrivileges, scheduler }: ProcessConfig, filter: boolean): boolean {
  const own =
    scheduler?.policy === 'SCHED_DEADLINE' || scheduler?.flags?.includes('SCHED_FLAG_RESET_ON_FORK') === true;
  return (filter && !noNewPrivileges) || own;
}
