/** The choice of the driver: for a new container from its configuration, for one of state.json from its paths. */
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import { hostId } from '../config/id-maps.ts';
import { CgroupError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { containerDirectory, hostLayout, type Layout } from './layout.ts';
import type { CgroupManager } from './manager.ts';
import { canMake, canMakeUnified, withoutDeviceRules } from './reduced.ts';
import { ResctrlGroup, resctrlRoot } from './resctrl.ts';
import { V1Manager } from './v1/manager.ts';
import { delegatee } from './v2/delegation.ts';
import { V2Manager } from './v2/manager.ts';
import { withResctrl } from './with-resctrl.ts';

/**
 * The cgroups of a new container, made by the file system driver (`newSystemdCgroups` is for `systemdCgroup`).
 * Nothing is made yet.
 * @param owner Host uid that is to own the cgroup (v2): see ownerOf. Default: ours.
 * @throws {CgroupError} ERR_CGROUP_LAYOUT, ERR_CGROUP (a cgroupsPath that escapes)
 */
export function newCgroups(
  binding: Binding,
  id: string,
  config: Pick<Config, 'cgroupsPath' | 'resources' | 'systemdCgroup' | 'rootlessCgroups' | 'rootlessEuid'>,
  host: Layout = hostLayout(),
  owner?: number,
): CgroupManager {
  const given = config.cgroupsPath !== undefined && config.cgroupsPath !== '';
  const manager =
    config.rootlessCgroups === true && !given
      ? reduced(binding, id, config, host)
      : atPath(binding, config, host, given ? (config.cgroupsPath ?? '') : `/${id}`, owner);
  const noDevices =
    config.rootlessCgroups === true && (manager.paths.devices ?? manager.paths['']) === undefined;
  return config.rootlessEuid === true || noDevices ? withoutDeviceRules(manager) : manager;
}

/** Below our own cgroup, where it is delegated to us. Without any, limits are refused by name when they are written. */
function reduced(
  binding: Binding,
  id: string,
  config: Pick<Config, 'resources'>,
  host: Layout,
): CgroupManager {
  if (host.kind === 'v2' && host.v2 !== undefined) {
    const directory = containerDirectory(host, host.v2, id);
    return canMakeUnified(directory)
      ? new V2Manager(binding, host, directory)
      : new V1Manager(binding, host, {});
  }
  const all = v1Paths(host, id, config.resources);
  return new V1Manager(
    binding,
    host,
    Object.fromEntries(Object.entries(all).filter(([, directory]) => canMake(directory))),
  );
}

function atPath(
  binding: Binding,
  config: Pick<Config, 'resources' | 'systemdCgroup'>,
  host: Layout,
  cgroupsPath: string,
  owner: number | undefined,
): CgroupManager {
  if (host.kind === 'v2' && host.v2 !== undefined)
    return new V2Manager(binding, host, containerDirectory(host, host.v2, cgroupsPath), owner);
  const paths = v1Paths(host, cgroupsPath, config.resources);
  // On a hybrid host systemd looks there for who belongs to a unit: an exec must join it too. The key is runc's.
  if (config.systemdCgroup && host.v2 !== undefined)
    paths[''] = containerDirectory(host, host.v2, cgroupsPath);
  return new V1Manager(binding, host, paths);
}

function v1Paths(
  host: Layout,
  cgroupsPath: string,
  resources: Config['resources'],
): { [controller: string]: string } {
  const paths: { [controller: string]: string } = {};
  for (const hierarchy of host.v1) {
    const directory = containerDirectory(host, hierarchy, cgroupsPath);
    for (const controller of hierarchy.controllers) paths[controller] = directory;
  }
  for (const controller of unifiedControllers(resources)) {
    if (host.v2 !== undefined && paths[controller] === undefined)
      paths[controller] = containerDirectory(host, host.v2, cgroupsPath);
  }
  return paths;
}

/** On a hybrid host these may live in the unified hierarchy; the container joins it only when they are asked for. */
function unifiedControllers(resources: Config['resources']): string[] {
  const wanted: string[] = [];
  if ((resources.hugepageLimits?.length ?? 0) > 0) wanted.push('hugetlb');
  if (Object.keys(resources.rdma ?? {}).length > 0) wanted.push('rdma');
  return wanted;
}

/** The cgroups that a state file names (`cgroup_paths`). A path outside of the cgroup mounts is refused. */
export function loadCgroups(
  binding: Binding,
  paths: { readonly [controller: string]: string },
  host: Layout = hostLayout(),
): CgroupManager {
  const mounts = [...host.v1, ...(host.v2 === undefined ? [] : [host.v2])].map(h => h.mountPoint);
  for (const [controller, path] of Object.entries(paths)) {
    // destroy() removes directories: a damaged or forged state file must not aim it elsewhere.
    const inside = mounts.some(mount => path.startsWith(`${mount}/`)) && join(path) === path;
    if (!inside)
      throw new CgroupError('ERR_CGROUP', {
        file: `cgroup_paths[${JSON.stringify(controller)}]`,
        value: path,
      });
  }
  const { '': unified, ...others } = paths;
  return unified === undefined || Object.keys(others).length > 0
    ? new V1Manager(binding, host, paths)
    : new V2Manager(binding, host, unified);
}

/**
 * The same cgroups with the resctrl group that linux.intelRdt asks for; unchanged when it asks for none.
 * @param root Where resctrl is mounted. Default: looked up.
 * @param made Of a container from a state file: whether its group goes with it.
 * @throws {CgroupError} ERR_UNSUPPORTED: no resctrl file system is mounted
 */
export function withIntelRdt(
  manager: CgroupManager,
  id: string,
  config: Pick<Config, 'intelRdt'>,
  {
    root = resctrlRootOf(config),
    made,
  }: { readonly root?: string | undefined; readonly made?: boolean } = {},
): CgroupManager {
  const { intelRdt } = config;
  if (intelRdt === undefined) return manager;
  if (root !== undefined) return withResctrl(manager, new ResctrlGroup(root, id, intelRdt, made));
  // A mount that is gone has taken the groups along: nothing is left to be removed.
  if (made !== undefined) return manager;
  throw new CgroupError(
    'ERR_UNSUPPORTED',
    { file: 'linux.intelRdt' },
    {
      detail: 'linux.intelRdt: no resctrl file system is mounted',
      hint: 'mount -t resctrl resctrl /sys/fs/resctrl, on a processor with Intel RDT or AMD QoS',
    },
  );
}

const resctrlRootOf = ({ intelRdt }: Pick<Config, 'intelRdt'>): string | undefined =>
  intelRdt === undefined ? undefined : resctrlRoot();

type Owned = Pick<Config, 'namespaces' | 'mounts' | 'process' | 'uidMappings'>;

/** The host uid to which a container's cgroup is delegated; undefined: it stays ours. Only root can give it away. */
export function ownerOf(config: Owned): number | undefined {
  const own = process.geteuid?.();
  const inside = delegatee(config);
  // In a user namespace that is joined, whose maps were not read yet, the uid may be anybody's.
  const unknown = config.uidMappings === undefined && config.namespaces.some(({ type }) => type === 'user');
  if (own !== 0 || inside === undefined || unknown) return undefined;
  const uid = hostId(config.uidMappings, inside);
  return uid === own ? undefined : uid;
}
