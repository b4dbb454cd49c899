/**
 * Which cgroup hierarchies this host has, where they are mounted and where this process lives in them. Read once per
 * process: mounts under /sys/fs/cgroup do not move while a host runs. cgroups(7), proc_pid_mountinfo(5), proc_pid_cgroup(5).
 */
import { readFileSync, statfsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { inUserNamespace } from '../config/user-namespace.ts';
import { CgroupError } from '../errors.ts';
import type { CgroupLayout } from './manager.ts';

export { inUserNamespace };

/** One mounted hierarchy. */
export interface Hierarchy {
  /** `['cpu', 'cpuacct']`, `['name=systemd']`, or [] for cgroup2. */
  readonly controllers: readonly string[];
  readonly mountPoint: string;
  /** The cgroup that is visible at the mount point (`/` unless a subtree is bind-mounted, as inside a container). */
  readonly root: string;
}

export interface Layout {
  readonly kind: CgroupLayout;
  readonly v1: readonly Hierarchy[];
  readonly v2: Hierarchy | undefined;
  /** This process's cgroup by controller; '' is cgroup2. */
  readonly own: ReadonlyMap<string, string>;
}

const cgroup2Magic = 0x63677270; // CGROUP2_SUPER_MAGIC, linux/magic.h
const v1Controllers = new Set(
  'cpuset cpu cpuacct memory devices freezer net_cls net_prio blkio perf_event hugetlb pids rdma misc'.split(
    ' ',
  ),
);

/** mountinfo writes blanks, tabs, newlines and backslashes as three octal digits. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** The lines of /proc/PID/cgroup: controller → path. A line that is not `id:controllers:path` is skipped. */
export function parseOwnCgroups(text: string): Map<string, string> {
  const own = new Map<string, string>();
  for (const line of text.split('\n')) {
    const first = line.indexOf(':');
    const second = line.indexOf(':', first + 1);
    if (first < 0 || second < 0) continue;
    for (const name of line.slice(first + 1, second).split(',')) own.set(name, line.slice(second + 1));
  }
  return own;
}

/** Finds the cgroup mounts in a mountinfo. Of several mounts of one hierarchy the first under /sys/fs/cgroup wins. */
export function parseLayout(mountinfo: string, ownCgroups: string): Layout {
  const v1: Hierarchy[] = [];
  let v2: Hierarchy | undefined;
  const lines = mountinfo.split('\n').filter(line => line.includes(' - cgroup'));
  const preferred = lines.filter(line => line.split(' ')[4]?.startsWith('/sys/fs/cgroup'));
  for (const line of [...preferred, ...lines]) {
    const [left, right] = line.split(' - ');
    const fields = left?.split(' ') ?? [];
    const [type, , options] = right?.split(' ') ?? [];
    const [root, mountPoint] = [fields[3], fields[4]];
    if (root === undefined || mountPoint === undefined || options === undefined) continue;
    const place = { root: unescapeOctal(root), mountPoint: unescapeOctal(mountPoint) };
    if (type === 'cgroup2') v2 ??= { controllers: [], ...place };
    if (type !== 'cgroup') continue;
    const controllers = options.split(',').filter(o => v1Controllers.has(o) || o.startsWith('name='));
    if (controllers.length === 0 || v1.some(h => h.controllers.some(c => controllers.includes(c)))) continue;
    v1.push({ controllers, ...place });
  }
  if (v1.length === 0 && v2 === undefined)
    throw new CgroupError('ERR_CGROUP_LAYOUT', { file: '/proc/self/mountinfo' });
  const kind = v1.length === 0 ? 'v2' : v2 === undefined ? 'v1' : 'hybrid';
  return { kind, v1, v2, own: parseOwnCgroups(ownCgroups) };
}

let cached: Layout | undefined;

/**
 * The layout of this host.
 * @throws {CgroupError} ERR_CGROUP_LAYOUT when no cgroup file system is mounted
 */
export function hostLayout(): Layout {
  cached ??= readLayout();
  return cached;
}

function readLayout(): Layout {
  const own = readFileSync('/proc/self/cgroup', 'utf8');
  // One statfs tells v2 without reading a mountinfo that may have thousands of lines.
  if (isCgroup2('/sys/fs/cgroup')) {
    const v2 = { controllers: [], mountPoint: '/sys/fs/cgroup', root: '/' };
    return { kind: 'v2', v1: [], v2, own: parseOwnCgroups(own) };
  }
  return parseLayout(readFileSync('/proc/self/mountinfo', 'utf8'), own);
}

function isCgroup2(path: string): boolean {
  try {
    return statfsSync(path).type === cgroup2Magic;
  } catch {
    return false; // not there: the mountinfo decides
  }
}

/** In the initial one all ids are mapped to themselves (user_namespaces(7)); containers/storage and runc tell it so too. */
export const isInitialIdMap = (map: string): boolean =>
  map.trim().split(/\s+/).join(' ') === '0 0 4294967295';

/** Neither devices.deny nor bpf(2) can be used there, and runc skips them as well. */
export const devicesNotEnforced =
  'linux.resources.devices is not enforced: this process is in a user namespace, where the kernel takes no device rules (and lets nobody make device nodes)';

/**
 * Splits a cgroup path of the caller's into names, refusing what would leave the hierarchy. Component-wise: a test of
 * prefixes lets `../box2` out of `/box` (the `exec --cgroup` escape of runc 1.5.2).
 * @throws {CgroupError} ERR_CGROUP on `..`, NUL, a newline or an empty path
 */
export function pathComponents(path: string, file: string): string[] {
  const names = path.split('/').filter(name => name !== '' && name !== '.');
  const bad = names.includes('..') || path.includes('\0') || path.includes('\n');
  if (bad)
    throw new CgroupError(
      'ERR_CGROUP',
      { file, value: path },
      { hint: 'a cgroup path must not hold ".." , NUL or a newline' },
    );
  return names;
}

/**
 * The directory of a container in one hierarchy. Absolute paths hang below the mount; relative ones below this process's
 * own cgroup on v1, and below the parent of it on v2, since our own cgroup holds us and so may not have controllers for
 * children (cgroup-v2.rst "No Internal Process Constraint"; runc fs2 defaultDirPath).
 */
export function containerDirectory(layout: Layout, hierarchy: Hierarchy, cgroupsPath: string): string {
  const names = pathComponents(cgroupsPath, 'linux.cgroupsPath');
  if (names.length === 0)
    throw new CgroupError(
      'ERR_CGROUP_NOT_EMPTY',
      { file: 'linux.cgroupsPath', value: cgroupsPath },
      { hint: 'the path names the root cgroup; give the container a cgroup of its own' },
    );
  if (cgroupsPath.startsWith('/')) return join(hierarchy.mountPoint, ...names);
  const key = hierarchy.controllers[0] ?? '';
  const own = layout.own.get(key) ?? '/';
  const below = relative(hierarchy.root, own);
  // Mounted from elsewhere than where we live (a container without a cgroup namespace): the mount is all we can reach.
  const base = below.startsWith('..') ? '' : below;
  return key === ''
    ? join(hierarchy.mountPoint, base, base === '' ? '.' : '..', ...names)
    : join(hierarchy.mountPoint, base, ...names);
}
