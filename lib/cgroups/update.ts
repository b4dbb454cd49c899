/** Changing the limits of a live container: all of them or none. */
import { CgroupError } from '../errors.ts';
import { errnoName, readCgroupFile, writeCgroupFile } from './file.ts';

export interface FileWrite {
  readonly path: string;
  readonly value: string;
  readonly field: string;
  readonly tolerate?: readonly string[];
}

/** Files of `KEY VALUE` lines, and what takes a key back that was not there before. */
const keyedReset: readonly (readonly [pattern: RegExp, reset: (key: string, written: string) => string])[] = [
  [/^blkio\.throttle\..*_device$/, key => `${key} 0`],
  [/^blkio\..*weight_device$/, key => `${key} 0`],
  [/^io\.max$/, key => `${key} rbps=max wbps=max riops=max wiops=max`],
  [/^io\.(bfq\.)?weight$/, key => `${key} default`],
  [/^io\.latency$/, key => `${key} target=max`],
  [/^misc\.max$/, key => `${key} max`],
  [/^rdma\.max$/, key => `${key} hca_handle=max hca_object=max`],
  [/^net_prio\.ifpriomap$/, key => `${key} 0`],
];

/**
 * What to write so that a file says again what it said in `before`, after `written` was written to it.
 * Most files read as they are written; the rest is here.
 */
export function restoredValue(path: string, before: string, written: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const lines = before.split('\n').filter(l => l !== '');
  // `root invalid (…)`: the word alone is a value.
  if (name === 'cpuset.cpus.partition') return before.split(/\s/)[0] ?? 'member';
  if (name === 'memory.oom_control') return /oom_kill_disable 1/.test(before) ? '1' : '0';
  const reset = keyedReset.find(([pattern]) => pattern.test(name))?.[1];
  if (reset === undefined) return before.trim();
  const key = written.split(' ')[0] ?? '';
  // `io.weight` and its like take a bare number for the default line.
  if (!written.includes(' ')) return (lines.find(l => l.startsWith('default ')) ?? before).trim();
  return lines.find(l => l.startsWith(`${key} `)) ?? reset(key, written);
}

/**
 * Writes all, in an order that the kernel accepts: values that constrain each other (limit and memory+swap, quota, period
 * and burst) are refused with EINVAL in one order and taken in the other, depending on what is in force, so a refused
 * write is tried again after the others as long as one of them got through.
 */
async function writeAll(writes: readonly FileWrite[], done: FileWrite[]): Promise<void> {
  let pending = writes;
  for (;;) {
    const refused: FileWrite[] = [];
    let failure: unknown;
    for (const write of pending) {
      try {
        await writeCgroupFile(write.path, write.value);
        done.push(write);
      } catch (error) {
        const errno = errnoName(error instanceof CgroupError ? error.cause : error);
        if (write.tolerate?.includes(errno)) continue;
        if (errno !== 'EINVAL') throw limitError(write, error);
        failure ??= limitError(write, error);
        refused.push(write);
      }
    }
    if (refused.length === 0) return;
    if (refused.length === pending.length) throw failure;
    pending = refused;
  }
}

/** The error of a refused limit: file, value and the property of the configuration. */
export function limitError(write: FileWrite, error: unknown): CgroupError {
  const cause = error instanceof CgroupError && error.cause !== undefined ? error.cause : error;
  const at = { file: write.path, value: write.value };
  const detail = `${write.field}: ${write.path} ← ${JSON.stringify(write.value)}`;
  const missing = errnoName(cause) === 'ENOENT';
  return new CgroupError('ERR_CGROUP', at, {
    cause,
    detail,
    ...(missing ? { hint: `this kernel has no ${write.path.slice(write.path.lastIndexOf('/') + 1)}` } : {}),
  });
}

/** Of the two views of one weight the one that loses nothing: a nice value stands for a range. */
const sourceOf = (path: string): string => path.replace(/\/cpu\.weight\.nice$/, '/cpu.weight');

/** BFQ takes the weights of single disks away with each new default weight: the file where they stand. */
const weightsLost = (path: string): string | undefined =>
  path.endsWith('/blkio.bfq.weight') ? `${path}_device` : path.endsWith('/io.bfq.weight') ? path : undefined;

/** The writes that take one back. @param before The content of the files */
function restoring(write: FileWrite, before: ReadonlyMap<string, string>): FileWrite[] {
  const path = sourceOf(write.path);
  const content = before.get(path);
  // An idle cgroup has weight 0, which is ERANGE to write: cpu.idle brings it back.
  if (content === undefined || (path.endsWith('/cpu.weight') && content.trim() === '0')) return [];
  const first = { ...write, path, value: restoredValue(path, content, write.value) };
  const lost = /^(default )?\d+$/.test(write.value) ? weightsLost(path) : undefined;
  const disks = (before.get(lost ?? '') ?? '').split('\n').filter(line => /^\d+:\d+ /.test(line));
  return [first, ...disks.map(value => ({ ...write, path: lost ?? path, value }))];
}

/** @throws {CgroupError} after the former content of every changed file has been written back */
export async function applyLimits(writes: readonly FileWrite[], more: () => Promise<void>): Promise<void> {
  const before = new Map<string, string>();
  const paths = writes.flatMap(({ path }) => [sourceOf(path), weightsLost(path) ?? []].flat());
  for (const path of new Set(paths)) {
    const content = await readCgroupFile(path);
    if (content !== undefined) before.set(path, content);
  }
  const done: FileWrite[] = [];
  try {
    await writeAll(writes, done);
    await more();
  } catch (error) {
    const back = done.reverse().flatMap(write => restoring(write, before));
    try {
      await writeAll(back, []);
    } catch (second) {
      throw new CgroupError(
        'ERR_CGROUP',
        { file: error instanceof CgroupError ? error.file : '' },
        { cause: error, hint: `the former limits could not be written back either: ${String(second)}` },
      );
    }
    throw error;
  }
}
