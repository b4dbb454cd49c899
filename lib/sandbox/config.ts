/** Options → Config: an OCI configuration with everything off that a program does not need. */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import type { Config } from '../config/config.ts';
import { maskedPaths } from '../config/default-spec.ts';
import type { Spec, SpecSeccomp } from '../config/spec.ts';
import { availableControllers, resolveSpec } from '../index.ts';
import type { ResolvedOptions } from './options.ts';
import { hostRootfs } from './rootfs.ts';
import { defaultSeccomp } from './seccomp.ts';

const home = '/home/sandbox';
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const defaultPids = 512;
/** Microseconds, cpu.cfs_period_us. */
const periodUs = 100_000;
const openFiles = 4096;

/** Configs of what was asked for before: a plan is made once per Config object (parent/plans.ts). */
const known = new Map<string, Config>();
const mostKnown = 64;

/** @throws {LibcontainerError} ERR_ARGUMENT, ERR_STATE_ROOT {ConfigError} */
export async function sandboxConfig(options: ResolvedOptions): Promise<Config> {
  const key = JSON.stringify(options);
  const before = known.get(key);
  // What cleans up old files of a temporary directory may have been at it.
  if (before !== undefined && existsSync(before.rootfs)) return before;
  const config = await makeConfig(options);
  known.set(key, config);
  const [oldest] = known.keys();
  if (known.size > mostKnown && oldest !== undefined) known.delete(oldest);
  return config;
}

type SpecMount = NonNullable<Spec['mounts']>[number];

async function makeConfig(options: ResolvedOptions): Promise<Config> {
  const { rootfs, mounts, uid, gid, hostname, network, overlay } = options;
  const mountPoints = mounts.map(({ source, destination }) =>
    statSync(source).isDirectory() ? `${destination}/` : destination,
  );
  const own =
    rootfs === undefined ? hostRootfs({ uid, gid, hostname, home, network, mountPoints }) : undefined;
  // Its own real path: a link could be turned between now and the start.
  const root = own?.path ?? realpathSync(rootfs ?? '/');
  const homeDirectory = own === undefined ? '/tmp' : home;
  const spec: Spec = {
    ociVersion: '1.2.0',
    root: { path: root, readonly: overlay === undefined },
    hostname,
    process: processOf(options, homeDirectory),
    mounts: [
      ...(own?.trees ?? []).map(tree => bind(tree, tree, false)),
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      tmpfs('/dev', ['strictatime', 'mode=755', 'size=65536'], 'exec'),
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
      },
      tmpfs('/dev/shm', ['nodev', 'mode=1777', `size=${options.tmpBytes}`]),
      tmpfs('/tmp', ['nodev', 'mode=1777', `size=${options.tmpBytes}`], 'exec'),
      ...(own === undefined
        ? []
        : [tmpfs(home, ['nodev', 'mode=0700', ...ids(options), `size=${options.tmpBytes}`], 'exec')]),
      ...mounts.map(({ source, destination, writable }) => bind(source, destination, writable)),
    ],
    linux: linuxOf(options),
  };
  return resolveSpec(spec, root, overlay === undefined ? {} : { overlay });
}

/** Of the file systems in memory: whoever is not root has no other id to give them to. */
const ids = ({ uid, gid }: ResolvedOptions): string[] => (uid === 0 ? [] : [`uid=${uid}`, `gid=${gid}`]);

const tmpfs = (destination: string, options: readonly string[], exec = 'noexec'): SpecMount => ({
  destination,
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', exec, ...options],
});

/** With what is mounted below it: a less privileged mount namespace may not uncover what the host has covered. */
const bind = (source: string, destination: string, writable: boolean): SpecMount => ({
  destination,
  type: 'bind',
  source,
  options: ['rbind', 'rprivate', 'rnosuid', 'rnodev', ...(writable ? [] : ['rro'])],
});

function processOf(options: ResolvedOptions, homeDirectory: string): NonNullable<Spec['process']> {
  const env = { PATH: path, HOME: homeDirectory, LANG: 'C.UTF-8', TERM: 'xterm', ...options.env };
  const none: string[] = [];
  return {
    args: ['/bin/sh'],
    cwd: options.cwd ?? homeDirectory,
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    user: { uid: options.uid, gid: options.gid },
    capabilities: { bounding: none, effective: none, permitted: none, inheritable: none, ambient: none },
    noNewPrivileges: true,
    rlimits: [{ type: 'RLIMIT_CORE', soft: '0', hard: '0' }, ...fileLimit()],
  };
}

/**
 * Node raises its own soft limit to the hard one, which may be a million: programs that close all descriptors one by one,
 * and those that use select(2), want the usual one.
 */
function fileLimit(): { type: string; soft: string; hard: string }[] {
  const [, hard = ''] = /^Max open files +\S+ +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  const most = hard === 'unlimited' ? openFiles : Math.min(Number(hard), openFiles);
  if (!Number.isFinite(most)) return [];
  return [{ type: 'RLIMIT_NOFILE', soft: String(Math.min(most, 1024)), hard: String(most) }];
}

function linuxOf(options: ResolvedOptions): NonNullable<Spec['linux']> {
  const root = process.geteuid?.() === 0;
  const own = (id: number) => [{ containerID: 0, hostID: id, size: 1 }];
  return {
    ...(root
      ? {}
      : { uidMappings: own(process.geteuid?.() ?? 0), gidMappings: own(process.getegid?.() ?? 0) }),
    namespaces: [
      ...(root ? [] : [{ type: 'user' }]),
      { type: 'pid' },
      { type: 'ipc' },
      { type: 'uts' },
      { type: 'mount' },
      { type: 'cgroup' },
      ...(options.network ? [] : [{ type: 'network' }]),
    ],
    resources: resourcesOf(options),
    ...(options.seccomp === 'none' ? {} : { seccomp: filterOf(options.seccomp) }),
    // It has no sysfs.
    maskedPaths: [...maskedPaths.filter(path => path.startsWith('/proc/')), '/proc/sysrq-trigger'],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'],
  };
}

/** The shapes differ in `readonly` alone. */
const filterOf = (seccomp: Exclude<ResolvedOptions['seccomp'], 'none'>): SpecSeccomp =>
  (seccomp === 'default' ? defaultSeccomp : seccomp) as SpecSeccomp;

/** What was asked for is refused by name where it cannot be had; what was not is left out there. */
function resourcesOf(options: ResolvedOptions): NonNullable<NonNullable<Spec['linux']>['resources']> {
  const { memoryBytes, cpus } = options;
  const pids = options.pids ?? (availableControllers().has('pids') ? defaultPids : undefined);
  return {
    ...(process.geteuid?.() === 0 ? { devices: [{ allow: false, access: 'rwm' }] } : {}),
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, ...withoutSwap(memoryBytes) } }),
    ...(cpus === undefined ? {} : { cpu: { quota: Math.round(cpus * periodUs), period: periodUs } }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
  };
}

/** Memory and swap together are the limit, where there is swap and the kernel counts it. */
function withoutSwap(limit: number): { swap?: number } {
  const swaps = readFileSync('/proc/swaps', 'utf8').trim().split('\n').length > 1;
  const counted =
    !existsSync('/sys/fs/cgroup/memory') || existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes');
  return swaps && counted ? { swap: limit } : {};
}
