/**
 * CRIU mounts cgroup2 for itself, without options, and a mount of it from the first cgroup namespace gives its options to
 * all of them (cgroup-v2.rst "Mounting"): the host's `nsdelegate`, which keeps containers inside of what they were given,
 * would be lost. What was there is put back as soon as CRIU has ended.
 */
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { searchPath } from './program-path.ts';

export interface CgroupMount {
  readonly point: string;
  /** Of the mount and of the file system, for mount(8). */
  readonly options: string;
}

/** The first mount of cgroup2. @param mountinfo proc_pid_mountinfo(5) */
export function cgroupMount(mountinfo: string): CgroupMount | undefined {
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [type, , ofFileSystem = ''] = after.split(' ');
    const [, , , , point, ofMount = ''] = before.split(' ');
    if (type !== 'cgroup2' || point === undefined) continue;
    return { point, options: [...new Set([...ofMount.split(','), ...ofFileSystem.split(',')])].join() };
  }
  return undefined;
}

const found = (): CgroupMount | undefined => cgroupMount(readFileSync('/proc/self/mountinfo', 'utf8'));

/** Who has CRIU at work, and where the options are noted meanwhile: one that is killed cannot put them back. */
export interface Keeper {
  readonly file: string;
  readonly self: Owner;
  readonly lives: (process: Owner) => boolean;
}

interface Owner {
  readonly pid: number;
  /** Clock ticks, as in /proc/PID/stat. */
  readonly start: number;
}

type Note = CgroupMount & Owner;

/** Undefined: none, or one whose writer was killed in the write, before CRIU was started. */
function noteIn(file: string): Note | undefined {
  try {
    const { point, options, pid, start } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const known = typeof point === 'string' && typeof options === 'string';
    if (!known || typeof pid !== 'number' || typeof start !== 'number') return undefined;
    return { point, options, pid, start };
  } catch (error) {
    if (error instanceof SyntaxError || codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

/** False: another process, which lives, has noted them. */
function note({ file, self, lives }: Keeper, mount: CgroupMount): boolean {
  const text = JSON.stringify({ ...mount, ...self });
  try {
    writeFileSync(file, text, { mode: 0o600, flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    const other = noteIn(file);
    if (other !== undefined && lives(other)) return false;
    writeFileSync(file, text);
    return true;
  }
}

let running = 0;
/** As it was before the first of those that are at work now, or were killed at it: the others see what CRIU has made of it. */
let first: CgroupMount | undefined;
let mine = false;

/** Does `work`, in which CRIU runs. */
export async function keepingCgroupOptions<T>(keeper: Keeper, work: () => Promise<T>): Promise<T> {
  if (running === 0) {
    const noted = noteIn(keeper.file);
    first = noted === undefined ? found() : { point: noted.point, options: noted.options };
    mine = first !== undefined && note(keeper, first);
  }
  const before = first;
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    const last = running === 0 && mine;
    if (last) mine = false;
    if (before !== undefined) await putBack(before);
    // A next one that has begun meanwhile has taken it for its own.
    if (last && !mine) rmSync(keeper.file, { force: true });
  }
}

/** What a process that was killed while CRIU was at work has left. */
export async function recoverCgroupOptions({ file, lives }: Keeper): Promise<void> {
  const noted = noteIn(file);
  if (noted !== undefined && lives(noted)) return;
  if (noted !== undefined) await putBack(noted);
  rmSync(file, { force: true });
}

async function putBack(mount: CgroupMount): Promise<void> {
  if (found()?.options !== mount.options) await remount(mount);
}

function remount({ point, options }: CgroupMount): Promise<void> {
  return new Promise(resolve => {
    const done = (why: string | undefined): void => {
      // The work itself has succeeded, or has an error of its own.
      if (why !== undefined) process.emitWarning(`${point} is without ${options}: mount: ${why}`);
      resolve();
    };
    const child = spawn('mount', ['-o', `remount,${options}`, point], {
      stdio: 'ignore',
      cwd: '/',
      env: { PATH: searchPath() },
    });
    child.once('error', error => done(error.message));
    child.once('exit', code => done(code === 0 ? undefined : `exit status ${code}`));
  });
}
