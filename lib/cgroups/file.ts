/** Reading and writing cgroup files. Errors name the file and the value; a file that is not there is a value of its own. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CgroupError } from '../errors.ts';

/** The errno name of a failed call of Node's or of the binding's. */
export function errnoName(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const named = error as { readonly code?: unknown; readonly errnoName?: unknown };
  if (typeof named.errnoName === 'string') return named.errnoName;
  return typeof named.code === 'string' ? named.code : '';
}

/** ENOENT: not there. ENODEV: the cgroup was removed while its file was open (kernfs). */
export const isGone = (error: unknown): boolean => ['ENOENT', 'ENODEV', 'ENOTDIR'].includes(errnoName(error));

/** The content, or undefined when the file or its cgroup is gone. @throws {CgroupError} on anything else */
export async function readCgroupFile(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    // EOPNOTSUPP: cgroup.procs of a threaded cgroup, and files that the kernel was booted without (psi=0).
    if (isGone(cause) || errnoName(cause) === 'EOPNOTSUPP') return undefined;
    throw new CgroupError('ERR_CGROUP', { file }, { cause });
  }
}

const readBuffer = Buffer.allocUnsafeSlow(4096);

/** For the few reads where one turn of the thread pool costs more than the read. */
export function readCgroupFileNow(file: string): string | undefined {
  try {
    // readFileSync asks for size and type first and allocates: three times the cost of a file of some bytes.
    const fd = openSync(file, constants.O_RDONLY);
    try {
      let text = '';
      for (;;) {
        const size = readSync(fd, readBuffer, 0, readBuffer.length, null);
        if (size === 0) return text;
        text += readBuffer.toString('latin1', 0, size);
      }
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    if (isGone(cause) || errnoName(cause) === 'EOPNOTSUPP') return undefined;
    throw new CgroupError('ERR_CGROUP', { file }, { cause });
  }
}

/** One write(2), on the thread pool since a lower memory limit makes the kernel reclaim inside the call. */
export async function writeCgroupFile(file: string, value: string): Promise<void> {
  try {
    // Never O_CREAT: in a cgroup it turns a missing file into EACCES.
    await writeFile(file, value, { flag: constants.O_WRONLY });
  } catch (cause) {
    throw new CgroupError('ERR_CGROUP', { file, value }, { cause });
  }
}

/** Sub-cgroups of a cgroup directory; [] when it is gone. */
export async function childCgroups(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.filter(e => e.isDirectory()).map(e => join(directory, e.name));
  } catch (cause) {
    if (isGone(cause)) return [];
    throw new CgroupError('ERR_CGROUP', { file: directory }, { cause });
  }
}

/** The cgroup and all below it, deepest first. */
export async function cgroupTree(directory: string): Promise<string[]> {
  const below = await Promise.all((await childCgroups(directory)).map(cgroupTree));
  return [...below.flat(), directory];
}

export const parsePids = (text: string): number[] =>
  text
    .split('\n')
    .map(line => Number.parseInt(line, 10))
    // 0 is a process of a pid namespace that we cannot see.
    .filter(pid => pid > 0);

/** Process ids in the cgroup and all below it, each once. */
export async function pidsBelow(directory: string): Promise<number[]> {
  const pids = new Set<number>();
  for (const cgroup of await cgroupTree(directory)) {
    for (const pid of parsePids((await readCgroupFile(join(cgroup, 'cgroup.procs'))) ?? '')) pids.add(pid);
  }
  return [...pids];
}

/** `key value` lines as numbers; lines of another shape are left out. */
export function parseFlat(text: string | undefined): Map<string, bigint> {
  const values = new Map<string, bigint>();
  for (const line of (text ?? '').split('\n')) {
    const [key, value, more] = line.trim().split(/\s+/);
    if (key && value !== undefined && more === undefined && /^-?\d+$/.test(value))
      values.set(key, BigInt(value));
  }
  return values;
}

/** A file with one number; `max` is `unlimited`; missing, empty or odd content is 0. */
export function parseSingle(text: string | undefined, unlimited = 18446744073709551615n): bigint {
  const value = text?.trim() ?? '';
  if (value === 'max') return unlimited;
  return /^-?\d+$/.test(value) ? BigInt(value) : 0n;
}
