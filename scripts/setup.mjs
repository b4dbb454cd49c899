// Everything a fresh clone on Debian 12 needs, with Node's built-in modules only: Debian packages, npm packages, build,
// test rootfs. What is there already is not touched, so a second run takes a moment.
// node scripts/setup.mjs [--vm] [--bench] [--check] [--fuzz] [--browser]
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const packages = {
  base: ['g++', 'make', 'python3', 'musl-tools', 'libseccomp-dev', 'busybox-static', 'util-linux', 'strace'],
  check: ['clang-format'],
  vm: [
    'qemu-system-x86',
    'linux-image-amd64',
    'kmod',
    'cpio',
    'xz-utils',
    'systemd',
    'dbus',
    'criu',
    'iptables',
    'iproute2',
    'apparmor',
    // The engines that nrunc is tried under.
    'podman',
    'catatonit',
    'netavark',
    'uidmap',
    'containerd',
    'docker.io',
    'runc',
  ],
  bench: ['runc', 'crun', 'bubblewrap'],
  fuzz: ['clang', 'libclang-rt-14-dev'],
  // For the tests of the examples' web pages.
  browser: ['chromium', 'fonts-dejavu-core'],
};

function fail(message) {
  console.error(`setup: ${message}`);
  process.exit(1);
}

function checkPlatform() {
  if (process.platform !== 'linux') fail('this package is for Linux');
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    fail(`Node.js 20.19 or later is needed, this is ${process.version}`);
}

// biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholders are dpkg-query's own
const statusFormat = '-f=${Package} ${db:Status-Status}\n';

function installed(names) {
  const { stdout, error } = spawnSync('dpkg-query', ['-W', statusFormat, ...names], {
    encoding: 'utf8',
  });
  if (error) fail(`dpkg-query: ${error.message}; on another distribution install: ${names.join(' ')}`);
  return new Set(
    stdout
      .split('\n')
      .filter(line => line.endsWith(' installed'))
      .map(line => line.split(' ')[0]),
  );
}

function installPackages(names) {
  const have = installed(names);
  const missing = names.filter(name => !have.has(name));
  if (missing.length === 0) return;
  const line = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing];
  if (process.geteuid() !== 0) fail(`Debian packages are missing; as root: ${line.join(' ')}`);
  console.log(`setup: ${line.join(' ')}`);
  const options = {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  const apt = args => spawnSync(args[0], args.slice(1), { ...options, encoding: 'utf8', maxBuffer: 1 << 28 });
  const lists = '/var/lib/apt/lists';
  const haveLists = existsSync(lists) && readdirSync(lists).some(name => name.includes('_Packages'));
  if (!haveLists) apt(['apt-get', 'update']);
  let result = apt(line);
  // Lists can be there and too old: the files they name are gone from the mirror.
  if (result.status !== 0 && haveLists) {
    apt(['apt-get', 'update']);
    result = apt(line);
  }
  if (result.status !== 0)
    fail(`${line.join(' ')} failed:\n${result.stdout.slice(-2000)}${result.stderr.slice(-2000)}`);
}

function installModules() {
  const record = join(root, 'node_modules/.package-lock.json');
  const lock = join(root, 'package-lock.json');
  if (existsSync(record) && statSync(record).mtimeMs >= statSync(lock).mtimeMs) return;
  console.log('setup: npm ci');
  const result = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (result.status !== 0) fail('npm ci failed');
}

/** @param {{ vm?: boolean, bench?: boolean, check?: boolean, fuzz?: boolean, browser?: boolean }} wanted */
export async function setUp(wanted) {
  checkPlatform();
  const sets = ['check', 'vm', 'bench', 'fuzz', 'browser'].filter(name => wanted[name]);
  installPackages([...packages.base, ...sets.flatMap(name => packages[name])]);
  installModules();
  mkdirSync(join(root, 'build'), { recursive: true });
  try {
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root, stdio: 'inherit' });
  } catch {
    fail('the build failed; its messages are above');
  }
  const { makeRootfs } = await import('./rootfs.mjs');
  makeRootfs();
  const { testProgram } = await import('./programs.mjs');
  for (const name of ['deny', 'shim', 'sweep']) testProgram(name);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const known = ['--vm', '--bench', '--check', '--fuzz', '--browser'];
  const unknown = process.argv.slice(2).find(word => !known.includes(word));
  if (unknown) fail(`unknown option ${unknown}; options: ${known.join(' ')}`);
  await setUp({
    vm: process.argv.includes('--vm'),
    bench: process.argv.includes('--bench'),
    check: process.argv.includes('--check'),
    fuzz: process.argv.includes('--fuzz'),
    browser: process.argv.includes('--browser'),
  });
}
