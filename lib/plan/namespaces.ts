/**
 * Which namespaces clone3 makes, which init joins by path and which it makes itself, and in what order.
 * namespaces(7), user_namespaces(7), cgroup_namespaces(7), setns(2).
 */
import type { Config, NamespaceType } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import { CLONE, namespaceFlags } from './numbers.ts';
import type { EnteredNamespace, Step } from './steps.ts';

export interface NamespacePlan {
  readonly cloneFlags: number;
  /** setns steps: they come after the cgroup is joined and before `unshare`. */
  readonly joins: readonly Step[];
  /** What clone3 could not carry. */
  readonly unshare: readonly Step[];
  readonly pidNamespacePath?: string;
  readonly entered: readonly EnteredNamespace[];
  /** The container's first process is made by the one that was cloned (the firstInside step). */
  readonly forks: boolean;
}

/**
 * For root the user namespace comes behind those that may be the host's, over which its members have no rights. Without
 * privileges it is first: joining it gives the capabilities over the namespaces that it owns. The mount namespace is
 * last: the paths of the others are host paths, which it may not have.
 */
const joinOrder: readonly NamespaceType[] = ['ipc', 'uts', 'network', 'cgroup', 'time', 'user', 'mount'];
const joinOrderRootless: readonly NamespaceType[] = ['user', ...joinOrder.filter(type => type !== 'user')];

export const hasNamespace = (config: Config, type: NamespaceType): boolean =>
  config.namespaces.some(namespace => namespace.type === type);

/** True for a namespace that is made for this container. */
export const hasNewNamespace = (config: Config, type: NamespaceType): boolean =>
  config.namespaces.some(namespace => namespace.type === type && namespace.path === undefined);

const pathOf = (config: Config, type: NamespaceType): string | undefined =>
  config.namespaces.find(namespace => namespace.type === type)?.path;

/**
 * A time namespace is joined by a process with one thread (setns(2)) that has rights over it: by init before it makes the
 * user namespace, in which it has none. Else init is born in that, and the others are entered for its clone.
 */
export const makesUserLate = (config: Config): boolean =>
  hasNewNamespace(config, 'user') && pathOf(config, 'time') !== undefined;

/** The parent writes the maps. */
export const userNamespaceStep = ({ rootlessEuid }: Config): Step => ({
  kind: 'userNamespace',
  dumpable: rootlessEuid === true,
});

/**
 * @param bornInCgroup clone3 carries CLONE_INTO_CGROUP, so that a new cgroup namespace has the right root at once.
 * @throws {ConfigError} ERR_UNSUPPORTED
 */
export function planNamespaces(config: Config, bornInCgroup: boolean): NamespacePlan {
  refuseUnsupported(config);
  let fresh = 0;
  // The timeNamespace step makes that one: its offsets come between unshare and the first process in it.
  for (const { type, path } of config.namespaces)
    if (path === undefined && type !== 'time') fresh |= namespaceFlags[type];

  const userLate = makesUserLate(config);
  const joins: Step[] = [];
  const entered: EnteredNamespace[] = [];
  for (const type of config.rootlessEuid === true ? joinOrderRootless : joinOrder) {
    const path = pathOf(config, type);
    if (path === undefined) continue;
    if (hasNewNamespace(config, 'user') && !userLate) entered.push({ type: namespaceFlags[type], path });
    else joins.push({ kind: 'setns', type: namespaceFlags[type], path });
  }

  let late = 0;
  // A cgroup namespace takes the cgroups of its maker at that moment as its roots (cgroup_namespaces(7)).
  if (!bornInCgroup) late |= fresh & CLONE.NEWCGROUP;
  // Namespaces belong to the user namespace of their maker: made before the join, the container's root could not use them.
  if (pathOf(config, 'user') !== undefined || userLate) late |= fresh;

  const unshare: Step[] = [];
  if (userLate) {
    unshare.push({ kind: 'unshare', flags: CLONE.NEWUSER }, userNamespaceStep(config));
    late &= ~CLONE.NEWUSER;
  }
  if (late !== 0) unshare.push({ kind: 'unshare', flags: late });
  // unshare(2): of a new pid namespace children are members, not who made it.
  const forks = (late & CLONE.NEWPID) !== 0;
  if (forks) unshare.push({ kind: 'firstInside' });
  const pidNamespacePath = pathOf(config, 'pid');
  const cloneFlags = userLate ? 0 : fresh & ~late;
  return {
    cloneFlags,
    joins,
    unshare,
    entered,
    forks,
    ...(pidNamespacePath === undefined ? {} : { pidNamespacePath }),
  };
}

function refuseUnsupported(config: Config): void {
  // It belongs to a user namespace that was there before: mount(2) and pivot_root(2) want CAP_SYS_ADMIN in that one,
  // which nobody in a younger one has (user_namespaces(7)). runc's init fails in it with EPERM.
  if (hasNewNamespace(config, 'user') && pathOf(config, 'mount') !== undefined)
    throw unsupported('linux.namespaces', 'a mount namespace that is joined, below a new user namespace');
  if (hasNamespace(config, 'mount')) return;
  // They would change the host's mounts and outlive the container.
  const needMounts: readonly (readonly [string, boolean])[] = [
    ['mounts', config.mounts.length > 0],
    ['root.readonly', config.readonlyRootfs],
    ['linux.rootfsPropagation', config.rootfsPropagation !== 0],
    ['linux.maskedPaths', config.maskedPaths.length > 0],
    ['linux.readonlyPaths', config.readonlyPaths.length > 0],
  ];
  for (const [path, present] of needMounts) {
    if (present) throw unsupported(path, 'it needs a mount namespace');
  }
}

export function unsupported(path: string, message: string): ConfigError {
  return new ConfigError('ERR_UNSUPPORTED', { issues: [{ path, message }] });
}
