/** Where sandboxes of this user live: a directory in memory that nobody else can write to. */
import { lstatSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LibcontainerError } from '../errors.ts';

const ownUid = (): number => process.geteuid?.() ?? 0;

/**
 * Makes a directory that is ours alone, or finds one that is: what others could write to would decide what a sandbox sees.
 * @throws {LibcontainerError} ERR_STATE_ROOT
 */
export function ownDirectory(path: string, mode: number): string {
  try {
    mkdirSync(path, { mode });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST'))
      throw new LibcontainerError('ERR_STATE_ROOT', { detail: path, cause });
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== ownUid() || (stat.mode & 0o022) !== 0)
    throw new LibcontainerError('ERR_STATE_ROOT', { detail: path });
  return path;
}

/** root: /run; else $XDG_RUNTIME_DIR, or a directory of ours in the temporary directory. */
function runtimeDirectory(): string {
  const uid = ownUid();
  if (uid === 0) return '/run';
  const { XDG_RUNTIME_DIR: given = '' } = process.env;
  return given === '' ? ownDirectory(join(tmpdir(), `libcontainer-${uid}`), 0o700) : given;
}

/** State root of sandboxes, beside that of nrunc: `nrunc list` shows containers that somebody named. */
export const sandboxRoot = (): string => join(runtimeDirectory(), 'libcontainer-sandbox');

/** Directory of the root file systems, which are shared by all sandboxes that look alike. */
export const skeletonRoot = (): string =>
  ownDirectory(join(runtimeDirectory(), 'libcontainer-sandbox-rootfs'), ownUid() === 0 ? 0o755 : 0o700);
