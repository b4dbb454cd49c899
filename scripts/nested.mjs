// node scripts/nested.mjs [--all] [--bundles DIR] [--filter NAME] [FILES…]: integration tests inside a container of our own,
// which has every namespace but a user namespace, all capabilities that we have, the host's programs read-only and cgroups
// of its own to make others in; and there, as in every lane, once more as an ordinary user. What a test requires is looked
// for inside. Ends with test.mjs' line `nested: N passed, …` and its status. Without files: those below.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bundlePath, bundleTests, findTests } from './bundle-tests.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const nrunc = join(root, 'dist/nrunc.cjs');
process.chdir(root);
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    all: { type: 'boolean', default: false },
    bundles: { type: 'string', default: 'build/test-nested' },
    filter: { type: 'string', default: '' },
  },
});

/** The kinds of container that the library makes, and what is done with them. */
const representative =
  'run exec exec-stages lifecycle hooks namespaces userns userns-join rootless spec-mounts spec-linux idmap cgroups terminal seccomp signal state';
const named = options.all
  ? findTests(['test/integration'])
  : representative.split(' ').map(name => `test/integration/${name}.test.ts`);
// This one would start us again.
const files = (positionals.length > 0 ? positionals : named).filter(file => !file.includes('/nested.test.'));

const own = new Set(['proc', 'sys', 'dev', 'run', 'tmp']);
const mount = (destination, type, source, ...words) => ({ destination, type, source, options: words });

/** The host's directories read-only, this checkout writable. Their mount points are made in `rootfs`. */
function hostMounts(rootfs) {
  const mounts = [];
  for (const name of readdirSync('/')) {
    const path = `/${name}`;
    const at = join(rootfs, name);
    if (lstatSync(path).isSymbolicLink()) symlinkSync(readlinkSync(path), at);
    else if (lstatSync(path).isDirectory()) {
      mkdirSync(at);
      if (!own.has(name)) mounts.push(mount(path, 'bind', path, 'rbind', 'ro'));
    }
  }
  return mounts;
}

function heldCapabilities() {
  const { stdout } = spawnSync(process.execPath, [nrunc, 'features'], { encoding: 'utf8' });
  const names = JSON.parse(stdout).linux.capabilities;
  const bits = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]}`);
  return names.filter((_, number) => (bits >> BigInt(number)) & 1n);
}

const quote = word => `'${word.replaceAll("'", "'\\''")}'`;

// On cgroup v2 a cgroup with processes has no controllers for others (cgroup-v2.rst, "No Internal Process Constraint").
const delegate = `if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir /sys/fs/cgroup/tests && echo $$ >/sys/fs/cgroup/tests/cgroup.procs || exit 90
  for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done
fi
chmod 755 /run
`;

function configuration(rootfs) {
  const words = ['--no-setup', '--no-bundle', '--bundles', bundles, '--lane', 'nested'];
  const results = ['--results', 'build/results/nested.json', '--filter', options.filter];
  const command = [process.execPath, 'scripts/test.mjs', ...words, ...results, ...files].map(quote).join(' ');
  const names = heldCapabilities();
  const { PATH = '', LIBCONTAINER_TEST_SLOWNESS = '1' } = process.env;
  return {
    ociVersion: '1.2.0',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      // The shell stays: process 1 reaps what is orphaned.
      args: ['/bin/sh', '-c', `${delegate}${command}; exit $?`],
      env: [`PATH=${PATH}`, 'HOME=/root', `LIBCONTAINER_TEST_SLOWNESS=${LIBCONTAINER_TEST_SLOWNESS}`],
      cwd: root,
      capabilities: { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] },
      noNewPrivileges: false,
    },
    root: { path: rootfs, readonly: false },
    hostname: 'nested',
    mounts: [
      ...hostMounts(rootfs),
      mount('/proc', 'proc', 'proc'),
      mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'mode=755'),
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
      mount('/dev/shm', 'tmpfs', 'shm', 'nosuid', 'nodev', 'mode=1777'),
      mount('/dev/mqueue', 'mqueue', 'mqueue', 'nosuid', 'nodev', 'noexec'),
      mount('/sys', 'sysfs', 'sysfs', 'nosuid', 'nodev', 'noexec'),
      mount('/sys/fs/cgroup', 'cgroup', 'cgroup', 'nosuid', 'nodev', 'noexec'),
      mount('/run', 'tmpfs', 'tmpfs', 'nosuid', 'nodev', 'mode=755'),
      // Devices: a rootfs that a test has copied there has its own when nothing is mounted on its /dev.
      mount('/tmp', 'tmpfs', 'tmpfs', 'nosuid', 'mode=1777'),
      mount(root, 'bind', root, 'rbind'),
    ],
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map(type => ({ type })),
      resources: { devices: [{ allow: true, access: 'rwm' }] },
    },
  };
}

// Those of a whole lane are there already.
const ours = 'build/test-nested';
const complete = files.every(file => existsSync(bundlePath(file, options.bundles)));
const bundles = complete && options.bundles !== ours ? options.bundles : ours;
if (bundles === ours) await bundleTests(files, ours);
mkdirSync('build/results', { recursive: true });
const work = mkdtempSync(join(tmpdir(), 'libcontainer-nested-'));
const id = `nested-${process.pid}`;
const state = join(work, 'state');
const engine = (...words) =>
  spawnSync(process.execPath, [nrunc, '--root', state, ...words], { stdio: 'inherit' });
try {
  const rootfs = join(work, 'rootfs');
  mkdirSync(rootfs);
  writeFileSync(join(work, 'config.json'), JSON.stringify(configuration(rootfs)));
  const { status, signal } = engine('run', '--bundle', work, id);
  process.exitCode = status ?? 1;
  if (signal !== null) console.error(`nested: nrunc was ended by ${signal}`);
} finally {
  engine('delete', '--force', id);
  rmSync(work, { recursive: true, force: true });
}
