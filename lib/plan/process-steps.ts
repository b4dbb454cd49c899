/**
 * What the container's first process and a process that is exec'd share: environment, scheduling, limits and the
 * order in which privileges are given up. capabilities(7), credentials(7), prctl(2).
 */
import type { Capabilities, Config, Hook, ProcessConfig } from '../config/config.ts';
import type { Landlock } from '../config/landlock.ts';
import { ConfigError } from '../errors.ts';
import { unsupported } from './namespaces.ts';
import {
  capabilities as capabilityNumbers,
  ioPriorityValue,
  memoryPolicyFlags,
  memoryPolicyModes,
  type NumberTable,
  numberOf,
  personalities,
  rlimits,
  schedulerFlags,
  schedulerPolicies,
} from './numbers.ts';
import type { HookCommand, Step } from './steps.ts';

/** A compiled seccomp section (Binding.seccompCompile). */
export interface SeccompProgram {
  readonly program: Uint8Array;
  readonly flags: number;
  /** A listener takes notifications: the filter's descriptor is sent to the parent. */
  readonly notify: boolean;
  /** init waits until an agent has it. */
  readonly wait?: boolean;
  /** The parent takes it out of init, by pidfd_getfd(2): the filter does not let init send it. */
  readonly take?: boolean;
}

/** Used when the environment has no PATH (execvp(3) has a default too); the container's own PATH is not changed. */
export const defaultSearchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @param mount Bind it on /dev/console; without a mount namespace that would be a mount of the host's. */
export function consoleStep(process: ProcessConfig, mount: boolean): Step {
  return {
    kind: 'console',
    rows: process.consoleSize?.height ?? 0,
    columns: process.consoleSize?.width ?? 0,
    uid: process.user.uid,
    gid: process.user.gid,
    mount,
    plainNewlines: process.plainNewlines ?? false,
  };
}

/** Of duplicate names the last one wins; an empty HOME counts as none and is filled by init from the passwd file. */
export function resolveEnv(env: readonly string[]): {
  env: string[];
  setHome: boolean;
  searchPath: string;
} {
  const byName = new Map<string, string>();
  for (const entry of env) {
    const equals = entry.indexOf('=');
    byName.set(equals < 0 ? entry : entry.slice(0, equals), entry);
  }
  const home = byName.get('HOME');
  const setHome = home === undefined || home === 'HOME=';
  if (setHome) byName.delete('HOME');
  return {
    env: [...byName.values()],
    setHome,
    searchPath: byName.get('PATH')?.slice('PATH='.length) ?? defaultSearchPath,
  };
}

/** Masks of the five sets. Without a capabilities section all are empty, as in runc. */
export interface CapabilityMasks {
  readonly bounding: bigint;
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
  readonly ambient: bigint;
  /** Names that were left out, since this kernel or this table does not have them (runc warns and goes on). */
  readonly unavailable: readonly string[];
}

export function capabilityMasks(sets: Capabilities | undefined, lastCapability: number): CapabilityMasks {
  const unavailable = new Set<string>();
  const mask = (names: readonly string[] | undefined): bigint => {
    let bits = 0n;
    for (const name of names ?? []) {
      const number = numberOf(capabilityNumbers, name);
      if (number === undefined || number > lastCapability) unavailable.add(name);
      else bits |= 1n << BigInt(number);
    }
    return bits;
  };
  const permitted = mask(sets?.permitted);
  const inheritable = mask(sets?.inheritable);
  return {
    bounding: mask(sets?.bounding),
    effective: mask(sets?.effective),
    permitted,
    inheritable,
    // The kernel refuses others (capabilities(7)); the usual configuration lists some without the inheritable set
    // since CVE-2022-29162, and runc goes on without them.
    ambient: mask(sets?.ambient) & permitted & inheritable,
    unavailable: [...unavailable],
  };
}

function required(table: NumberTable, name: string, path: string): number {
  const number = numberOf(table, name);
  if (number !== undefined) return number;
  throw new ConfigError('ERR_SPEC_INVALID', {
    issues: [
      { path, message: `unknown name ${JSON.stringify(name)}; known: ${Object.keys(table).join(' ')}` },
    ],
  });
}

/** Scheduler, I/O priority: before the privileges they need are gone. */
export function schedulingSteps(process: ProcessConfig): Step[] {
  const steps: Step[] = [];
  const { scheduler, ioPriority } = process;
  if (scheduler !== undefined) {
    let flags = 0;
    for (const name of scheduler.flags ?? []) {
      flags |= required(schedulerFlags, name, 'process.scheduler.flags');
    }
    steps.push({
      kind: 'scheduler',
      policy: required(schedulerPolicies, scheduler.policy, 'process.scheduler.policy'),
      nice: scheduler.nice ?? 0,
      priority: scheduler.priority ?? 0,
      flags,
      runtime: scheduler.runtime ?? 0,
      deadline: scheduler.deadline ?? 0,
      period: scheduler.period ?? 0,
    });
  }
  if (ioPriority !== undefined) {
    const value = ioPriorityValue(ioPriority.class, ioPriority.priority);
    if (value === undefined) {
      throw new ConfigError('ERR_SPEC_INVALID', {
        issues: [
          { path: 'process.ioPriority.class', message: `unknown name ${JSON.stringify(ioPriority.class)}` },
        ],
      });
    }
    steps.push({ kind: 'ioPriority', value });
  }
  return steps;
}

/** personality(2) is inherited by execve, so that the program sees it from its first instruction. */
export function personalitySteps({ personality }: Config): Step[] {
  if (personality === undefined) return [];
  if ((personality.flags?.length ?? 0) > 0) {
    throw unsupported('linux.personality.flags', 'no flag is defined by the specification');
  }
  const domain = numberOf(personalities, personality.domain);
  if (domain === undefined) {
    throw new ConfigError('ERR_SPEC_INVALID', {
      issues: [{ path: 'linux.personality.domain', message: 'LINUX or LINUX32' }],
    });
  }
  return [{ kind: 'personality', domain }];
}

/** The policy is the process' own and inherited (set_mempolicy(2)): for the container's first process and for an exec. */
export function memoryPolicySteps({ memoryPolicy }: Config): Step[] {
  if (memoryPolicy === undefined) return [];
  let mode = required(memoryPolicyModes, memoryPolicy.mode, 'linux.memoryPolicy.mode');
  for (const flag of memoryPolicy.flags) {
    mode |= required(memoryPolicyFlags, flag, 'linux.memoryPolicy.flags');
  }
  if (memoryPolicy.nodes === '') return [{ kind: 'memoryPolicy', mode, nodeMask: [] }];
  const bytes = cpuMask(memoryPolicy.nodes, 'linux.memoryPolicy.nodes');
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  return [{ kind: 'memoryPolicy', mode, nodeMask: [...words] }];
}

/** The last steps before `ready`: a low RLIMIT_NOFILE or RLIMIT_FSIZE would hinder whatever came after. */
export function rlimitSteps(process: ProcessConfig): Step[] {
  return process.rlimits.map(({ type, soft, hard }) => ({
    kind: 'rlimit',
    resource: required(rlimits, type, 'process.rlimits'),
    name: type,
    soft: BigInt(soft),
    hard: BigInt(hard),
  }));
}

/** The profile for the next execve. */
export function apparmorStep({ apparmorProfile = '' }: ProcessConfig): Step[] {
  return apparmorProfile === '' ? [] : [{ kind: 'apparmor', label: apparmorProfile }];
}

export interface LastPrivileges {
  readonly lastCapability: number;
  readonly userNamespace: boolean;
  readonly seccomp?: SeccompProgram;
  /** Steps between the capabilities and the look-up of the executable. */
  readonly label?: readonly Step[];
  readonly landlock?: Landlock | undefined;
  /** A step behind which nothing needs a privilege that the container does not have. */
  readonly fork?: readonly Step[];
}

/**
 * From `ready` to the look-up of the executable, in runc's order (finalizeNamespace). The order is the point:
 * every line needs a privilege that one of the next takes away.
 */
export function lastPrivilegeSteps(
  process: ProcessConfig,
  { lastCapability, userNamespace, seccomp, label, landlock, fork }: LastPrivileges,
): Step[] {
  const masks = capabilityMasks(process.capabilities, lastCapability);
  const { uid, gid, additionalGids, umask } = process.user;
  const { searchPath } = resolveEnv(process.env);
  const filter: Step[] = seccomp === undefined ? [] : [{ kind: 'seccomp', ...seccomp }];
  // The check that the directory is inside the root must be the last word on it (CVE-2024-21626), so it is made by the
  // process that executes the program.
  const check: Step = { kind: 'cwd', path: process.cwd, beforeUser: false };
  const steps: Step[] = [];
  if (process.selinuxLabel !== undefined && process.selinuxLabel !== '') {
    steps.push({ kind: 'selinux', label: process.selinuxLabel });
  }
  // Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2)), so it must come before the capabilities go.
  if (!process.noNewPrivileges) steps.push(...filter);
  steps.push(
    // Needs CAP_SETPCAP, which a change of the user to non-root would take from the effective set.
    { kind: 'bounding', mask: masks.bounding },
    // As root first: a directory that only root may enter is a legal cwd. EACCES is left for the second try, since
    // root without privileges over the directory's owner (NFS, user namespace) may be refused where the user is not.
    { kind: 'cwd', path: process.cwd, beforeUser: true },
    {
      kind: 'user',
      uid,
      gid,
      groups: additionalGids,
      skipSetgroups: false,
      keepStdioOwner: false,
      ...(userNamespace ? { setgroupsMayBeDenied: true } : {}),
    },
    { kind: 'umask', mask: umask ?? 0o022 },
    ...(fork === undefined ? [check] : []),
    // After the user: a change of uid clears the sets (capabilities(7)), PR_SET_KEEPCAPS saves only the permitted one.
    {
      kind: 'capabilities',
      effective: masks.effective,
      permitted: masks.permitted,
      inheritable: masks.inheritable,
      ambient: masks.ambient,
    },
    ...(label ?? []),
    ...(fork === undefined ? [] : [...fork, check]),
    // As the user and with its capabilities, so that what init finds is what execve may run; before waitStart, so
    // that a wrong name is an error of create.
    ...findSteps(process, searchPath),
  );
  // Behind the last file that init looks at for itself; without no_new_privs it would need CAP_SYS_ADMIN, which is gone.
  if (landlock !== undefined) steps.push(landlockStep(landlock, process));
  // With no_new_privs no privilege is needed: as late as possible, so that the profile need allow few calls of init's
  // own (docs/start-sequence.md lists them).
  if (process.noNewPrivileges) steps.push(...filter);
  return steps;
}

/** What is told late is also looked up late: behind the wait, before a filter that may refuse the look. */
function findSteps(process: ProcessConfig, searchPath: string): Step[] {
  if (process.program === 'none') return [];
  if (process.program === 'late')
    return [{ kind: 'waitCommand' }, { kind: 'findExecutable', name: '', searchPath: '', late: true }];
  return [{ kind: 'findExecutable', name: firstArgument(process), searchPath }];
}

function landlockStep({ read, write, execute }: Landlock, { noNewPrivileges }: ProcessConfig): Step {
  if (noNewPrivileges) return { kind: 'landlock', read, write, execute };
  throw new ConfigError('ERR_SPEC_INVALID', {
    issues: [{ path: 'process.noNewPrivileges', message: 'must be true with landlock' }],
  });
}

function firstArgument(process: ProcessConfig): string {
  const [name] = process.args;
  if (name !== undefined && name !== '') return name;
  throw new ConfigError('ERR_SPEC_INVALID', {
    issues: [
      { path: 'process.args', message: 'the first argument names the executable and must not be empty' },
    ],
  });
}

export function execStep(process: ProcessConfig, preservedFds: number): Step {
  if (process.program === 'none') return { kind: 'idle' };
  if (process.program === 'late')
    return { kind: 'exec', args: [], env: [], setHome: false, preservedFds, late: true };
  const { env, setHome } = resolveEnv(process.env);
  return { kind: 'exec', args: process.args, env, setHome, preservedFds };
}

/** Milliseconds of a hook's timeout, 0 for none. 24 days are the most that a timer of Node and init's 32 bits hold. */
export const hookTimeoutMs = (seconds = 0): number => Math.min(seconds * 1000, 2 ** 31 - 1);

/** Hooks that init runs itself, in the container's namespaces. */
export function hookStep(phase: 'createContainer' | 'startContainer', hooks: readonly Hook[]): Step[] {
  if (hooks.length === 0) return [];
  const commands: HookCommand[] = hooks.map(({ path, args, env, timeout }) => ({
    path,
    args: args.length > 0 ? args : [path],
    env: env ?? [],
    // runc: a startContainer hook without env gets the container's, every other one an empty one.
    inheritEnv: phase === 'startContainer' && env === undefined,
    timeoutMs: hookTimeoutMs(timeout),
  }));
  return [{ kind: 'hooks', phase, hooks: commands }];
}

/** CPU list of cpuset(7) (`0-3,8`) as the bit mask of sched_setaffinity(2). @throws {ConfigError} */
export function cpuMask(list: string, path: string): Uint8Array {
  const cpus: number[] = [];
  for (const part of list.split(',')) {
    const match = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    // CPU_SETSIZE of the kernel's largest configuration (CONFIG_NR_CPUS).
    if (match === null || last < first || last >= 8192) {
      throw new ConfigError('ERR_SPEC_INVALID', {
        issues: [{ path, message: `not a list of numbers: ${JSON.stringify(list)}` }],
      });
    }
    for (let cpu = first; cpu <= last; cpu++) cpus.push(cpu);
  }
  // The kernel reads whole unsigned longs.
  const mask = new Uint8Array(Math.ceil((Math.max(...cpus) + 1) / 64) * 8);
  for (const cpu of cpus) mask[cpu >> 3] = (mask[cpu >> 3] ?? 0) | (1 << (cpu & 7));
  return mask;
}

/** A CPU affinity step, or none. */
export function affinityStep(list: string | undefined, path: string): Step[] {
  return list === undefined || list === '' ? [] : [{ kind: 'affinity', mask: cpuMask(list, path) }];
}
