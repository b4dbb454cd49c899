/** What the host has set up: cgroups and their delegation, id ranges, security modules, systemd, CRIU, directories, Node. */
import { execFile } from 'node:child_process';
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, statfsSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { availableControllers, binding, features, hostLayout, LinuxFactory } from '../index.ts';
import { type Finding, fail, ok, reason, warn } from './finding.ts';

const isRoot = (): boolean => process.geteuid?.() === 0;
const run = promisify(execFile);
const text = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
};

const wanted = ['cpu', 'memory', 'pids'];

/** A cgroup is made and removed again, where those of containers would be. */
export function cgroupFindings(): Finding[] {
  let layout: ReturnType<typeof hostLayout>;
  try {
    layout = hostLayout();
  } catch (error) {
    return [fail('cgroup.layout', reason(error), 'mount -t cgroup2 cgroup2 /sys/fs/cgroup')];
  }
  const names = { v1: 'cgroup v1', v2: 'cgroup v2', hybrid: 'cgroup v1 with an unused v2 (hybrid)' };
  const findings: Finding[] = [ok('cgroup.layout', names[layout.kind])];
  const found = availableControllers();
  const missing = wanted.filter(name => !found.has(name));
  const list = [...found].sort().join(' ') || 'none';
  if (missing.length === 0) findings.push(ok('cgroup.controllers', list));
  else
    findings.push(
      warn(
        'cgroup.controllers',
        `for this user: ${list}; missing: ${missing.join(' ')}`,
        delegationFix(layout.kind),
      ),
    );
  if (found.size > 0) findings.push(makeOne(layout));
  return findings;
}

function delegationFix(kind: 'v1' | 'v2' | 'hybrid'): string {
  if (isRoot()) return 'boot with the controllers: cgroup_enable=memory, or cgroup_no_v1=all for v2';
  if (kind !== 'v2')
    return 'v1 cannot be delegated safely: boot with systemd.unified_cgroup_hierarchy=1; without cgroups there are no limits';
  return 'as root: mkdir -p /etc/systemd/system/user@.service.d && printf "[Service]\\nDelegate=cpu cpuset io memory pids\\n" >/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload, then log in again; or run below `systemd-run --user --scope -p Delegate=yes`';
}

function makeOne(layout: ReturnType<typeof hostLayout>): Finding {
  const hierarchy =
    layout.v1.find(({ controllers }) => controllers.includes('pids')) ?? layout.v1[0] ?? layout.v2;
  const own = layout.own.get(hierarchy?.controllers[0] ?? '') ?? '/';
  const base = isRoot() ? '/' : layout.kind === 'v2' ? dirname(own) : own;
  const path = join(hierarchy?.mountPoint ?? '/sys/fs/cgroup', base, `libcontainer-doctor-${process.pid}`);
  try {
    mkdirSync(path);
    rmdirSync(path);
    return ok('cgroup.create', `can be made in ${dirname(path)}`);
  } catch (error) {
    return fail(
      'cgroup.create',
      reason(error),
      isRoot()
        ? 'the cgroup file system is read-only here: start the outer container with --cgroupns=host and a writable /sys/fs/cgroup, or --privileged'
        : delegationFix(layout.kind),
    );
  }
}

const inPath = (program: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(':')
    .concat('/usr/sbin', '/sbin')
    .map(directory => join(directory, program))
    .find(path => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });

/** Ranges of further ids, for containers of an ordinary user with more than one. */
export function idFindings(): Finding[] {
  if (isRoot()) return [];
  const { username, uid } = userInfo();
  const lacks: string[] = [];
  for (const program of ['newuidmap', 'newgidmap']) {
    const path = inPath(program);
    if (path === undefined) lacks.push(`${program} is not there`);
    // File capabilities are as good (cap_setuid+ep), and cannot be seen in the mode.
    else if ((statSync(path).mode & 0o4000) === 0 && !hasFileCapabilities(path))
      lacks.push(`${path} has no privilege`);
  }
  for (const file of ['/etc/subuid', '/etc/subgid'])
    if (
      !(text(file) ?? '')
        .split('\n')
        .some(line => line.startsWith(`${username}:`) || line.startsWith(`${uid}:`))
    )
      lacks.push(`${file} has no range for ${username}`);
  if (lacks.length === 0)
    return [ok('ids.ranges', 'newuidmap, newgidmap and ranges in /etc/subuid and /etc/subgid')];
  const fix = `as root: apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`;
  return [warn('ids.ranges', `${lacks.join('; ')}: containers have one id`, fix)];
}

/** Nothing in Node reads security.capability: a file that its owner need not make setuid is taken for privileged by getcap. */
function hasFileCapabilities(path: string): boolean {
  const getcap = inPath('getcap');
  if (getcap === undefined) return false;
  try {
    return statSync(getcap).isFile() && capabilitiesOf.get(path) === true;
  } catch {
    return false;
  }
}
const capabilitiesOf = new Map<string, boolean>();
async function lookAtCapabilities(): Promise<void> {
  const getcap = inPath('getcap');
  for (const program of ['newuidmap', 'newgidmap']) {
    const path = inPath(program);
    if (path === undefined || getcap === undefined) continue;
    const { stdout } = await run(getcap, [path]).catch(() => ({ stdout: '' }));
    capabilitiesOf.set(path, /cap_set[ug]id/.test(stdout));
  }
}

export function seccompFinding(): Finding {
  const actions = text('/proc/sys/kernel/seccomp/actions_avail');
  if (actions === undefined)
    return fail(
      'seccomp',
      'the kernel has no seccomp',
      'a kernel with CONFIG_SECCOMP_FILTER; or give no linux.seccomp',
    );
  try {
    binding().seccompCompile(JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }));
    return ok('seccomp', `libseccomp ${binding().seccompVersion()}; ${actions}`);
  } catch (error) {
    return fail('seccomp', reason(error), 'apt-get install libseccomp2 (2.5 or later)');
  }
}

export function securityModules(): Finding {
  const modules = text('/sys/kernel/security/lsm');
  const apparmor = text('/sys/module/apparmor/parameters/enabled') === 'Y';
  const enforce = text('/sys/fs/selinux/enforce');
  const parts = [
    `AppArmor ${apparmor ? 'on' : 'off'}`,
    `SELinux ${enforce === undefined ? 'off' : enforce === '1' ? 'enforcing' : 'permissive'}`,
    `Landlock ${binding().landlockAbi() === 0 ? 'off' : `ABI ${binding().landlockAbi()}`}`,
  ];
  return ok('lsm', `${parts.join(', ')}${modules === undefined ? '' : ` (${modules})`}`);
}

/** The system's for root, the user's own for others: its answer to a question is the probe. */
export async function systemdFinding(): Promise<Finding> {
  if (text('/proc/1/comm') !== 'systemd')
    return ok('systemd', 'is not PID 1: the cgroupfs driver is used, --systemd-cgroup cannot be');
  try {
    const { systemdOf } = await import('../cgroups/systemd/driver.ts');
    const group = await systemdOf(!isRoot()).controlGroup();
    return ok('systemd', `answers over D-Bus; units lie in ${group === '' ? '/' : group}`);
  } catch (error) {
    return warn(
      'systemd',
      reason(error),
      isRoot()
        ? 'apt-get install dbus; or leave --systemd-cgroup out'
        : 'log in with a session of systemd (loginctl enable-linger), or leave --systemd-cgroup out',
    );
  }
}

/** Its own check of the kernel, for checkpoint and restore. */
export async function criuFinding(): Promise<Finding> {
  const path = inPath('criu');
  if (path === undefined)
    return warn('criu', 'is not installed', 'apt-get install criu; only checkpoint and restore need it');
  if (!isRoot()) return ok('criu', `${path}; only root can use it, not probed`);
  try {
    await run(path, ['check'], { timeout: 30_000 });
    const { stdout } = await run(path, ['--version']);
    return ok('criu', stdout.trim().split('\n')[0] ?? path);
  } catch (error) {
    const said =
      error instanceof Error && 'stderr' in error
        ? String(error.stderr).trim().split('\n').at(-1)
        : reason(error);
    return warn(
      'criu',
      `criu check: ${said}`,
      'a newer CRIU for this kernel; only checkpoint and restore need it',
    );
  }
}

/** statfs(2) f_type of tmpfs and ramfs. */
const inMemory = [0x0102_1994, 0x8584_58f6];

export function stateRootFinding(): Finding {
  const { root } = new LinuxFactory();
  for (let path = root; ; path = dirname(path)) {
    try {
      accessSync(path, constants.W_OK);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT' && path !== '/') continue;
      return fail(
        'state.root',
        `${path} cannot be written to`,
        isRoot()
          ? 'mount -o remount,rw it, or use --root'
          : 'set XDG_RUNTIME_DIR, or use --root (the sandbox finds a place by itself)',
      );
    }
    if (inMemory.includes(statfsSync(path).type)) return ok('state.root', `${root} is in memory`);
    return warn(
      'state.root',
      `${root} is on a disk`,
      'mount a tmpfs there: each start writes to it, and records must not outlive a boot',
    );
  }
}

export function nodeFinding(): Finding {
  const { version, env } = process;
  const [major = 0] = process.versions.node.split('.').map(Number);
  if (major < 22 && env.NODE_EXTRA_CA_CERTS !== undefined)
    return warn(
      'node',
      `${version} with NODE_EXTRA_CA_CERTS`,
      'this Node reads all certificates at each start, some 35 ms: unset it for nrunc, or use Node 22',
    );
  return ok('node', version);
}

/** Reads what others then look at without waiting. */
export async function prepareHostFindings(): Promise<void> {
  if (!isRoot()) await lookAtCapabilities();
}

export const featureFinding = (): Finding => {
  const { ociVersionMin, ociVersionMax } = features();
  return ok('runtime', `OCI runtime-spec ${ociVersionMin} to ${ociVersionMax}`);
};
