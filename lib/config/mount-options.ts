/**
 * Options of mounts[].options: one table that parses them and lists them for `nrunc features`. mount(2), mount_setattr(2),
 * OCI runtime-spec config.md "Linux mount options"; clearing and recursion as runc's specconv does. What the table does
 * not know is for the file system (`size=64k`).
 */
import { MOUNT_ATTR, MS } from '../plan/numbers.ts';
import type { Mount } from './config.ts';

/** The access-time attributes are values of one field, not bits; this one has no row because it is 0. */
const relatime = 0;

type Option =
  | { readonly set: number }
  | { readonly clear: number }
  | { readonly propagation: number }
  | { readonly recursiveSet: number }
  | { readonly recursiveClear: number }
  | { readonly atime: number }
  | 'data'
  | 'none'
  | 'copyUp'
  | 'idmap';

const options: ReadonlyMap<string, Option> = new Map<string, Option>([
  // POSIX ACLs have no mount(2) flag that a file system reads from outside: both words are for the file system.
  ['acl', 'data'],
  ['async', { clear: MS.SYNCHRONOUS }],
  ['atime', { clear: MS.NOATIME }],
  ['bind', { set: MS.BIND }],
  ['defaults', 'none'],
  ['dev', { clear: MS.NODEV }],
  ['diratime', { clear: MS.NODIRATIME }],
  ['dirsync', { set: MS.DIRSYNC }],
  ['exec', { clear: MS.NOEXEC }],
  ['idmap', 'idmap'],
  ['iversion', { set: MS.I_VERSION }],
  ['lazytime', { set: MS.LAZYTIME }],
  ['loud', { clear: MS.SILENT }],
  ['mand', { set: MS.MANDLOCK }],
  ['noacl', 'data'],
  ['noatime', { set: MS.NOATIME }],
  ['nodev', { set: MS.NODEV }],
  ['nodiratime', { set: MS.NODIRATIME }],
  ['noexec', { set: MS.NOEXEC }],
  ['noiversion', { clear: MS.I_VERSION }],
  ['nolazytime', { clear: MS.LAZYTIME }],
  ['nomand', { clear: MS.MANDLOCK }],
  ['norelatime', { clear: MS.RELATIME }],
  ['nostrictatime', { clear: MS.STRICTATIME }],
  ['nosuid', { set: MS.NOSUID }],
  ['nosymfollow', { set: MS.NOSYMFOLLOW }],
  ['private', { propagation: MS.PRIVATE }],
  ['ratime', { atime: relatime }],
  ['rbind', { set: MS.BIND | MS.REC }],
  ['rdev', { recursiveClear: MOUNT_ATTR.NODEV }],
  ['rdiratime', { recursiveClear: MOUNT_ATTR.NODIRATIME }],
  ['relatime', { set: MS.RELATIME }],
  ['remount', { set: MS.REMOUNT }],
  ['rexec', { recursiveClear: MOUNT_ATTR.NOEXEC }],
  ['ridmap', 'idmap'],
  ['rnoatime', { atime: MOUNT_ATTR.NOATIME }],
  ['rnodev', { recursiveSet: MOUNT_ATTR.NODEV }],
  ['rnodiratime', { recursiveSet: MOUNT_ATTR.NODIRATIME }],
  ['rnoexec', { recursiveSet: MOUNT_ATTR.NOEXEC }],
  // Clears nothing, as in runc: RELATIME is the value 0 of the ATIME field, and what else to take is not said.
  ['rnorelatime', 'none'],
  ['rnostrictatime', { atime: relatime }],
  ['rnosuid', { recursiveSet: MOUNT_ATTR.NOSUID }],
  ['rnosymfollow', { recursiveSet: MOUNT_ATTR.NOSYMFOLLOW }],
  ['ro', { set: MS.RDONLY }],
  ['rprivate', { propagation: MS.PRIVATE | MS.REC }],
  ['rrelatime', { atime: relatime }],
  ['rro', { recursiveSet: MOUNT_ATTR.RDONLY }],
  ['rrw', { recursiveClear: MOUNT_ATTR.RDONLY }],
  ['rshared', { propagation: MS.SHARED | MS.REC }],
  ['rslave', { propagation: MS.SLAVE | MS.REC }],
  ['rstrictatime', { atime: MOUNT_ATTR.STRICTATIME }],
  ['rsuid', { recursiveClear: MOUNT_ATTR.NOSUID }],
  ['rsymfollow', { recursiveClear: MOUNT_ATTR.NOSYMFOLLOW }],
  ['runbindable', { propagation: MS.UNBINDABLE | MS.REC }],
  ['rw', { clear: MS.RDONLY }],
  ['shared', { propagation: MS.SHARED }],
  ['silent', { set: MS.SILENT }],
  ['slave', { propagation: MS.SLAVE }],
  ['strictatime', { set: MS.STRICTATIME }],
  ['suid', { clear: MS.NOSUID }],
  ['symfollow', { clear: MS.NOSYMFOLLOW }],
  ['sync', { set: MS.SYNCHRONOUS }],
  ['tmpcopyup', 'copyUp'],
  ['unbindable', { propagation: MS.UNBINDABLE }],
]);

/** linux.rootfsPropagation: the same words as the mount options. */
export const propagations: ReadonlyMap<string, number> = new Map(
  [...options].flatMap(([name, option]) =>
    typeof option === 'object' && 'propagation' in option ? [[name, option.propagation] as const] : [],
  ),
);

/** For `features`, as runc prints them: sorted, and idmap and ridmap are told of in linux.mountExtensions. */
export function mountOptionNames(): string[] {
  return [...options.keys()].filter(name => options.get(name) !== 'idmap').sort();
}

/** crun's form of an idmapped mount, `idmap=uids=…`, which is not the specification's. */
export function isInlineIdmap(option: string): boolean {
  return option.includes('=') && options.get(option.split('=', 1)[0] ?? '') === 'idmap';
}

/** The last of `idmap` and `ridmap`. */
export function idmapOption(words: readonly string[]): string | undefined {
  return words.findLast(word => options.get(word) === 'idmap');
}

export type MountFlags = Pick<
  Mount,
  'flags' | 'clearedFlags' | 'propagation' | 'recursiveSet' | 'recursiveClear' | 'data' | 'copyUp'
>;

/** Of options that contradict each other the last one wins. */
export function parseMountOptions(words: readonly string[]): MountFlags {
  let flags = 0;
  let clearedFlags = 0;
  let recursiveSet = 0;
  let recursiveClear = 0;
  let copyUp = false;
  const propagation: number[] = [];
  const data: string[] = [];
  for (const word of words) {
    const option = options.get(word) ?? 'data';
    if (option === 'copyUp') copyUp = true;
    else if (option === 'data') data.push(word);
    else if (typeof option === 'string') continue;
    else if ('propagation' in option) propagation.push(option.propagation);
    else if ('set' in option) {
      flags |= option.set;
      clearedFlags &= ~option.set;
    } else if ('clear' in option) {
      flags &= ~option.clear;
      clearedFlags |= option.clear;
    } else if ('recursiveSet' in option) {
      recursiveSet |= option.recursiveSet;
      recursiveClear &= ~option.recursiveSet;
    } else if ('recursiveClear' in option) {
      recursiveSet &= ~option.recursiveClear;
      recursiveClear |= option.recursiveClear;
    } else {
      // mount_setattr(2): "the ATIME field must be cleared as a whole before one of its values is set", else EINVAL.
      recursiveSet = (recursiveSet & ~MOUNT_ATTR._ATIME) | option.atime;
      recursiveClear |= MOUNT_ATTR._ATIME;
    }
  }
  return { flags, clearedFlags, propagation, recursiveSet, recursiveClear, data: data.join(','), copyUp };
}
