// What scripts/sweep.mjs starts, and which components of its paths a container controls.

const look =
  'cat /etc/passwd /etc/file /secret/file /data/file /data/n/file /place/file file 2>&1; for f in /kept/file /kept/dir/new /etc/file; do (echo evil > $f) 2>&1; done; (echo 2 > /proc/sys/vm/stat_interval) 2>&1; test -w /proc/sysrq-trigger -a -f /proc/sysrq-trigger -a -d /proc/1 && echo secret of the host; echo looked';
const programs = ['sh', 'cat', 'echo', 'true', 'sleep', 'ls'];

/** Trees of the image and of a volume that two containers share; undefined: a directory. */
export const files = {
  rootfs: {
    bin: undefined,
    ...Object.fromEntries(programs.map(name => [`bin/${name}`, '-> busybox'])),
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
    'etc/file': 'of the image',
    'dev/pts': undefined,
    proc: undefined,
    sys: undefined,
    'data/b': undefined,
    'secret/file': 'of the image',
    'secret/dir/file': 'of the image',
    'ro/dir/file': 'of the image',
    'up/dir/file': 'of the image',
    'place/file': 'of the image',
    tmp: undefined,
  },
  volume: { file: 'of the volume', 'a/b/file': 'of the volume', 'n/file': 'of the volume' },
};

const mount = (destination, type, source, ...options) => ({ destination, type, source, options });

function spec(rootfs, { mounts, linux = {}, process = {}, root = {} }) {
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args: ['/bin/sh', '-c', look],
      env: ['PATH=/bin'],
      cwd: '/',
      ...process,
    },
    root: { path: rootfs, ...root },
    mounts: [mount('/proc', 'proc', 'proc'), ...mounts],
    linux: {
      namespaces: ['pid', 'ipc', 'uts', 'mount', 'network'].map(type => ({ type })),
      maskedPaths: [],
      readonlyPaths: ['/proc/sys', '/proc/sysrq-trigger'],
      ...linux,
    },
  };
}
const kept = source => mount('/kept', 'bind', source, 'bind', 'ro');

export const configurations = {
  'bind mounts and a shared volume': {
    spec: ({ rootfs, volume, kept: source }) =>
      spec(rootfs, {
        mounts: [
          mount('/data', 'bind', volume, 'rbind', 'rw'),
          mount('/data/n', 'tmpfs', 'tmpfs', 'size=1m'),
          mount('/data/a/b/c/d', 'bind', source, 'bind', 'ro'),
          mount('/etc/file', 'bind', `${source}/file`, 'bind', 'ro'),
          kept(source),
        ],
      }),
    components: [
      'data',
      'volume/a',
      'volume/a/b',
      'volume/a/b/c',
      'volume/n',
      'volume/file',
      'etc',
      'etc/file',
      'kept',
      'proc',
    ],
  },
  'a /dev of the image, with devices and links': {
    spec: ({ rootfs, kept: source }) =>
      spec(rootfs, {
        mounts: [mount('/dev/pts', 'devpts', 'devpts', 'newinstance', 'ptmxmode=0666'), kept(source)],
        linux: {
          devices: [
            { path: '/dev/disk/one', type: 'c', major: 1, minor: 3, uid: 5, gid: 6, fileMode: 0o600 },
          ],
        },
      }),
    components: [
      'dev',
      'dev/pts',
      'dev/null',
      'dev/disk',
      'dev/disk/one',
      'dev/ptmx',
      'dev/fd',
      'dev/tty',
      'kept',
      'sys',
    ],
  },
  'masked and read-only paths': {
    spec: ({ rootfs, kept: source }) =>
      spec(rootfs, {
        mounts: [mount('/dev', 'tmpfs', 'tmpfs', 'mode=755'), kept(source)],
        linux: {
          maskedPaths: ['/secret/dir', '/secret/file', '/etc/passwd', '/proc/kcore'],
          readonlyPaths: ['/ro/dir', '/ro', '/proc/sys', '/proc/sysrq-trigger'],
        },
        root: { readonly: true },
      }),
    components: ['secret', 'secret/dir', 'secret/file', 'etc', 'etc/passwd', 'ro', 'ro/dir', 'dev', 'kept'],
  },
  'copied-up and late read-only tmpfs, a working directory that is made': {
    spec: ({ rootfs, kept: source }) =>
      spec(rootfs, {
        mounts: [
          mount('/up', 'tmpfs', 'tmpfs', 'tmpcopyup', 'ro'),
          mount('/late/one', 'tmpfs', 'tmpfs', 'ro'),
          kept(source),
        ],
        process: { cwd: '/place/made/here', user: { uid: 1000, gid: 1000 } },
      }),
    components: [
      'up',
      'up/dir',
      'up/dir/file',
      'late',
      'late/one',
      'place',
      'place/made',
      'place/made/here',
      'etc',
      'bin',
    ],
  },
  'a sysctl, written by way of a /proc that others mount over': {
    spec: ({ rootfs, kept: source }) =>
      spec(rootfs, {
        mounts: [mount('/sys', 'sysfs', 'sysfs', 'ro'), kept(source)],
        linux: { sysctl: { 'net.ipv4.ip_default_ttl': '65', 'kernel.domainname': 'inside' } },
      }),
    components: [
      'proc',
      'proc/sys',
      'proc/sys/net/ipv4',
      'proc/sys/net/ipv4/ip_default_ttl',
      'proc/sys/kernel/domainname',
      'proc/self',
      'sys',
      'kept',
    ],
  },
  'a process that enters': {
    enter: true,
    spec: ({ rootfs, volume, kept: source }) =>
      spec(rootfs, {
        mounts: [mount('/data', 'bind', volume, 'rbind', 'rw'), kept(source)],
        process: { cwd: '/place', user: { uid: 1000, gid: 1000 } },
      }),
    components: ['place', 'etc', 'etc/passwd', 'bin', 'bin/sh', 'bin/busybox', 'volume/a', 'proc'],
  },
};
