/** What a sandbox is made of: its options, their rules, what is left out filled in. */
import { existsSync } from 'node:fs';
import { isAbsolute, normalize, resolve } from 'node:path';
import type { Seccomp } from '../config/config.ts';
import type { OverlayOptions } from '../config/overlay.ts';
import { LibcontainerError } from '../errors.ts';

export interface SandboxMount {
  /** Of the host: a directory or a file. Relative to the working directory of this process. */
  readonly source: string;
  /** Absolute, inside. Default: the same path. */
  readonly destination?: string;
  /** Default false. What is written lands on the host, with the rights of the sandbox's user. */
  readonly writable?: boolean;
}

export interface SandboxOptions {
  /** Directory with another root file system, read-only inside. Default: the host's /usr and what belongs to it. */
  readonly rootfs?: string;
  /** What else of the host is seen inside. Default nothing. */
  readonly mounts?: readonly SandboxMount[];
  /**
   * The root file system becomes writable, as layers: what is written goes into `upper`, or into memory (at most `sizeBytes`,
   * by default `tmpBytes`). Lower ones are `rootfs` alone unless given. Default: the root file system is read-only.
   */
  readonly overlay?: OverlayOptions;
  /** True: the host's network, with its name resolution and certificates. Default false: a loopback of its own. */
  readonly network?: boolean;
  /** Memory of all processes together, without swap. Default: no limit. Needs cgroups (see doctor). */
  readonly memoryBytes?: number;
  /** Most processes and threads. Default 512 where cgroups allow, else no limit. */
  readonly pids?: number;
  /** Processor time per time, for all together: 0.5 is half of one CPU. Default: no limit. Needs cgroups. */
  readonly cpus?: number;
  /** Size of each of /tmp, /dev/shm and the home directory, which are in memory. Default 64 MiB. */
  readonly tmpBytes?: number;
  /** Environment inside; nothing of the host's is passed on. Default PATH, HOME, LANG, TERM. */
  readonly env?: { readonly [name: string]: string };
  /** Absolute, inside. Default: the home directory. */
  readonly cwd?: string;
  /**
   * Who the processes are. Default for root: 65534 (nobody), for others: themselves, as uid 0 of a user namespace that maps
   * nobody else. Only root can choose. Nobody has any capability.
   */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Default `sandbox`. */
  readonly hostname?: string;
  /** The system call filter in the form of linux.seccomp; `'none'`: none at all. Default: `defaultSeccomp`. */
  readonly seccomp?: Seccomp | 'default' | 'none';
  /**
   * `'owner'` (default): it is gone as soon as this process is, however that ends. `'container'`: it lives on; `LinuxFactory`
   * with root `sandboxRoot()` finds it.
   */
  readonly lifetime?: 'owner' | 'container';
  /** State root. Default `sandboxRoot()`. */
  readonly root?: string;
}

export interface ResolvedMount {
  readonly source: string;
  readonly destination: string;
  readonly writable: boolean;
}

/** With everything that decides how the container is made; plain data, so that its JSON can be a key. */
export interface ResolvedOptions {
  readonly rootfs: string | undefined;
  readonly mounts: readonly ResolvedMount[];
  readonly overlay: OverlayOptions | undefined;
  readonly network: boolean;
  readonly memoryBytes: number | undefined;
  readonly pids: number | undefined;
  readonly cpus: number | undefined;
  readonly tmpBytes: number;
  readonly env: { readonly [name: string]: string };
  readonly cwd: string | undefined;
  readonly uid: number;
  readonly gid: number;
  readonly hostname: string;
  readonly seccomp: Seccomp | 'default' | 'none';
}

const wrong = (detail: string): never => {
  throw new LibcontainerError('ERR_ARGUMENT', { detail });
};

const nobody = 65534;
const defaultTmpBytes = 64 << 20;

/** @throws {LibcontainerError} ERR_ARGUMENT naming the option */
export function resolveOptions(options: SandboxOptions): ResolvedOptions {
  const { uid, gid } = userOf(options);
  return {
    rootfs: options.rootfs === undefined ? undefined : resolve(options.rootfs),
    mounts: (options.mounts ?? []).map(resolveMount),
    overlay: options.overlay === undefined ? undefined : overlayOf(options.overlay, options.tmpBytes),
    network: options.network ?? false,
    memoryBytes: positive('memoryBytes', options.memoryBytes, 64 * 1024),
    pids: positive('pids', options.pids, 1),
    cpus: cpusOf(options.cpus),
    tmpBytes: positive('tmpBytes', options.tmpBytes, 4096) ?? defaultTmpBytes,
    env: options.env ?? {},
    cwd:
      options.cwd === undefined || isAbsolute(options.cwd)
        ? options.cwd
        : wrong(`cwd: ${options.cwd} is not absolute`),
    uid,
    gid,
    hostname: options.hostname ?? 'sandbox',
    seccomp: options.seccomp ?? 'default',
  };
}

function positive(name: string, value: number | undefined, least: number): number | undefined {
  if (value !== undefined && !(Number.isSafeInteger(value) && value >= least))
    wrong(`${name} is ${value}, not an integer from ${least} on`);
  return value;
}

/** Relative paths are this process's, as those of `rootfs` and `mounts`. */
function overlayOf(given: OverlayOptions, tmpBytes: number | undefined): OverlayOptions {
  const { lower, upper, work } = given;
  const sizeBytes = given.sizeBytes ?? (upper === undefined ? (tmpBytes ?? defaultTmpBytes) : undefined);
  return {
    ...(lower === undefined ? {} : { lower: lower.map(path => resolve(path)) }),
    ...(upper === undefined ? {} : { upper: resolve(upper) }),
    ...(work === undefined ? {} : { work: resolve(work) }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  };
}

/** The kernel's shortest quota is a millisecond (sched-bwc.rst); ours is per 100 ms. */
function cpusOf(cpus: number | undefined): number | undefined {
  if (cpus !== undefined && !(cpus >= 0.01 && cpus <= 65_536))
    wrong(`cpus is ${cpus}, not from 0.01 to 65536`);
  return cpus;
}

function userOf({ user }: SandboxOptions): { readonly uid: number; readonly gid: number } {
  const isRoot = process.geteuid?.() === 0;
  if (user === undefined) return isRoot ? { uid: nobody, gid: nobody } : { uid: 0, gid: 0 };
  if (!isRoot) wrong('user: only root can choose who the processes of a sandbox are');
  for (const id of [user.uid, user.gid])
    if (!(Number.isInteger(id) && id >= 0 && id < 2 ** 32 - 1)) wrong(`user: ${id} is no id`);
  return { uid: user.uid, gid: user.gid };
}

/** Ours to fill: what lies over them would hide what the sandbox needs. */
const reserved = ['/', '/proc', '/dev', '/sys'];

function resolveMount({ source, destination, writable = false }: SandboxMount): ResolvedMount {
  if (typeof source !== 'string' || source === '') wrong('mounts: a source is needed');
  const from = resolve(source);
  if (!existsSync(from)) wrong(`mounts: ${from} does not exist`);
  if (destination !== undefined && !isAbsolute(destination)) wrong(`mounts: ${destination} is not absolute`);
  const to = normalize(destination ?? from).replace(/(.)\/$/, '$1');
  if (reserved.some(path => to === path || (path !== '/' && to.startsWith(`${path}/`))))
    wrong(`mounts: ${to} cannot be mounted on`);
  return { source: from, destination: to, writable };
}
