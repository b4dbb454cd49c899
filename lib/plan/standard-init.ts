/**
 * The plan of a container's first process (runc's linuxStandardInit): which steps, in which order, and why. Pure: it
 * reads its arguments and nothing else. docs/start-sequence.md shows the order as a table.
 */
import type { CgroupStart } from '../cgroups/manager.ts';
import type { Config, ProcessConfig } from '../config/config.ts';
import {
  type CgroupMounts,
  deviceSteps,
  fillsDev,
  lateReadonlySteps,
  mountSteps,
  overlaySteps,
  treeRequests,
} from './mounts.ts';
import {
  hasNamespace,
  hasNewNamespace,
  makesUserLate,
  planNamespaces,
  unsupported,
  userNamespaceStep,
} from './namespaces.ts';
import { MS } from './numbers.ts';
import {
  apparmorStep,
  capabilityMasks,
  consoleStep,
  execStep,
  hookStep,
  lastPrivilegeSteps,
  memoryPolicySteps,
  personalitySteps,
  rlimitSteps,
  type SeccompProgram,
  schedulingSteps,
} from './process-steps.ts';
import type { StartPlan, Step } from './steps.ts';
import { hasUserNamespace, withHostView } from './user-namespace.ts';

/** What a plan depends on beside the configuration. */
export interface StandardInitContext {
  readonly containerId: string;
  /** Of CgroupManager.prepareStart. */
  readonly cgroup: Pick<CgroupStart, 'joinFiles' | 'cloneInto' | 'warnings' | 'place'>;
  readonly cgroupMounts: CgroupMounts;
  /** Binding.lastCapability(). */
  readonly lastCapability: number;
  /** The host has /proc/kcore, so /dev/core is made. */
  readonly hostHasKcore: boolean;
  /** Slot of the exec fifo's O_PATH descriptor; undefined: init goes on to execve by itself (`run`). */
  readonly fifoSlot?: number;
  /** Descriptors 3, 4, … that the process keeps. */
  readonly preservedFds: number;
  /** Required when the configuration has a seccomp section. */
  readonly seccomp?: SeccompProgram;
}

/** @throws {ConfigError} ERR_UNSUPPORTED, ERR_SPEC_INVALID */
export function planStandardInit(
  config: Config,
  process: ProcessConfig,
  context: StandardInitContext,
): StartPlan {
  const { cgroup, seccomp } = context;
  if (config.seccomp !== undefined && seccomp === undefined) {
    throw unsupported('linux.seccomp', 'no compiled program was given for it');
  }
  const namespaces = planNamespaces(config, cgroup.cloneInto !== undefined);
  const { steps: rootfs, views } = withHostView(config, rootfsSteps(config, context));
  const steps: Step[] = [
    ...enterSteps(config, process, context, namespaces.joins, namespaces.unshare),
    ...rootfs,
    ...switchRootSteps(config, process),
    ...(process.terminal ? [consoleStep(process, hasNamespace(config, 'mount'))] : []),
    ...finishSteps(config, process, rootfs),
    ...restrictSteps(config, process),
    // Last before `ready`: a low RLIMIT_NOFILE or RLIMIT_FSIZE would hinder init itself.
    // In a user namespace the parent sets them.
    ...(hasUserNamespace(config) ? [] : rlimitSteps(process)),
    // The parent saves pid and start time before it answers: from here on the container survives its parent.
    { kind: 'ready' },
    ...lastPrivilegeSteps(process, {
      lastCapability: context.lastCapability,
      userNamespace: hasUserNamespace(config),
      landlock: config.landlock,
      ...(seccomp === undefined ? {} : { seccomp }),
    }),
    ...(context.fifoSlot === undefined ? [] : [{ kind: 'waitStart', fifoSlot: context.fifoSlot } as const]),
    // In the container and as its user, when `start` has been asked for (runtime.md "Lifecycle", step 8).
    ...hookStep('startContainer', config.hooks.startContainer),
    execStep(process, context.preservedFds),
  ];
  const trees = treeRequests(config);
  const { unavailable } = capabilityMasks(process.capabilities, context.lastCapability);
  const warnings = [
    ...(context.cgroup.warnings ?? []),
    ...unavailable.map(name => `capability ${name} is not known here and was left out`),
  ];
  return {
    steps,
    cloneFlags: namespaces.cloneFlags,
    ...(trees.length === 0 ? {} : { trees }),
    ...(views === undefined ? {} : { views }),
    ...(namespaces.entered.length === 0 ? {} : { entered: namespaces.entered }),
    ...(namespaces.forks ? { forks: true } : {}),
    ...(namespaces.pidNamespacePath === undefined ? {} : { pidNamespacePath: namespaces.pidNamespacePath }),
    ...(warnings.length === 0 ? {} : { warnings }),
  };
}

/** The slots of a start: the exec fifo's, if there is one, then the detached mounts, then cgroup files. */
const firstTreeSlot = (fifoSlot: number | undefined): number => (fifoSlot === undefined ? 0 : fifoSlot + 1);

/** Name of the session keyring of a container's processes. */
export const sessionKeyring = (containerId: string): string => `_ses.${containerId}`;

/** Keys are labelled as the process is, so that the policy lets it use them (runc's SetKeyLabel). */
export function keyringStep(config: Config, containerId: string, { selinuxLabel = '' }: ProcessConfig): Step {
  return {
    kind: 'sessionKeyring',
    name: sessionKeyring(containerId),
    ...(selinuxLabel === '' ? {} : { label: selinuxLabel }),
    // As runc (getSessionRingParams).
    ...(hasUserNamespace(config) ? { foundByOthers: true } : {}),
  };
}

/** Into cgroups and namespaces. */
function enterSteps(
  config: Config,
  process: ProcessConfig,
  { cgroup, containerId, fifoSlot }: StandardInitContext,
  joins: readonly Step[],
  unshare: readonly Step[],
): Step[] {
  const steps: Step[] = [];
  const newUser = hasNewNamespace(config, 'user');
  // Until it has ids init is nobody.
  if (newUser && !makesUserLate(config)) steps.push(userNamespaceStep(config));
  // systemd makes a unit of a process that is there: it waits until it has been moved, before it does anything.
  if (cgroup.place !== undefined) steps.push({ kind: 'sync', name: 'cgroup' });
  // First: everything init does from here is accounted and limited. The files are host paths.
  for (const [index, file] of cgroup.joinFiles.entries()) {
    const slot = firstTreeSlot(fifoSlot) + treeRequests(config).length + index;
    steps.push(newUser ? { kind: 'joinCgroup', file, slot } : { kind: 'joinCgroup', file });
  }
  // While the host's procfs is in sight, and before a user namespace takes the right to lower it (proc_pid_oom_score_adj(5)).
  // In a new one the parent sets it.
  if (process.oomScoreAdj !== undefined && !newUser)
    steps.push({ kind: 'oomScoreAdj', value: process.oomScoreAdj });
  steps.push(...joins, ...unshare);
  // After the user namespace, whose root may make one; before anything that shows a time.
  if (hasNewNamespace(config, 'time')) steps.push({ kind: 'timeNamespace', offsets: offsetLines(config) });
  // A keyring of the container's own, else it could read its parent's session keys (session-keyring(7)). After the
  // namespaces, since keys belong to a user namespace.
  if (!config.noNewKeyring) steps.push(keyringStep(config, containerId, process));
  // Only in a network of our own: one that is joined has been set up by its owner.
  if (hasNewNamespace(config, 'network')) steps.push({ kind: 'loopback' });
  // The parent moves them, since they are the host's; before the hooks, which may look at them.
  if (config.netDevices !== undefined) steps.push({ kind: 'sync', name: 'netDevices' });
  return steps;
}

/** time_namespaces(7): one line each, `monotonic SECONDS NANOSECONDS`. */
const offsetLines = ({ timeOffsets }: Config): string =>
  Object.entries(timeOffsets ?? {})
    .map(([clock, { secs, nanosecs }]) => `${clock} ${secs} ${nanosecs}\n`)
    .join('');

/** The root file system, until the moment before it becomes `/`: host paths are still in sight as bind sources. */
function rootfsSteps(config: Config, { cgroupMounts, hostHasKcore, fifoSlot }: StandardInitContext): Step[] {
  const { hooks } = config;
  const steps: Step[] = [];
  const private_ = hasNamespace(config, 'mount');
  if (private_) {
    // Before the first mount, else it would appear on the host (mount_namespaces(7): copies of shared mounts are peers).
    steps.push({
      kind: 'propagation',
      path: '/',
      flags: firstPropagation(config),
    });
  }
  steps.push(
    // pivot_root(2) needs a mount point whose parent is not shared.
    {
      kind: 'openRootfs',
      path: config.rootfs,
      bind: private_,
      parentPropagation: private_ ? MS.PRIVATE : 0,
    },
    // Every later path resolves in it, and what is made for the mounts is made in its upper layer.
    ...overlaySteps(config),
    ...mountSteps(config, cgroupMounts, firstTreeSlot(fifoSlot)),
    // After the mounts: one of them is /dev.
    ...deviceSteps(config, hostHasKcore),
  );
  // After the mounts, before the switch of the root (runtime.md "Lifecycle"); these run in the parent.
  if (hooks.prestart.length + hooks.createRuntime.length > 0) {
    steps.push({ kind: 'sync', name: 'createRuntime' });
  }
  // These run in init, in the container's namespaces; the answer to the sync brings the state for their stdin.
  if (hooks.createContainer.length > 0) {
    steps.push({ kind: 'sync', name: 'createContainer' });
    steps.push(...hookStep('createContainer', hooks.createContainer));
  }
  return steps;
}

/** What is unbindable could be no source of ours: at first it is private. */
function firstPropagation(config: Config): number {
  if (config.rootfsPropagation === 0) return MS.SLAVE | MS.REC;
  if (isUnbindable(config)) return MS.PRIVATE | MS.REC;
  return config.rootfsPropagation;
}

function switchRootSteps(config: Config, process: ProcessConfig): Step[] {
  const steps: Step[] = [];
  if (!hasNamespace(config, 'mount')) steps.push({ kind: 'chroot' });
  else if (config.noPivotRoot) steps.push({ kind: 'moveRoot' });
  else steps.push({ kind: 'pivotRoot' });
  // Again: what the first one changed was the old root, which is gone.
  if (config.rootfsPropagation !== 0 && !isUnbindable(config)) steps.push(rootPropagation(config));
  // stdio that is the host's /dev/null would be a way to the host's devtmpfs.
  if (fillsDev(config)) steps.push({ kind: 'reopenNull' });
  // Before the root may become read-only.
  steps.push({ kind: 'makeCwd', path: process.cwd, uid: 0, gid: 0 });
  return steps;
}

/** Makes the file system what the configuration says, now that nothing more has to be made in it. */
function finishSteps(config: Config, process: ProcessConfig, rootfs: readonly Step[]): Step[] {
  const steps: Step[] = lateReadonlySteps(rootfs);
  if (config.readonlyRootfs) {
    steps.push({ kind: 'remountReadonly', path: '/', flags: MS.RDONLY, recursive: false });
  }
  if (config.hostname !== undefined && config.hostname !== '') {
    steps.push({ kind: 'hostname', name: config.hostname });
  }
  if (config.domainname !== undefined && config.domainname !== '') {
    steps.push({ kind: 'domainname', name: config.domainname });
  }
  // Takes effect at execve; written while procfs is whole.
  steps.push(...apparmorStep(process));
  // Before readonlyPaths, which make /proc/sys read-only in every default configuration.
  for (const [name, value] of Object.entries(config.sysctl)) {
    steps.push({ kind: 'sysctl', name: sysctlFile(name), value });
  }
  // Before maskedPaths: a masked path below a read-only one is covered last, and stays covered.
  for (const path of config.readonlyPaths) steps.push({ kind: 'readonlyPath', path });
  for (const path of config.maskedPaths)
    steps.push({ kind: 'maskPath', path, label: config.mountLabel ?? '' });
  // Behind the last of our own binds, which are of it.
  if (isUnbindable(config) && hasNamespace(config, 'mount')) steps.push(rootPropagation(config));
  return steps;
}

const isUnbindable = ({ rootfsPropagation }: Config): boolean => (rootfsPropagation & MS.UNBINDABLE) !== 0;
const rootPropagation = ({ rootfsPropagation }: Config): Step => ({
  kind: 'propagation',
  path: '/',
  flags: rootfsPropagation,
});

function restrictSteps(config: Config, process: ProcessConfig): Step[] {
  const steps: Step[] = [];
  if (process.noNewPrivileges) steps.push({ kind: 'noNewPrivileges' });
  steps.push(...schedulingSteps(process));
  steps.push(...personalitySteps(config), ...memoryPolicySteps(config));
  return steps;
}

/**
 * `net.ipv4.ip_forward` → `net/ipv4/ip_forward`. The first separator decides, as in sysctl(8): behind a slash, dots
 * are part of a name (`net/ipv4/conf/eth0.1/forwarding`); behind a dot, slashes are dots (`net.ipv4.conf.eth0/1.forwarding`).
 */
export function sysctlFile(name: string): string {
  const first = /[./]/.exec(name)?.[0];
  if (first !== '.') return name;
  return name.replace(/[./]/g, separator => (separator === '.' ? '/' : '.'));
}
