/** Enabling controllers for a cgroup2 directory: every ancestor's cgroup.subtree_control, from the top. cgroup-v2.rst. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CgroupError } from '../../errors.ts';
import { readCgroupFileNow } from '../file.ts';
import { notEnabled, type StartOperations } from '../start.ts';

const words = (text: string | undefined): string[] => (text ?? '').split(/\s+/).filter(w => w !== '');

/** Ancestors of a directory from the mount point down, without itself. */
export function ancestors(mountPoint: string, directory: string): string[] {
  const chain: string[] = [];
  for (let at = dirname(directory); at.length >= mountPoint.length; at = dirname(at)) {
    chain.unshift(at);
    if (at === mountPoint) break;
  }
  return chain;
}

/** Not every cgroup can give every controller away (cpu with realtime processes, io on some kernels): no reason to fail. */
const optionalErrors = ['EINVAL', 'EBUSY', 'ENOENT', 'EPERM', 'EACCES', 'EOPNOTSUPP'];

/**
 * Makes the missing ancestors and gives them controllers: those in `required` or an error, the rest (for stats) if possible.
 * The usual case, a parent that has all of them enabled, is two reads and no operation.
 * @throws {CgroupError} ERR_CGROUP_CONTROLLER when a required one is not there to be enabled
 */
export function makeAncestors(
  start: StartOperations,
  mountPoint: string,
  directory: string,
  required: ReadonlyMap<string, string>,
  all: boolean,
): void {
  const chain = ancestors(mountPoint, directory);
  const [top = mountPoint] = chain;
  const parent = chain.at(-1) ?? mountPoint;
  const parentEnabled = words(readCgroupFileNow(join(parent, 'cgroup.subtree_control')));
  if (isComplete(parent, parentEnabled, required, all)) return;
  const available = words(readCgroupFileNow(join(top, 'cgroup.controllers')));
  const lacking = [...required.keys()].filter(c => !available.includes(c));
  if (lacking.length > 0) throw noController(lacking, required, available, parentEnabled);
  for (const level of chain) {
    const enabled = words(readCgroupFileNow(join(level, 'cgroup.subtree_control')));
    if (!existsSync(level)) start.mkdir(level, 'ok');
    const file = join(level, 'cgroup.subtree_control');
    const needed = [...required.keys()].filter(c => !enabled.includes(c));
    const field = required.get(needed[0] ?? '') ?? 'linux.cgroupsPath';
    const value = needed.map(c => `+${c}`).join(' ');
    if (isInhabited(level)) {
      if (needed.length > 0) throw notEnabled(file, value, field);
      continue;
    }
    if (needed.length > 0) start.write(file, value, field);
    if (!all) continue;
    for (const controller of available)
      if (!enabled.includes(controller) && !required.has(controller))
        start.write(file, `+${controller}`, 'linux.cgroupsPath', optionalErrors);
  }
}

/**
 * Looked at first: the kernel refuses domain controllers there (EBUSY), but takes cpu, cpuset and pids and turns the cgroup of
 * those processes into a threaded domain, below which no container can live. The root of all is exempt; it has no type.
 */
const isInhabited = (cgroup: string): boolean =>
  existsSync(join(cgroup, 'cgroup.type')) &&
  (readCgroupFileNow(join(cgroup, 'cgroup.procs')) ?? '').trim() !== '';

function isComplete(
  parent: string,
  enabled: readonly string[],
  required: ReadonlyMap<string, string>,
  all: boolean,
): boolean {
  if (![...required.keys()].every(c => enabled.includes(c))) return false;
  if (!existsSync(parent)) return false;
  return !all || words(readCgroupFileNow(join(parent, 'cgroup.controllers'))).every(c => enabled.includes(c));
}

/** @param delegated What the systemd of a user hands on, which may be less than the host has. */
export function noController(
  lacking: readonly string[],
  fields: ReadonlyMap<string, string>,
  available: readonly string[],
  delegated?: readonly string[],
): CgroupError {
  const list = (names: readonly string[]): string => names.filter(n => n !== '').join(' ') || 'none';
  const field = fields.get(lacking[0] ?? '') ?? 'linux.resources';
  const detail = `${field}: wanted ${lacking.join(' ')}, available: ${list(available)}`;
  if (delegated === undefined) return new CgroupError('ERR_CGROUP_CONTROLLER', { file: field }, { detail });
  const missing = lacking.filter(controller => !available.includes(controller));
  const hint =
    missing.length > 0
      ? `this host does not offer ${missing.join(' ')}`
      : `as root: systemctl edit user@.service, with "[Service]" and "Delegate=${list([...new Set([...delegated, ...lacking])])}"; then log in anew`;
  return new CgroupError(
    'ERR_CGROUP_CONTROLLER',
    { file: field },
    { detail: `${detail}, delegated: ${list(delegated)}`, hint },
  );
}
