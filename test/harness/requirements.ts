/**
 * The one vocabulary that decides what runs where. Each word is probed for real, once per process; a test that is
 * skipped prints the requirement and what the probe saw.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { capabilityNumber } from './capabilities.ts';

/** A program that must be in PATH. */
type Program =
  | 'runc'
  | 'crun'
  | 'bwrap'
  | 'podman'
  | 'containerd'
  | 'dockerd'
  | 'musl-gcc'
  | 'iptables'
  | 'git'
  | 'rdma'
  | 'chromium';

export type Requirement =
  | 'root'
  | 'not-root'
  | 'rootless'
  | 'subids'
  | 'delegated'
  | 'not-delegated'
  | 'cgroup-v1'
  | 'cgroup-v2'
  | 'hybrid'
  | 'systemd'
  | 'no-systemd'
  | 'criu'
  | 'criu-lazy'
  | 'apparmor'
  | 'selinux'
  | 'userns'
  | 'psi'
  | 'overlay'
  | 'seccomp'
  | 'probe'
  | 'init-faults'
  | 'lane:host'
  | Program
  | `controller:${string}`
  | `cap:${string}`
  | `kernel:${number}.${number}`
  | `file:${string}`;

/** The checkout: the nearest directory above this file (or its bundle) with our package.json. */
export const projectRoot = findProjectRoot();

function findProjectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const above = dirname(directory);
    if (above === directory) throw new Error('test harness: no package.json above the test bundle');
    directory = above;
  }
  return directory;
}

/** True, or what the probe saw instead. */
type Finding = true | string;

function readable(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function inPath(program: string): Finding {
  for (const directory of (process.env.PATH ?? '').split(':')) {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      // Not here: the next directory of PATH.
    }
  }
  return `${program} is not in PATH`;
}

interface CgroupMounts {
  /** Controllers of mounted v1 hierarchies, without named ones. */
  readonly v1: readonly string[];
  /** Mount point of cgroup2, if any. */
  readonly v2: string | undefined;
}

function cgroupMounts(): CgroupMounts {
  const v1: string[] = [];
  let v2: string | undefined;
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before, after] = line.split(' - ');
    if (before === undefined || after === undefined) continue;
    const mountPoint = before.split(' ')[4] ?? '';
    const [type, , options = ''] = after.split(' ');
    if (!mountPoint.startsWith('/sys/fs/cgroup')) continue;
    if (type === 'cgroup2') v2 ??= mountPoint;
    else if (type === 'cgroup' && !options.includes('name='))
      v1.push(...(mountPoint.split('/').pop() ?? '').split(','));
  }
  return { v1, v2 };
}

function controller(name: string): Finding {
  const { v1, v2 } = cgroupMounts();
  if (v1.includes(name)) return true;
  const listed = v2 === undefined ? [] : (readable(`${v2}/cgroup.controllers`) ?? '').trim().split(' ');
  return listed.includes(name) || `available are: ${[...v1, ...listed].join(' ') || 'none'}`;
}

function layout(word: 'cgroup-v1' | 'cgroup-v2' | 'hybrid'): Finding {
  const { v1, v2 } = cgroupMounts();
  const have =
    v1.length === 0
      ? v2 === undefined
        ? 'no cgroups'
        : 'cgroup v2'
      : v2 === undefined
        ? 'cgroup v1'
        : 'hybrid';
  const fits =
    word === 'cgroup-v1'
      ? v1.length > 0
      : word === 'cgroup-v2'
        ? v1.length === 0 && v2 !== undefined
        : have === 'hybrid';
  return fits || `this machine has ${have}`;
}

function capability(name: string): Finding {
  const mask = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${mask}`) >> BigInt(capabilityNumber(name))) & 1n) === 1n || `CapEff is ${mask}`;
}

function kernel(wanted: string): Finding {
  const release = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  const [major = 0, minor = 0] = release.split('.').map(part => Number.parseInt(part, 10));
  const [wantMajor = 0, wantMinor = 0] = wanted.split('.').map(Number);
  return major > wantMajor || (major === wantMajor && minor >= wantMinor) || `the kernel is ${release}`;
}

function runs(command: string, ...args: string[]): Finding {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 60_000 });
  if (result.error !== undefined) return result.error.message;
  return (
    result.status === 0 ||
    `${[command, ...args].join(' ')}: ${(result.stderr || result.stdout).trim().split('\n').pop()}`
  );
}

/** An ordinary user that may make cgroups beside its own, cgroup-v2.rst "Delegation". */
function delegated(): Finding {
  if (process.geteuid?.() === 0) return 'the effective user is root';
  if (layout('cgroup-v2') !== true) return 'there is no cgroup v2 alone';
  const own = /^0::(\S+)$/m.exec(readable('/proc/self/cgroup') ?? '')?.[1] ?? '/';
  const above = join('/sys/fs/cgroup', dirname(own));
  try {
    for (const path of [above, join(above, 'cgroup.procs')]) accessSync(path, constants.W_OK);
    return true;
  } catch {
    return `${above} is not ours`;
  }
}

const systemd = () => existsSync('/run/systemd/system') && readable('/proc/1/comm')?.trim() === 'systemd';

const probes: { readonly [word: string]: () => Finding } = {
  root: () => process.geteuid?.() === 0 || `the effective user is ${process.geteuid?.()}`,
  'not-root': () => process.geteuid?.() !== 0 || 'the effective user is root',
  // Root, or somebody who can be root of a user namespace: the test also runs as an ordinary user.
  rootless: () => process.geteuid?.() === 0 || runs('unshare', '--user', '--map-root-user', 'true'),
  subids: () =>
    (inPath('newuidmap') === true && readable('/etc/subuid')?.includes(`${process.geteuid?.()}:`) === true) ||
    'no newuidmap, or no range of ours in /etc/subuid',
  delegated,
  'not-delegated': () => delegated() !== true || 'cgroups are delegated to us',
  'cgroup-v1': () => layout('cgroup-v1'),
  'cgroup-v2': () => layout('cgroup-v2'),
  hybrid: () => layout('hybrid'),
  systemd: () => systemd() || 'systemd is not PID 1',
  'no-systemd': () => !systemd() || 'systemd is PID 1',
  'criu-lazy': () =>
    inPath('criu') === true ? runs('criu', 'check', '--feature', 'uffd-noncoop') : 'criu is not in PATH',
  criu: () => (inPath('criu') === true ? runs('criu', 'check') : 'criu is not in PATH'),
  apparmor: () =>
    readable('/sys/module/apparmor/parameters/enabled')?.trim() === 'Y' || 'AppArmor is not enabled',
  selinux: () => existsSync('/sys/fs/selinux/enforce') || 'SELinux is not enabled',
  userns: () => runs('unshare', '--user', 'true'),
  psi: () => readable('/proc/pressure/memory') !== undefined || '/proc/pressure cannot be read',
  overlay: () => readable('/proc/filesystems')?.includes('\toverlay\n') || runs('modprobe', 'overlay'),
  seccomp: () => readable('/proc/self/status')?.includes('Seccomp:') || 'the kernel has no seccomp',
  probe: () =>
    existsSync(join(projectRoot, 'build/rootfs/bin/probe')) || 'build/rootfs/bin/probe was not built',
  'init-faults': () =>
    existsSync(join(projectRoot, 'build/init/init-faults')) || 'build/init/init-faults was not built',
  'lane:host': () => lane() === 'host' || `this is lane ${lane()}`,
};

const families: { readonly [prefix: string]: (rest: string) => Finding } = {
  controller,
  cap: capability,
  kernel,
  file: path => existsSync(path) || `${path} does not exist`,
};

export function lane(): string {
  return process.env.LIBCONTAINER_TEST_LANE ?? 'host';
}

const found = new Map<Requirement, Finding>();

/** Undefined when this machine has it, else `requires WORD: what was seen`. */
export function missing(requirement: Requirement): string | undefined {
  let finding = found.get(requirement);
  if (finding === undefined) {
    const [prefix = '', rest] = requirement.split(/:(.*)/s);
    if (rest === undefined || requirement === 'lane:host')
      finding = (probes[requirement] ?? (() => inPath(requirement)))();
    else {
      const family = families[prefix];
      if (family === undefined) throw new Error(`test harness: unknown requirement ${requirement}`);
      finding = family(rest);
    }
    found.set(requirement, finding);
  }
  return finding === true ? undefined : `requires ${requirement}: ${finding}`;
}

/** Controllers that any hierarchy of this machine offers. */
export function controllers(): string[] {
  const { v1, v2 } = cgroupMounts();
  const listed = v2 === undefined ? '' : (readable(`${v2}/cgroup.controllers`) ?? '').trim();
  return [...new Set([...v1, ...listed.split(' ').filter(name => name !== '')])].sort();
}

/** Every mounted cgroup hierarchy below /sys/fs/cgroup. */
export function cgroupHierarchies(): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => / - cgroup2? /.test(line))
    .map(line => line.split(' ')[4] ?? '');
  return points.filter(point => point.startsWith('/sys/fs/cgroup') && readdirSync(point).length > 0);
}
