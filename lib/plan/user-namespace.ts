/**
 * What differs for a container in a user namespace: its root is nobody on the host, so the parent writes its maps,
 * opens what it may not reach and raises its limits. user_namespaces(7), mount_namespaces(7).
 */
import type { Config, ProcessConfig } from '../config/config.ts';
import { hostRoot, isOwnIdOnly, mapText } from '../config/id-maps.ts';
import { hasNamespace, hasNewNamespace } from './namespaces.ts';
import { MOUNT_ATTR, MS } from './numbers.ts';
import { rlimitSteps } from './process-steps.ts';
import type { HostView, MountStep, StartPlan, Step } from './steps.ts';

export const hasUserNamespace = (config: Config): boolean => hasNamespace(config, 'user');

/** The parent may open what the container's root may not. */
const hasHostView = (config: Config): boolean =>
  hasUserNamespace(config) && hasNamespace(config, 'mount') && config.rootlessEuid !== true;

const isBind = (step: Step): step is MountStep =>
  step.kind === 'mount' &&
  step.treeSlot === undefined &&
  (step.flags & MS.BIND) !== 0 &&
  (step.flags & MS.REMOUNT) === 0;

/**
 * Rootfs and bind sources are opened by the parent, with its rights, in the container's mount namespace: the root of a
 * user namespace may not pass a directory that is closed to others. Mounts keep what the host has locked.
 */
export function withHostView(
  config: Config,
  steps: readonly Step[],
): { readonly steps: readonly Step[]; readonly views?: readonly HostView[] } {
  if (!hasHostView(config)) return { steps };
  const views: HostView[] = [];
  const viewed = steps.map((step): Step => {
    if (step.kind === 'openRootfs') {
      views.push({ path: step.path, tree: false, recursive: false });
      return { ...step, view: views.length - 1 };
    }
    if (step.kind === 'overlay') {
      const layers = [...step.lower, step.upper, step.work].filter(path => path !== undefined);
      views.push(...layers.map(path => ({ path, tree: false, recursive: false })));
      return { ...step, views: layers.map((_, index) => views.length - layers.length + index) };
    }
    if (!isBind(step)) return step;
    views.push({ path: step.source, tree: true, recursive: (step.flags & MS.REC) !== 0 });
    return { ...step, view: views.length - 1 };
  });
  const at = viewed.findIndex(({ kind }) => kind === 'openRootfs');
  const asked: Step = { kind: 'hostView', count: views.length };
  return { steps: [...viewed.slice(0, at), asked, ...viewed.slice(at)], views };
}

/**
 * sysfs shows a network namespace and is mounted by the root of the user namespace that owns that (sysfs(5)): without one
 * of the container's own, the host's is bound. All of it: a mount below that the host locked cannot be left out.
 */
export function boundSysfs(config: Config, step: MountStep): MountStep {
  if (step.type !== 'sysfs' || !hasUserNamespace(config) || hasNamespace(config, 'network')) return step;
  const readonly = (step.flags & MS.RDONLY) !== 0;
  return {
    ...step,
    type: 'bind',
    source: '/sys',
    data: '',
    flags: step.flags | MS.BIND | MS.REC,
    // The cgroups below would be writable else (CVE-2023-25809).
    recursiveSet: step.recursiveSet | (readonly ? MOUNT_ATTR.RDONLY : 0),
  };
}

/** SpawnJob.userNamespace. */
export interface UserNamespaceJob {
  /** Below /proc/PID, written in this order. Empty: newuidmap and newgidmap do it. */
  readonly files: readonly { readonly name: string; readonly data: string }[];
  readonly views: readonly HostView[];
  readonly limits: readonly { readonly resource: number; readonly soft: bigint; readonly hard: bigint }[];
}

/** Maps that a caller without privileges may not write itself. */
export const needsMappingTools = (
  config: Config,
  ids: { readonly uid: number; readonly gid: number },
): boolean =>
  config.rootlessEuid === true &&
  hasNewNamespace(config, 'user') &&
  !(isOwnIdOnly(config.uidMappings ?? [], ids.uid) && isOwnIdOnly(config.gidMappings ?? [], ids.gid));

export function userNamespaceJob(
  config: Config,
  process: ProcessConfig,
  plan: StartPlan,
  ids: { readonly uid: number; readonly gid: number },
): UserNamespaceJob {
  const files: { name: string; data: string }[] = [];
  if (hasNewNamespace(config, 'user') && !needsMappingTools(config, ids)) {
    // As the host's root still: to lower it needs CAP_SYS_RESOURCE there (proc_pid_oom_score_adj(5)).
    if (process.oomScoreAdj !== undefined)
      files.push({ name: 'oom_score_adj', data: String(process.oomScoreAdj) });
    // user_namespaces(7): without privileges the gid map needs it, since dropping a group could give access.
    if (config.rootlessEuid === true) files.push({ name: 'setgroups', data: 'deny' });
    files.push({ name: 'uid_map', data: mapText(config.uidMappings ?? []) });
    files.push({ name: 'gid_map', data: mapText(config.gidMappings ?? []) });
  }
  return { files, views: plan.views ?? [], limits: parentLimits(process) };
}

/** Above a hard limit only the host's root may go (setrlimit(2)). */
export const parentLimits = (process: ProcessConfig): UserNamespaceJob['limits'] =>
  rlimitSteps(process).flatMap(step =>
    step.kind === 'rlimit' ? [{ resource: step.resource, soft: step.soft, hard: step.hard }] : [],
  );

/** Owner of what is made for the container outside: its root there, where we may give it away. */
export function ownerOutside(config: Config): { readonly uid: number; readonly gid: number } | undefined {
  return hasUserNamespace(config) && config.rootlessEuid !== true ? hostRoot(config) : undefined;
}
