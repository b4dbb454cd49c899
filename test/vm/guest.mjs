// A QEMU guest with Debian's stock kernel whose root is this machine's own file system, read-only over 9p under an
// overlay on tmpfs: nothing that the guest writes reaches the host, except what it puts in /out.
// Profiles: v2 (cgroup v2 alone, a shell script as init), systemd (systemd as PID 1 with D-Bus), v1 (pure cgroup v1), engines
// (systemd again, a guest of its own for Podman, containerd and Docker: they are slow), systemd-v1 (systemd with the controllers in
// cgroup v1 and a cgroup2 hierarchy without any beside them; LIBCONTAINER_VM_APPEND=systemd.legacy_systemd_cgroup_controller=1:
// without it).
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const profiles = ['v2', 'systemd', 'v1', 'engines', 'systemd-v1'];
const hasSystemd = profile => profile.startsWith('systemd') || profile === 'engines';

const quote = word => `'${word.replaceAll("'", "'\\''")}'`;
const script = (path, lines) => {
  writeFileSync(path, `${lines.join('\n')}\n`);
  chmodSync(path, 0o755);
};

function newestKernel() {
  const releases = readdirSync('/boot')
    .filter(name => name.startsWith('vmlinuz-'))
    .map(name => name.slice('vmlinuz-'.length))
    .filter(release => existsSync(`/lib/modules/${release}`))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const release = releases.at(-1);
  if (release === undefined) throw new Error('no kernel in /boot: node scripts/setup.mjs --vm');
  return release;
}

// The modules the root needs, in the order of their dependencies, unpacked into the initramfs.
function copyModules(directory, release) {
  const names = [];
  for (const module of ['virtio_pci', '9pnet_virtio', '9p', 'overlay']) {
    const lines = execFileSync('/sbin/modprobe', ['--show-depends', '-S', release, module], {
      encoding: 'utf8',
    }).split('\n');
    for (const line of lines) {
      const path = /^insmod (\S+)/.exec(line)?.[1];
      if (path === undefined) continue;
      const name = basename(path).replace(/\.xz$/, '');
      if (names.includes(name)) continue;
      names.push(name);
      if (path.endsWith('.xz'))
        writeFileSync(join(directory, name), execFileSync('xz', ['-dc', path], { maxBuffer: 1 << 27 }));
      else copyFileSync(path, join(directory, name));
    }
  }
  return names;
}

// cache=mmap: with cache=loose sendfile locks up the 6.1 kernel.
const nineP = (tag, target, flags) =>
  `$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000${flags} ${tag} ${target}`;

function initramfs(work, release) {
  const tree = join(work, 'initramfs');
  for (const directory of ['bin', 'proc', 'sys', 'dev', 'lower', 'rw', 'mnt', 'modules'])
    mkdirSync(join(tree, directory), { recursive: true });
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find(existsSync);
  if (busybox === undefined) throw new Error('busybox is missing: node scripts/setup.mjs --vm');
  copyFileSync(busybox, join(tree, 'bin/busybox'));
  const modules = copyModules(join(tree, 'modules'), release);
  const checkout = [];
  // /tmp of the guest is its own (systemd cleans it); a checkout below /tmp is put back on top.
  if (root.startsWith('/tmp/')) {
    checkout.push(`$B mkdir -p ${quote(`/mnt${root}`)} /rw/cu /rw/cw`);
    checkout.push(
      `$B mount -t overlay -o ${quote(`lowerdir=/lower${root},upperdir=/rw/cu,workdir=/rw/cw`)} overlay ${quote(`/mnt${root}`)}`,
    );
  }
  script(join(tree, 'init'), [
    '#!/bin/busybox sh',
    'B=/bin/busybox',
    '$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev',
    ...modules.map(name => `$B insmod /modules/${name}`),
    nineP('host', '/lower', ',cache=mmap,ro'),
    '$B mount -t tmpfs -o size=75% tmpfs /rw; $B mkdir /rw/u /rw/w',
    '$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/u,workdir=/rw/w overlay /mnt',
    '$B mkdir -p /mnt/job /mnt/out',
    nineP('job', '/mnt/job', ',ro'),
    nineP('out', '/mnt/out', ''),
    'for d in proc sys dev; do $B mount --move /$d /mnt/$d; done',
    '$B mount -t tmpfs -o mode=755 tmpfs /mnt/run; $B mount -t tmpfs -o mode=1777 tmpfs /mnt/tmp',
    '$B mkdir -p /mnt/dev/pts /mnt/dev/shm /mnt/dev/mqueue',
    ...checkout,
    'exec $B switch_root /mnt /job/init',
  ]);
  const image = join(work, 'initrd');
  execFileSync('sh', ['-c', `find . | cpio -o -H newc --quiet | gzip -1 > ${quote(image)}`], { cwd: tree });
  return image;
}

const systemdInit = [
  '#!/bin/bash',
  'mkdir -p /run/systemd/system',
  'cat >/run/systemd/system/vm-job.service <<U',
  '[Unit]',
  'After=dbus.socket basic.target',
  'Wants=dbus.socket',
  '[Service]',
  'Type=oneshot',
  'ExecStart=/job/wrapper',
  'TimeoutStartSec=infinity',
  'Delegate=yes',
  'KillMode=process',
  'U',
  'cat >/run/systemd/system/vm.target <<U',
  '[Unit]',
  'Requires=basic.target vm-job.service',
  'AllowIsolate=yes',
  'U',
  // What the host's file system has is not this guest's to clean, to check or to mount.
  'for u in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer systemd-tmpfiles-clean.service apt-daily.timer apt-daily-upgrade.timer systemd-journal-flush.service tmp.mount systemd-timesyncd.service systemd-update-utmp.service; do ln -sf /dev/null /run/systemd/system/$u; done',
  ': >/etc/fstab; echo vm >/etc/hostname; rm -f /etc/machine-id; : >/etc/machine-id',
  // On the root of a container (/.dockerenv) systemd takes its own words for the kernel's.
  "exec /lib/systemd/systemd --unit=vm.target --log-level=warning --show-status=no $(tr ' ' '\\n' </proc/cmdline | grep '^systemd[.]')",
];

function shellInit(profile) {
  const v1 = [
    'mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup',
    'for c in cpu,cpuacct cpuset memory devices freezer blkio pids net_cls,net_prio perf_event hugetlb; do mkdir /sys/fs/cgroup/$c && mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c; done',
    'for l in cpu cpuacct; do ln -s cpu,cpuacct /sys/fs/cgroup/$l; done',
    'for l in net_cls net_prio; do ln -s net_cls,net_prio /sys/fs/cgroup/$l; done',
    'mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd',
  ];
  return [
    '#!/bin/bash',
    `export PATH=${quote(process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin')}`,
    'mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t mqueue mqueue /dev/mqueue',
    'busybox ip link set lo up 2>/dev/null',
    ...(profile === 'v1' ? v1 : ['mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup']),
    // PID 1 reaps what is orphaned, as a real init does: bash waits for all of its children.
    '/job/wrapper & while :; do wait -n || [ $? -ne 127 ] || break; done',
  ];
}

function writeJob(directory, profile, command, cwd) {
  mkdirSync(directory);
  script(join(directory, 'command'), [
    `export PATH=${quote(process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin')} LIBCONTAINER_VM=${profile}`,
    `cd ${quote(cwd)}`,
    command.map(quote).join(' '),
  ]);
  script(join(directory, 'wrapper'), [
    '#!/bin/bash',
    'exec </dev/null >/dev/ttyS0 2>&1',
    'stty -onlcr 2>/dev/null',
    'export HOME=/root TERM=dumb',
    // apparmor_parser loads profiles through it, and not every profile's init has mounted it.
    'mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security',
    // Paths inside a rootfs over 9p cost a message per component: tests get a copy in memory.
    `R=${quote(join(root, 'build/rootfs'))}`,
    'if [ -d "$R" ]; then mkdir /run/rootfs; cp -a "$R/." /run/rootfs/; mount --bind /run/rootfs "$R"; fi',
    // Ranges for newuidmap(1), for the tests as an ordinary user; in this guest only.
    'echo 65534:100000:65536 >>/etc/subuid; echo 65534:100000:65536 >>/etc/subgid',
    'echo "==vm-begin=="',
    'bash /job/command; rc=$?',
    'echo; echo "==vm-end rc=$rc =="',
    'sync',
    'if [ -d /run/systemd/system ]; then systemctl poweroff --force --force; else echo o >/proc/sysrq-trigger; fi',
    'sleep 60',
  ]);
  script(join(directory, 'init'), hasSystemd(profile) ? systemdInit : shellInit(profile));
}

/**
 * LIBCONTAINER_VM_APPEND is added to the kernel's command line, where the last word counts (`security=selinux selinux=1`).
 * LIBCONTAINER_VM_KVM=1 uses the machine's own virtualisation; otherwise everything is emulated, 10 to 20 times slower.
 * It is asked for, not tried: inside of another virtual machine /dev/kvm opens and the guest then hangs.
 */
export const accelerated = () => process.env.LIBCONTAINER_VM_KVM === '1';

/**
 * Boots, runs the command as root in the guest, powers off.
 * @param {{ profile: string, command: string[], cwd?: string, out?: string, limitSeconds: number, onLine: (line: string) => void, raw?: boolean }} job
 * @returns {Promise<number | undefined>} the command's exit status; undefined when the guest stopped before it ended.
 */
export async function runInGuest(job) {
  const work = mkdtempSync(join(tmpdir(), 'libcontainer-vm-'));
  try {
    const release = newestKernel();
    const initrd = initramfs(work, release);
    writeJob(join(work, 'job'), job.profile, job.command, job.cwd ?? root);
    const out = job.out ?? join(work, 'out');
    mkdirSync(out, { recursive: true });
    const share = (id, path, options) => [
      '-fsdev',
      `local,id=${id},path=${path},${options}`,
      '-device',
      `virtio-9p-pci,fsdev=${id},mount_tag=${id}`,
    ];
    const guest = spawn(
      'qemu-system-x86_64',
      [
        ...[
          ...(accelerated() ? ['-accel', 'kvm'] : []),
          '-accel',
          'tcg,thread=multi',
          '-cpu',
          'max',
          '-smp',
          '2',
          '-m',
          '2048',
        ],
        ...[
          '-nodefaults',
          '-no-reboot',
          '-display',
          'none',
          '-serial',
          'stdio',
          '-monitor',
          'none',
          '-net',
          'none',
          '-rtc',
          'base=utc',
        ],
        ...['-kernel', `/boot/vmlinuz-${release}`, '-initrd', initrd, '-append'],
        `console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check systemd.show_status=no systemd.unified_cgroup_hierarchy=${job.profile === 'systemd-v1' ? 0 : 1} random.trust_cpu=on psi=1 swapaccount=1 apparmor=1 security=apparmor ${process.env.LIBCONTAINER_VM_APPEND ?? ''}`,
        ...share('host', '/', 'security_model=passthrough,readonly=on,multidevs=remap'),
        ...share('job', join(work, 'job'), 'security_model=passthrough,readonly=on'),
        ...share('out', out, 'security_model=none'),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    return await follow(guest, job);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function follow(guest, job) {
  let status;
  let begun = false;
  let last = [];
  const stop = () => guest.kill('SIGKILL');
  const timer = setTimeout(() => {
    job.onLine(`vm: the time limit of ${job.limitSeconds} s has passed`);
    stop();
  }, job.limitSeconds * 1000);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, stop);
  guest.stderr.on('data', data => process.stderr.write(data));
  const ended = new Promise((resolve, reject) => {
    guest.once('error', reject);
    guest.once('close', resolve);
  });
  for await (const raw of createInterface({ input: guest.stdout })) {
    const line = raw.replaceAll('\r', '');
    const end = /==vm-end rc=(\d+) ==/.exec(line);
    if (line.includes('==vm-begin==')) begun = true;
    else if (end) {
      status = Number(end[1]);
      begun = false;
    } else if (begun || job.raw) job.onLine(line);
    else last = [...last.slice(-30), line];
  }
  await ended;
  clearTimeout(timer);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeListener(signal, stop);
  if (status === undefined && !begun) for (const line of last) job.onLine(`vm: ${line}`);
  return status;
}
