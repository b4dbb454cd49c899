/**
 * Rules for a process: the bundle's, the one of `exec --process`, and one that a caller of the library puts together. One
 * function per rule, in runc's order; runc's words where it has a rule. OCI runtime-spec config.md "Process".
 */
import { isAbsolute } from 'node:path';
import { ConfigError, type ConfigIssue } from '../errors.ts';
import {
  capabilities,
  ioPriorityClasses,
  numberOf,
  rlimits,
  schedulerFlags,
  schedulerPolicies,
} from '../plan/numbers.ts';
import type { ProcessConfig } from './config.ts';
import type { SpecProcess } from './spec.ts';

type Rule = (process: ProcessConfig) => Iterable<ConfigIssue>;

const rules: readonly Rule[] = [
  function* cwd(process) {
    if (process.cwd === '') yield { path: 'cwd', message: 'Cwd property must not be empty' };
    else if (!isAbsolute(process.cwd)) yield { path: 'cwd', message: 'Cwd must be an absolute path' };
  },
  function* args(process) {
    if (process.args.length === 0) yield { path: 'args', message: 'args must not be empty' };
    else if (process.args[0] === '') yield { path: 'args[0]', message: 'must not be empty' };
  },
  function* nulBytes(process) {
    const strings = [...process.args.entries()].filter(([, value]) => value.includes('\0'));
    for (const [index] of strings) yield { path: `args[${index}]`, message: 'must not contain a NUL byte' };
    if (process.cwd.includes('\0')) yield { path: 'cwd', message: 'must not contain a NUL byte' };
  },
  function* env(process) {
    for (const [index, entry] of process.env.entries()) {
      const path = `env[${index}]`;
      const separator = entry.indexOf('=');
      if (separator < 0) yield { path, message: `invalid environment variable: missing '='` };
      else if (separator === 0) yield { path, message: 'invalid environment variable: name cannot be empty' };
      if (entry.includes('\0')) yield { path, message: 'invalid environment variable: contains a NUL byte' };
    }
  },
  function* ids({ user }) {
    const all: [string, number][] = [
      ['uid', user.uid],
      ['gid', user.gid],
      ...user.additionalGids.map((gid, index): [string, number] => [`additionalGids[${index}]`, gid]),
    ];
    for (const [name, id] of all) {
      // (uid_t)-1 means "leave as it is" to setresuid(2), never a user.
      if (!Number.isInteger(id) || id < 0 || id >= 0xffff_ffff) {
        yield { path: `user.${name}`, message: 'must be an integer from 0 to 4294967294' };
      }
    }
    if (
      user.umask !== undefined &&
      !(Number.isInteger(user.umask) && user.umask >= 0 && user.umask <= 0o777)
    ) {
      yield { path: 'user.umask', message: 'must be from 0 to 511 (0777)' };
    }
  },
  function* resourceLimits(process) {
    const seen = new Set<string>();
    for (const [index, { type, soft, hard }] of process.rlimits.entries()) {
      const path = `rlimits[${index}]`;
      if (numberOf(rlimits, type) === undefined) {
        yield { path: `${path}.type`, message: `wrong rlimit value: ${type}` };
      }
      if (seen.has(type)) yield { path: `${path}.type`, message: `${type} is given twice` };
      seen.add(type);
      if (!isU64(soft) || !isU64(hard))
        yield { path, message: 'soft and hard must be decimal 64-bit numbers' };
      else if (BigInt(soft) > BigInt(hard))
        yield { path, message: `soft limit ${soft} is above hard ${hard}` };
    }
  },
  function* oomScoreAdj({ oomScoreAdj: value }) {
    if (value !== undefined && !(Number.isInteger(value) && value >= -1000 && value <= 1000)) {
      yield { path: 'oomScoreAdj', message: 'must be an integer from -1000 to 1000' };
    }
  },
  function* schedulerValues({ scheduler }) {
    if (scheduler === undefined) return;
    const path = 'scheduler';
    const { policy, nice = 0, priority = 0, flags = [], runtime, deadline, period } = scheduler;
    if (policy === '') yield { path, message: 'scheduler policy is required' };
    else if (numberOf(schedulerPolicies, policy) === undefined) {
      yield { path: `${path}.policy`, message: `invalid scheduler policy: ${policy}` };
    }
    for (const [index, flag] of flags.entries()) {
      if (numberOf(schedulerFlags, flag) !== undefined) continue;
      yield { path: `${path}.flags[${index}]`, message: `invalid scheduler flag: ${flag}` };
    }
    if (nice < -20 || nice > 19) yield { path: `${path}.nice`, message: `invalid scheduler.nice: ${nice}` };
    const realtime = policy === 'SCHED_FIFO' || policy === 'SCHED_RR';
    if (priority !== 0 && !realtime) {
      const message = 'scheduler.priority can only be specified for SchedFIFO or SchedRR policy';
      yield { path: `${path}.priority`, message };
    }
    // sched(7): 1 to 99; the kernel answers anything else with EINVAL.
    if (realtime && (priority < 1 || priority > 99)) {
      yield { path: `${path}.priority`, message: `must be from 1 to 99 for ${policy}` };
    }
    const timed = [runtime, deadline, period].some(value => value !== undefined && value !== 0);
    if (policy !== 'SCHED_DEADLINE' && timed) {
      const message = 'scheduler runtime/deadline/period can only be specified for SchedDeadline policy';
      yield { path, message };
    }
    if (policy === 'SCHED_DEADLINE' && !(runtime && deadline && period)) {
      yield { path, message: 'SCHED_DEADLINE needs runtime, deadline and period' };
    }
  },
  function* ioPriorityValues({ ioPriority }) {
    if (ioPriority === undefined) return;
    const { class: name, priority } = ioPriority;
    if (priority < 0 || priority > 7) {
      yield { path: 'ioPriority.priority', message: `invalid ioPriority.Priority: ${priority}` };
    }
    if (numberOf(ioPriorityClasses, name) === undefined) {
      yield { path: 'ioPriority.class', message: `invalid ioPriority.Class: "${name}"` };
    }
  },
  function* affinity({ execCPUAffinity }) {
    for (const key of ['initial', 'final'] as const) {
      const value = execCPUAffinity?.[key];
      if (value === undefined || value === '' || isCpuList(value)) continue;
      yield { path: `execCPUAffinity.${key}`, message: `must be a CPU list such as "0-3,7", not "${value}"` };
    }
  },
];

/**
 * @param root How the document calls the process; prefixes every path.
 * @throws {ConfigError} ERR_SPEC_INVALID with all that is wrong.
 */
export function validateProcess(process: ProcessConfig, root = 'process'): void {
  const issues = processIssues(process, root);
  if (issues.length > 0) throw new ConfigError('ERR_SPEC_INVALID', { issues });
}

export function processIssues(process: ProcessConfig, root: string): ConfigIssue[] {
  return rules
    .flatMap(rule => [...rule(process)])
    .map(({ path, message }) => ({ path: `${root}.${path}`, message }));
}

/** What runc only warns of: capabilities that nobody knows. They are left out of the Config. */
export function processWarnings(process: SpecProcess | undefined): string[] {
  const names = new Set(Object.values(process?.capabilities ?? {}).flat());
  const unknown = [...names].filter(name => numberOf(capabilities, name) === undefined);
  return unknown.length === 0 ? [] : [`ignoring unknown or unavailable capabilities: [${unknown.join(' ')}]`];
}

function isU64(text: string): boolean {
  return /^[0-9]{1,20}$/.test(text) && BigInt(text) < 1n << 64n;
}

/** cpuset(7) "List format": numbers and ranges. */
export function isCpuList(text: string): boolean {
  return text.split(',').every(part => {
    const range = /^\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*$/.exec(part);
    return range !== null && (range[2] === undefined || Number(range[1]) <= Number(range[2]));
  });
}
