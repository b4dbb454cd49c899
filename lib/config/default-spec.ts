/** What `spec` writes: runc 1.1's starter configuration, property by property. */
import { statfsSync } from 'node:fs';
import type { Json } from './json.ts';

/** What shows the host's own state or lets it be changed: docs/security.md. */
export const maskedPaths: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/proc/scsi',
];

/** linux/magic.h CGROUP2_SUPER_MAGIC. */
const cgroup2Magic = 0x63677270;

/**
 * @param options.unified True on a pure cgroup v2 host, where the container gets a cgroup namespace too. Default: what
 *   /sys/fs/cgroup is.
 */
export function defaultSpec(options: { readonly unified?: boolean } = {}): { readonly [name: string]: Json } {
  const unified = options.unified ?? hostIsUnified();
  const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
  return {
    ociVersion: '1.0.2-dev',
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        ambient: capabilities,
      },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'runc',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      {
        destination: '/dev',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
      },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
      },
      {
        destination: '/dev/shm',
        type: 'tmpfs',
        source: 'shm',
        options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
      },
      {
        destination: '/dev/mqueue',
        type: 'mqueue',
        source: 'mqueue',
        options: ['nosuid', 'noexec', 'nodev'],
      },
      {
        destination: '/sys',
        type: 'sysfs',
        source: 'sysfs',
        options: ['nosuid', 'noexec', 'nodev', 'ro'],
      },
      {
        destination: '/sys/fs/cgroup',
        type: 'cgroup',
        source: 'cgroup',
        options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
      },
    ],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: [
        { type: 'pid' },
        { type: 'network' },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'mount' },
        ...(unified ? [{ type: 'cgroup' }] : []),
      ],
      maskedPaths: [...maskedPaths],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

type Part = { readonly [name: string]: Json };

/**
 * runc's ToRootless: the caller's own ids as root, the host's network and with it its sysfs, no ids in mount options, no
 * limits.
 */
function rootlessSpec(spec: Part): Part {
  const { mounts, linux } = spec as { readonly mounts: readonly Part[]; readonly linux: Part };
  const { resources: _, namespaces, ...rest } = linux as Part & { readonly namespaces: readonly Part[] };
  const own = (id: number): Json => [{ containerID: 0, hostID: id, size: 1 }];
  const withoutIds = (mount: Part): Part =>
    Array.isArray(mount.options)
      ? { ...mount, options: mount.options.filter(option => !/^[ug]id=/.test(String(option))) }
      : mount;
  const sysfs = {
    destination: '/sys',
    type: 'none',
    source: '/sys',
    options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'],
  };
  return {
    ...spec,
    mounts: mounts.map(mount => (mount.destination === '/sys' ? sysfs : withoutIds(mount))),
    linux: {
      uidMappings: own(process.geteuid?.() ?? 0),
      gidMappings: own(process.getegid?.() ?? 0),
      namespaces: [...namespaces.filter(({ type }) => type !== 'network'), { type: 'user' }],
      ...rest,
    },
  };
}

/** The file as runc writes it: tabs, no newline at the end. */
export function defaultSpecText(
  options: { readonly unified?: boolean; readonly rootless?: boolean } = {},
): string {
  const spec = defaultSpec(options);
  return JSON.stringify(options.rootless === true ? rootlessSpec(spec) : spec, null, '\t');
}

function hostIsUnified(): boolean {
  try {
    return statfsSync('/sys/fs/cgroup').type === cgroup2Magic;
  } catch {
    return false;
  }
}
