/** What the kernel lets this process do: each namespace is made, each system call is called, each mount is mounted. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding, runPlan } from '../index.ts';
import { newFileSystem } from '../plan/new-file-system.ts';
import { CLONE, MS } from '../plan/numbers.ts';
import type { Step } from '../plan/steps.ts';
import { type Finding, fail, ok, reason, warn } from './finding.ts';

const isRoot = (): boolean => process.geteuid?.() === 0;
const text = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
};

/** Without them nothing starts; the others have a way around (docs/security.md). */
const required = ['execveat', 'openat2', 'pidfd_open', 'pidfd_send_signal'];

export function systemCalls(): Finding[] {
  const calls = binding().kernelCalls();
  const filtered = (errno: number): boolean => errno === constants.errno.EPERM;
  const missing = Object.entries(calls).filter(
    ([, errno]) => errno === constants.errno.ENOSYS || filtered(errno),
  );
  const words = ([name, errno]: readonly [string, number]): string =>
    `${name} is ${filtered(errno) ? 'refused by a filter' : 'not in this kernel'}`;
  const hard = missing.filter(([name]) => required.includes(name));
  if (hard.length > 0)
    return [
      fail(
        'kernel.calls',
        missing.map(words).join(', '),
        'use a kernel from 5.12 on; in a container of Docker or Podman start it with --privileged, or a seccomp profile that allows these calls',
      ),
    ];
  // Newer than what we ask for: nobody misses it.
  const soft = missing.filter(([name]) => name !== 'statmount');
  if (soft.length > 0)
    return [
      warn(
        'kernel.calls',
        soft.map(words).join(', '),
        'older calls are used in their place; a newer kernel is quicker',
      ),
    ];
  return [ok('kernel.calls', Object.keys(calls).join(' '))];
}

const namespaces = [
  ['pid', CLONE.NEWPID],
  ['mount', CLONE.NEWNS],
  ['network', CLONE.NEWNET],
  ['ipc', CLONE.NEWIPC],
  ['uts', CLONE.NEWUTS],
  ['cgroup', CLONE.NEWCGROUP],
  ['time', CLONE.NEWTIME],
] as const;

/** For others than root each one together with a user namespace, as their containers have it. */
export async function namespaceFindings(): Promise<Finding[]> {
  const user = await made('user', CLONE.NEWUSER);
  const userFinding = user === undefined ? ok('namespace.user', 'can be made') : noUserNamespace(user);
  if (user !== undefined && !isRoot()) return [userFinding];
  const findings = [userFinding];
  for (const [name, flag] of namespaces) {
    const error = await made(name, isRoot() ? flag : flag | CLONE.NEWUSER);
    if (error === undefined) findings.push(ok(`namespace.${name}`, 'can be made'));
    else if (name === 'time')
      findings.push(
        warn(
          'namespace.time',
          error,
          'Linux 5.6 with CONFIG_TIME_NS; only containers with a time namespace need it',
        ),
      );
    else
      findings.push(
        fail(
          `namespace.${name}`,
          error,
          isRoot()
            ? 'CAP_SYS_ADMIN is needed: inside of a container start that one with --privileged'
            : `see /proc/sys/user/max_${name === 'mount' ? 'mnt' : name === 'network' ? 'net' : name}_namespaces`,
        ),
      );
  }
  return findings;
}

/** Undefined, or why not. */
async function made(_name: string, flags: number): Promise<string | undefined> {
  try {
    await runPlan(binding(), { cloneFlags: flags, steps: [{ kind: 'finish' }] });
    return undefined;
  } catch (error) {
    return reason(error);
  }
}

/** Names the switch that is off. user_namespaces(7); the first two are Ubuntu's and Debian's. */
function noUserNamespace(error: string): Finding {
  const switches: readonly (readonly [file: string, off: (value: string) => boolean, fix: string])[] = [
    [
      'kernel/apparmor_restrict_unprivileged_userns',
      value => value === '1',
      'sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for the node executable',
    ],
    ['kernel/unprivileged_userns_clone', value => value === '0', 'sysctl kernel.unprivileged_userns_clone=1'],
    ['user/max_user_namespaces', value => value === '0', 'sysctl user.max_user_namespaces=15000'],
  ];
  const found = switches.find(([file, off]) => off(text(`/proc/sys/${file}`) ?? ''));
  const fix =
    found?.[2] ?? 'an outer container or its seccomp profile forbids it; a kernel needs CONFIG_USER_NS';
  const detail =
    found === undefined
      ? error
      : `${error}: ${found[0].replaceAll('/', '.')} is ${text(`/proc/sys/${found[0]}`)}`;
  return isRoot()
    ? warn('namespace.user', detail, `${fix} (root needs it only for containers with a user namespace)`)
    : fail('namespace.user', detail, fix);
}

/** In a mount namespace that ends with the probe. */
export async function mountFindings(): Promise<Finding[]> {
  const directory = mkdtempSync(join(tmpdir(), 'libcontainer-doctor-'));
  try {
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(directory, name));
    const overlay = newFileSystem(
      'overlay',
      '/merged',
      `lowerdir=${directory}/lower,upperdir=${directory}/upper,workdir=${directory}/work`,
    );
    const flags = CLONE.NEWNS | CLONE.NEWPID | (isRoot() ? 0 : CLONE.NEWUSER);
    const attempt = async (
      steps: readonly Step[],
      slots: Parameters<typeof runPlan>[2] = [],
    ): Promise<string | undefined> => {
      try {
        const plan = {
          cloneFlags: flags,
          steps: [
            { kind: 'propagation', path: '/', flags: MS.SLAVE | MS.REC },
            { kind: 'openRootfs', path: directory, bind: true, parentPropagation: MS.PRIVATE },
            ...steps,
            { kind: 'finish' },
          ] satisfies Step[],
        };
        await runPlan(binding(), plan, slots);
        return undefined;
      } catch (error) {
        return reason(error);
      }
    };
    const answers = {
      tmpfs: await attempt([newFileSystem('tmpfs', '/merged')]),
      proc: await attempt([newFileSystem('proc', '/merged')]),
      overlay: await attempt([overlay]),
    };
    return [
      answers.tmpfs === undefined
        ? ok('mount.tmpfs', 'can be mounted')
        : fail('mount.tmpfs', answers.tmpfs, 'CAP_SYS_ADMIN in a user namespace of its own is needed'),
      answers.proc === undefined
        ? ok('mount.proc', 'can be mounted')
        : fail(
            'mount.proc',
            answers.proc,
            'parts of the /proc of this process are covered, as an outer container does it: start that one with --security-opt systempaths=unconfined',
          ),
      answers.overlay === undefined
        ? ok('mount.overlay', 'can be mounted')
        : warn(
            'mount.overlay',
            answers.overlay,
            isRoot()
              ? 'modprobe overlay; the upper directory must not be on an overlay itself (set TMPDIR)'
              : 'Linux 5.11 or later lets users mount it; only root file systems with an overlay need it',
          ),
      await idmapped(directory, attempt),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function idmapped(
  directory: string,
  attempt: (steps: readonly Step[], slots: Parameters<typeof runPlan>[2]) => Promise<string | undefined>,
): Promise<Finding> {
  if (!isRoot()) return ok('mount.idmapped', 'only root may make idmapped mounts; not probed');
  const map = '0 100000 65536\n';
  const tree = {
    source: join(directory, 'lower'),
    recursive: false,
    mapRecursive: false,
    uidMap: map,
    gidMap: map,
  };
  const error = await attempt(
    [newFileSystem('bind', '/merged', '', { flags: MS.BIND, treeSlot: 0 })],
    [tree],
  );
  return error === undefined
    ? ok('mount.idmapped', `can be made of ${tmpdir()}`)
    : warn(
        'mount.idmapped',
        error,
        `Linux 5.12, and a file system that knows them; ${tmpdir()} may be on one that does not`,
      );
}

export function kernelFinding(): Finding {
  const [major = 0, minor = 0] = release()
    .split('.')
    .map(part => Number.parseInt(part, 10));
  const detail = `Linux ${release()} on ${process.arch}`;
  if (major < 5 || (major === 5 && minor < 12))
    return fail('kernel.version', detail, 'Linux 5.12 or later is needed');
  return ok('kernel.version', detail);
}
