/**
 * Mounts that come from outside: CRIU does not dump them, it knows them by name. The names are runc's (the place in the
 * container, as links of the rootfs resolve it), so that images can be exchanged. CRIU puts names into text with
 * separators, so a link in an image could make one name mean another mount (CVE-2026-119101): what cannot make the round
 * trip is refused, and what was restored is compared with the configuration before the first process goes on.
 */
import { lstatSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import type { CgroupMountRow } from '../cgroups/manager.ts';
import type { Config, Mount } from '../config/config.ts';
import { CriuError } from '../errors.ts';
import { hasNamespace } from '../plan/namespaces.ts';
import { MOUNT_ATTR, MS } from '../plan/numbers.ts';

export interface ExternalMount {
  /** Mount point in the container, free of links. */
  readonly name: string;
  /** On the host. */
  readonly source: string;
  /** Of the configuration; absent: ours. */
  readonly mount?: Mount;
}

const separators = /[[\]:,\n]/;
const mostLinks = 255;

/**
 * The path in the container that a destination means: each link of the rootfs is followed, none leads out. Only a name is
 * made of it; nothing is opened by it.
 */
export function resolveInside(rootfs: string, path: string): string {
  const rest = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const target = linkTarget(`${rootfs}/${[...done, part].join('/')}`);
    if (target === undefined) {
      done.push(part);
      continue;
    }
    links += 1;
    if (links > mostLinks) throw refused(path, 'too many links');
    if (target.startsWith('/')) done.length = 0;
    rest.push(...target.split('/').reverse());
  }
  return `/${done.join('/')}`;
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}

const refused = (path: string, why: string): CriuError =>
  new CriuError('ERR_CRIU_MOUNT', { operation: 'check' }, { detail: `${path}: ${why}` });

const isBind = (mount: Mount): boolean => mount.type === 'bind' || (mount.flags & MS.BIND) !== 0;

/** Binds of the configuration, and the container's cgroups where they are binds. @throws {CriuError} ERR_CRIU_MOUNT */
export function externalMounts(config: Config, rows: readonly CgroupMountRow[]): ExternalMount[] {
  const found: ExternalMount[] = [];
  for (const mount of config.mounts) {
    const name = (destination: string): string => resolveInside(config.rootfs, destination);
    if ((mount.flags & MS.REMOUNT) !== 0) continue;
    if (mount.type === 'cgroup' && !hasNamespace(config, 'cgroup'))
      for (const row of rows)
        found.push({ name: name(`${mount.destination}/${row.name}`), source: row.path });
    else if (isBind(mount)) found.push({ name: name(mount.destination), source: mount.source, mount });
  }
  checkNames(found);
  return found;
}

function checkNames(mounts: readonly ExternalMount[]): void {
  const names = new Set<string>();
  for (const { name, source } of mounts) {
    if (separators.test(name)) throw refused(name, 'a name with [ ] : , or a line break');
    // CRIU looks a name up as the beginning of `mnt[NAME]:SOURCE`: an image could name a part of the source too.
    if (/\]:|\n/.test(source)) throw refused(source, 'a source with ]: or a line break');
    if (names.has(name)) throw refused(name, 'two mounts of the configuration lead to this place');
    names.add(name);
  }
}

/** Where masked paths and devices come from on restore: CRIU's own name for the host's /dev/null, as runc has it. */
export const nullName = '/dev/null';

/** One row of mountinfo, proc_pid_mountinfo(5). */
export interface MountRow {
  readonly point: string;
  readonly options: ReadonlySet<string>;
}

const unescaped = (text: string): string =>
  text.replace(/\\([0-3][0-7][0-7])/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

export function mountRows(pid: number): MountRow[] {
  const text = readFileSync(`/proc/${pid}/mountinfo`, 'latin1');
  return text.split('\n').flatMap(line => {
    const [, , , , point, options] = line.split(' ');
    if (point === undefined || options === undefined) return [];
    const decoded = Buffer.from(unescaped(point), 'latin1').toString('utf8');
    return [{ point: decoded, options: new Set(options.split(',')) }];
  });
}

const flagNames = [
  [MS.RDONLY, 'ro'],
  [MS.NOSUID, 'nosuid'],
  [MS.NODEV, 'nodev'],
  [MS.NOEXEC, 'noexec'],
] as const;
const recursiveNames = [
  [MOUNT_ATTR.RDONLY, 'ro'],
  [MOUNT_ATTR.NOSUID, 'nosuid'],
  [MOUNT_ATTR.NODEV, 'nodev'],
  [MOUNT_ATTR.NOEXEC, 'noexec'],
] as const;

const wrongMount = (point: string, why: string): CriuError =>
  new CriuError('ERR_CRIU_IMAGE', { operation: 'restore' }, { detail: `${point}: ${why}` });

/**
 * The mounts of a restored container, none of whose processes has gone on yet: each bind of the configuration is there,
 * shows its source, and has at least the restrictions that it was given. Who wrote the image may not loosen them.
 * @throws {CriuError} ERR_CRIU_IMAGE
 */
export function verifyMounts(pid: number, mounts: readonly ExternalMount[]): void {
  const rows = mountRows(pid);
  for (const { name, source, mount } of mounts) {
    if (mount === undefined) continue;
    // The last one lies on top.
    const row = rows.findLast(({ point }) => point === name);
    if (row === undefined) throw wrongMount(name, 'the image has no such mount');
    for (const [flag, word] of flagNames)
      if ((mount.flags & flag) !== 0 && !row.options.has(word))
        throw wrongMount(name, `restored without ${word}`);
    for (const [flag, word] of recursiveNames) {
      if ((mount.recursiveSet & flag) === 0) continue;
      const open = rows.find(
        ({ point, options }) => (point === name || point.startsWith(`${name}/`)) && !options.has(word),
      );
      if (open !== undefined) throw wrongMount(open.point, `restored without ${word}`);
    }
    if (!isSame(source, `/proc/${pid}/root${name}`)) throw wrongMount(name, `does not show ${source}`);
  }
}

/** Its mount points hold no link: the kernel lists them resolved. */
function isSame(source: string, inside: string): boolean {
  try {
    const [outer, inner] = [statSync(source, { bigint: true }), lstatSync(inside, { bigint: true })];
    return outer.ino === inner.ino && outer.dev === inner.dev;
  } catch {
    return false;
  }
}
