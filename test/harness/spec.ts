/** The document that `runc spec` writes (runc 1.1), as the base of test bundles: independent of our own `nrunc spec`. */
export interface SpecDocument {
  ociVersion: string;
  process: { [property: string]: unknown };
  root: { path: string; readonly?: boolean };
  hostname?: string;
  mounts: { destination: string; type?: string; source?: string; options?: string[] }[];
  linux: {
    resources: { [property: string]: unknown };
    namespaces: { type: string; path?: string }[];
    maskedPaths: string[];
    readonlyPaths: string[];
    [property: string]: unknown;
  };
  [property: string]: unknown;
}

const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
const mount = (destination: string, type: string, source: string, ...options: string[]) => ({
  destination,
  type,
  source,
  ...(options.length > 0 ? { options } : {}),
});

/** For an ordinary user: in a user namespace with one id, without ids in mount options and without limits. */
function rootlessSpec(spec: SpecDocument): SpecDocument {
  const own = (id = 0) => [{ containerID: 0, hostID: id, size: 1 }];
  spec.linux.namespaces.push({ type: 'user' });
  Object.assign(spec.linux, {
    uidMappings: own(process.geteuid?.()),
    gidMappings: own(process.getegid?.()),
    resources: {},
  });
  for (const row of spec.mounts)
    if (row.options !== undefined) row.options = row.options.filter(option => !/^[ug]id=/.test(option));
  return spec;
}

export function defaultSpec(rootfs: string): SpecDocument {
  const spec = rootSpec(rootfs);
  return process.geteuid?.() === 0 ? spec : rootlessSpec(spec);
}

function rootSpec(rootfs: string): SpecDocument {
  return {
    ociVersion: '1.0.2-dev',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ['/bin/true'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: {
        bounding: [...capabilities],
        effective: [...capabilities],
        permitted: [...capabilities],
        ambient: [...capabilities],
      },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    hostname: 'runc',
    mounts: [
      mount('/proc', 'proc', 'proc'),
      mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
      mount(
        '/dev/pts',
        'devpts',
        'devpts',
        'nosuid',
        'noexec',
        'newinstance',
        'ptmxmode=0666',
        'mode=0620',
        'gid=5',
      ),
      mount('/dev/shm', 'tmpfs', 'shm', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
      mount('/dev/mqueue', 'mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
      mount('/sys', 'sysfs', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
      mount('/sys/fs/cgroup', 'cgroup', 'cgroup', 'nosuid', 'noexec', 'nodev', 'relatime', 'ro'),
    ],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map(type => ({ type })),
      maskedPaths:
        '/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats /proc/sched_debug /sys/firmware /proc/scsi'.split(
          ' ',
        ),
      readonlyPaths: '/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger'.split(' '),
    },
  };
}
