/** Which unit a container is, and where its cgroup lies: `slice:prefix:name`. systemd.unit(5), systemd.slice(5); rules as runc's. */
import { CgroupError } from '../../errors.ts';

export interface Unit {
  /** `docker-ID.scope`, or a slice when the name of cgroupsPath is one. */
  readonly name: string;
  /** `system.slice`; '-.slice' is the root. */
  readonly slice: string;
  /** Of the unit below the root of its systemd: `/system.slice/docker-ID.scope`. */
  readonly path: string;
  /** The name without prefix and suffix. */
  readonly container: string;
}

const field = 'linux.cgroupsPath';
/** systemd.unit(5); the file system takes 255 bytes. */
const unitName = /^[A-Za-z0-9:_.\\@-]{1,249}\.(scope|slice)$/;

function refuse(value: string, why: string): never {
  throw new CgroupError(
    'ERR_CGROUP',
    { file: field, value },
    {
      detail: `${field} ${JSON.stringify(value)}: ${why}`,
      hint: 'with the systemd driver it is "slice:prefix:name", e.g. "system.slice:nrunc:web1"; an empty slice is the default one',
    },
  );
}

/**
 * `-` in a slice's name is the way down: `a-b.slice` lies in `/a.slice/a-b.slice`. `-.slice` is the root: ''.
 * @throws {CgroupError} ERR_CGROUP
 */
export function expandSlice(slice: string): string {
  if (!unitName.test(slice) || !slice.endsWith('.slice')) refuse(slice, 'not the name of a slice');
  const name = slice.slice(0, -'.slice'.length);
  if (name === '-') return '';
  let path = '';
  let prefix = '';
  for (const component of name.split('-')) {
    if (component === '') refuse(slice, 'not the name of a slice');
    path += `/${prefix}${component}.slice`;
    prefix += `${component}-`;
  }
  return path;
}

/**
 * @param user The systemd of a user: its default slice is `user.slice`, else `system.slice`.
 * @throws {CgroupError} ERR_CGROUP for anything but `slice:prefix:name`
 */
export function unitOf(cgroupsPath: string | undefined, id: string, user: boolean): Unit {
  const given = cgroupsPath === undefined || cgroupsPath === '' ? `:runc:${id}` : cgroupsPath;
  const [slice = '', prefix = '', name = '', more] = given.split(':');
  if (more !== undefined || given.split(':').length !== 3)
    // runc's words, which its callers know.
    refuse(
      given,
      `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got ${JSON.stringify(given)} instead`,
    );
  if (name === '') refuse(given, 'the name is empty');
  const isSlice = name.endsWith('.slice');
  const unit = isSlice ? name : `${prefix}-${name}.scope`;
  if (!unitName.test(unit)) refuse(given, `${JSON.stringify(unit)} cannot be the name of a unit`);
  const parent = slice === '' ? (user ? 'user.slice' : 'system.slice') : slice;
  const container = isSlice ? name.slice(0, -'.slice'.length) : name;
  // A slice lies where its own name says, which is not of necessity in the slice that was given.
  const path = isSlice ? expandSlice(name) : `${expandSlice(parent)}/${unit}`;
  if (path === '') refuse(given, 'the root slice holds the whole system');
  return { name: unit, slice: parent, path, container };
}
