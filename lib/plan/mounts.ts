/**
 * The root file system: its mounts in the order of the configuration, the container's own cgroups, /dev, and the
 * read-only remounts that must wait until /dev is filled.
 */
import type { CgroupLayout, CgroupMountRow } from '../cgroups/manager.ts';
import type { Config, IdMapping, Mount } from '../config/config.ts';
import { hasNamespace } from './namespaces.ts';
import { MS } from './numbers.ts';
import type { MountStep, Step, TreeRequest } from './steps.ts';
import { boundSysfs } from './user-namespace.ts';

export interface CgroupMounts {
  readonly layout: CgroupLayout;
  readonly rows: readonly CgroupMountRow[];
}

/** `/dev/../dev/` is `/dev`: destinations are compared in this form only, never opened by it. */
export function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

/** runc's rule: /dev is ours to fill unless it is a bind mount, which is somebody else's directory. */
export const fillsDev = (config: Config): boolean =>
  !config.mounts.some(mount => mount.type === 'bind' && cleanPath(mount.destination) === '/dev');

const isLateReadonly = (mount: Mount): boolean =>
  (mount.flags & MS.RDONLY) !== 0 && (mount.type === 'tmpfs' || cleanPath(mount.destination) === '/dev');

/** The layers that lie on the rootfs. In a user namespace overlayfs keeps its marks in user.* attributes (Linux 5.11). */
export function overlaySteps(config: Config): Step[] {
  if (config.overlay === undefined) return [];
  const { lower, upper, work, sizeBytes } = config.overlay;
  const options = hasNamespace(config, 'user') ? 'userxattr' : '';
  const { mountLabel: label = '' } = config;
  return [
    {
      kind: 'overlay',
      path: config.rootfs,
      lower,
      ...(upper === undefined ? {} : { upper }),
      ...(work === undefined ? {} : { work }),
      data: label === '' ? options : withContext(options, label),
      memory: upper === undefined ? `mode=700${sizeBytes === undefined ? '' : `,size=${sizeBytes}`}` : '',
    },
  ];
}

/** @param firstTree Slot of the first detached mount of `treeRequests`. */
export function mountSteps(config: Config, cgroup: CgroupMounts, firstTree: number): Step[] {
  const steps: Step[] = [];
  let tree = firstTree;
  for (const mount of config.mounts) {
    if (mount.type === 'cgroup') steps.push(...cgroupMountSteps(config, mount, cgroup));
    else if (mount.idmap !== undefined) steps.push({ ...mountStep(mount), treeSlot: tree++ });
    else steps.push(labelled(boundSysfs(config, mountStep(mount)), config.mountLabel));
  }
  return steps;
}

/** Commas of an MCS label belong to the value, hence the quotes (runc's FormatMountLabel). */
const withContext = (data: string, label: string): string =>
  `${data === '' ? '' : `${data},`}context="${label}"`;

/**
 * linux.mountLabel, as in runc: proc and sysfs have the policy's own labels, a bind mount those of its files; mqueue
 * knows no option for it.
 */
function labelled(step: MountStep, label = ''): MountStep {
  const own = step.type === 'bind' || step.type === 'proc' || step.type === 'sysfs';
  if (label === '' || own || (step.flags & (MS.BIND | MS.REMOUNT)) !== 0) return step;
  return step.type === 'mqueue' ? { ...step, label } : { ...step, data: withContext(step.data, label) };
}

const mapLines = (rows: readonly IdMapping[]): string =>
  rows.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('');

/** The idmapped mounts, in the order of the configuration. */
export function treeRequests(config: Config): TreeRequest[] {
  return config.mounts.flatMap(({ source, flags, idmap }) =>
    idmap === undefined
      ? []
      : [
          {
            source,
            recursive: (flags & MS.REC) !== 0,
            mapRecursive: idmap.recursive,
            ...(idmap.userNamespace === undefined ? {} : { userNamespace: idmap.userNamespace }),
            uidMap: mapLines(idmap.uidMappings),
            gidMap: mapLines(idmap.gidMappings),
          },
        ],
  );
}

function mountStep(mount: Mount): MountStep {
  const { type, source, destination: target, flags, clearedFlags, propagation, data } = mount;
  const { recursiveSet, recursiveClear, copyUp } = mount;
  return {
    kind: 'mount',
    type,
    source,
    target,
    flags,
    clearedFlags,
    propagation,
    data,
    recursiveSet,
    recursiveClear,
    copyUp,
    optional: false,
    // Mount points below a tmpfs and the nodes in /dev are made after it is mounted.
    lateReadonly: isLateReadonly(mount),
  };
}

/** config-linux.md "Default Filesystems": the cgroups of this container, not the host's. */
function cgroupMountSteps(config: Config, mount: Mount, { layout, rows }: CgroupMounts): Step[] {
  const namespaced = hasNamespace(config, 'cgroup');
  if (layout === 'v2') {
    return rows.map(row =>
      namespaced
        ? mountStep({ ...mount, type: row.type, data: mount.data })
        : // A fresh cgroup2 mount would show the host's whole tree; the bind shows what the namespace would.
          mountStep(bindOf(mount, row.path, mount.destination)),
    );
  }

  const fixed = MS.NOEXEC | MS.NOSUID | MS.NODEV;
  const steps: Step[] = [
    mountStep({
      ...mount,
      type: 'tmpfs',
      source: 'tmpfs',
      // Read-only late: the directories below are still to be made.
      flags: fixed | (mount.flags & MS.RDONLY),
      data: 'mode=755',
      copyUp: false,
    }),
  ];
  for (const row of rows) {
    const destination = `${mount.destination}/${row.name}`;
    if (namespaced) {
      steps.push(
        mountStep({
          ...mount,
          type: row.type,
          // As runc names it: mountinfo shows it.
          source: row.name === 'systemd' ? 'systemd' : 'cgroup',
          destination,
          flags: fixed | (mount.flags & MS.RDONLY),
          data: row.data,
          propagation: [],
        }),
      );
    } else {
      steps.push(mountStep(bindOf(mount, row.path, destination)));
    }
    for (const link of row.links) {
      steps.push({
        kind: 'symlink',
        target: row.name,
        path: `${mount.destination}/${link}`,
        replace: false,
      });
    }
  }
  return steps;
}

const bindOf = (mount: Mount, source: string, destination: string): Mount => ({
  ...mount,
  type: 'bind',
  source,
  destination,
  flags: mount.flags | MS.BIND | MS.REC,
  data: '',
  copyUp: false,
});

/**
 * After the switch of the root: all that had to stay writable until /dev and the mount points were made. By number, not by
 * name: of two mounts on one path each is meant (CVE-2026-115521 was a name that led elsewhere by then).
 */
export function lateReadonlySteps(mounts: readonly Step[]): Step[] {
  return mounts
    .filter((step): step is MountStep => step.kind === 'mount' && step.lateReadonly)
    .map(({ target, flags }, mount) => ({
      kind: 'remountReadonly',
      path: target,
      flags,
      recursive: false,
      mount,
    }));
}

/** config-linux.md "Default Devices" and config-linux.md "Devices"; runc's /dev/ptmx and links. */
export function deviceSteps(config: Config, hostHasKcore: boolean): Step[] {
  const ours = fillsDev(config);
  const bind = hasNamespace(config, 'user');
  const steps: Step[] = [];
  for (const device of config.devices) {
    const path = cleanPath(device.path);
    // A link into the container's own devpts, below. In a bound /dev the nodes are the owner's affair.
    if (path === '/dev/ptmx' || (!ours && path.startsWith('/dev/'))) continue;
    const { type, major, minor, fileMode: mode, uid, gid } = device;
    // mknod of devices is refused in a user namespace (user_namespaces(7)).
    steps.push({ kind: 'device', path: device.path, type, major, minor, mode, uid, gid, bind });
  }
  if (!ours) return steps;
  // Terminals must come from the container's devpts instance, so a ptmx of the rootfs is replaced.
  steps.push({ kind: 'symlink', target: 'pts/ptmx', path: '/dev/ptmx', replace: true });
  const links: (readonly [string, string])[] = [
    ['/proc/self/fd', '/dev/fd'],
    ['/proc/self/fd/0', '/dev/stdin'],
    ['/proc/self/fd/1', '/dev/stdout'],
    ['/proc/self/fd/2', '/dev/stderr'],
  ];
  if (hostHasKcore) links.push(['/proc/kcore', '/dev/core']);
  for (const [target, path] of links) steps.push({ kind: 'symlink', target, path, replace: false });
  return steps;
}
