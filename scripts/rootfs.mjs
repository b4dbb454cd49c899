// build/rootfs: the root file system of tests and demo. Debian's static busybox with its applets as links, users and
// groups, and /bin/probe (test/programs/probe.c). It is shared and read-only: who writes to it makes a copy or an overlay.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const rootfs = join(root, 'build/rootfs');
const probeSource = join(root, 'test/programs/probe.c');
const probeFacts = join(root, 'test/programs/probe_facts.h');
const time = path => (existsSync(path) ? statSync(path).mtimeMs : 0);

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
web:x:1001:1001:web:/home/web:/bin/sh
`;
const group = `root:x:0:
daemon:x:1:
tty:x:5:
audio:x:29:app
app:x:1000:
web:x:1001:
staff:x:50:app,web
nogroup:x:65534:
`;

function makeTree() {
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find(existsSync);
  if (busybox === undefined) throw new Error('rootfs: busybox is missing: apt-get install -y busybox-static');
  const applets = execFileSync(busybox, ['--list']).toString().trim().split('\n');
  const fresh = `${rootfs}.new`;
  rmSync(fresh, { recursive: true, force: true });
  for (const directory of 'bin dev etc home/app home/web mnt proc root run sys tmp usr/bin var/tmp'.split(
    ' ',
  ))
    mkdirSync(join(fresh, directory), { recursive: true, mode: 0o755 });
  copyFileSync(busybox, join(fresh, 'bin/busybox'));
  chmodSync(join(fresh, 'bin/busybox'), 0o755);
  for (const applet of applets) if (applet !== 'busybox') symlinkSync('busybox', join(fresh, 'bin', applet));
  for (const directory of ['tmp', 'var/tmp']) chmodSync(join(fresh, directory), 0o1777);
  writeFileSync(join(fresh, 'etc/passwd'), passwd);
  writeFileSync(join(fresh, 'etc/group'), group);
  writeFileSync(join(fresh, 'etc/hostname'), 'rootfs\n');
  symlinkSync('/proc/mounts', join(fresh, 'etc/mtab'));
  rmSync(rootfs, { recursive: true, force: true });
  renameSync(fresh, rootfs);
}

function makeProbe() {
  const output = join(rootfs, 'bin/probe');
  if (time(output) > Math.max(time(probeSource), time(probeFacts))) return;
  const kernelHeaders = [
    '-idirafter',
    '/usr/include',
    '-idirafter',
    `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`,
  ];
  execFileSync(
    'musl-gcc',
    [
      '-std=gnu11',
      '-O1',
      '-static',
      '-s',
      '-Wall',
      '-Wextra',
      '-Werror',
      ...kernelHeaders,
      '-o',
      `${output}.new`,
      probeSource,
    ],
    { stdio: 'inherit' },
  );
  renameSync(`${output}.new`, output);
}

export function makeRootfs() {
  if (time(join(rootfs, 'etc/group')) < time(fileURLToPath(import.meta.url))) makeTree();
  makeProbe();
  return rootfs;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) makeRootfs();
