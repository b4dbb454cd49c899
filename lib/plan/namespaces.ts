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
 * @param bornInCgroup clone3 carries CLONE_INTO_CGROUP, so that a new cgroup namespace has the right root at once.
 * @throws {ConfigError} ERR_UNSUPPORTED
 */
export function planNamespaces(config: Config, bornInCgroup: boolean): NamespacePlan {
  refuseUnsupported(config);
  let fresh = 0;
  // The timeNamespace step makes that one: its offsets come between unshare and the first process in it.
  for (const { type, path } of config.namespaces)
    if (path === undefined && type !== 'time') fresh |= namespaceFlags[type];

  const joins: Step[] = [];
  const entered: EnteredNamespace[] = [];
  for (const type of config.rootlessEuid === true ? joinOrderRootless : joinOrder) {
    const path = pathOf(config, type);
    if (path === undefined) continue;
    if (hasNewNamespace(config, 'user')) entered.push({ type: namespaceFlags[type], path });
    else joins.push({ kind: 'setns', type: namespaceFlags[type], path });
  }

  let late = 0;
  // A cgroup namespace takes the cgroups of its maker at that moment as its roots (cgroup_namespaces(7)).
  if (!bornInCgroup) late |= fresh & CLONE.NEWCGROUP;
  // Namespaces belong to the user namespace of their maker: made before the join, the container's root could not use them.
  if (pathOf(config, 'user') !== undefined) late |= fresh;

  const unshare: Step[] = late === 0 ? [] : [{ kind: 'unshare', flags: late }];
  const pidNamespacePath = pathOf(config, 'pid');
  const cloneFlags = fresh & ~late;
  return pidNamespacePath === undefined
    ? { cloneFlags, joins, unshare, entered }
    : { cloneFlags, joins, unshare, entered, pidNamespacePath };
}

function refuseUnsupported(config: Config): void {
  // setns(2): of these the kernel wants a process that has not more than one thread, and the host's rights.
  for (const type of ['mount', 'time'] as const) {
    if (hasNewNamespace(config, 'user') && pathOf(config, type) !== undefined)
      throw unsupported('linux.namespaces', `a ${type} namespace that is joined, below a new user namespace`);
  }
  // unshare(CLONE_NEWPID) is for children only, and a pid namespace made before the join belongs to the host's user
  // namespace: proc could not be mounted in it.
  if (pathOf(config, 'user') !== undefined && hasNewNamespace(config, 'pid')) {
    throw unsupported(
      'linux.namespaces',
      'a new pid namespace below a user namespace that is joined by path',
    );
  }
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
