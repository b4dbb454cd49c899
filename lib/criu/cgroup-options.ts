/**
 * CRIU mounts cgroup2 for itself, without options, and a mount of it from the first cgroup namespace gives its options to
 * all of them (cgroup-v2.rst "Mounting"): the host's `nsdelegate`, which keeps containers inside of what they were given,
 * would be lost. What was there is put back as soon as CRIU has ended.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
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

let running = 0;
/** As it was before the first of those that are at work now: the others see what CRIU has made of it. */
let first: CgroupMount | undefined;

/** Does `work`, in which CRIU runs. */
export async function keepingCgroupOptions<T>(work: () => Promise<T>): Promise<T> {
  if (running === 0) first = found();
  const before = first;
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    if (before !== undefined && found()?.options !== before.options) await remount(before);
  }
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
