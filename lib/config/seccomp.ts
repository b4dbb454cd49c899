/**
 * The names of a seccomp section, for its validation and for `features`: config-linux.md "Seccomp", libseccomp 2.5. What
 * system calls a machine knows is libseccomp's business (unknown names are skipped there, as in runc).
 */
import { isAbsolute } from 'node:path';
import type { ConfigIssue } from '../errors.ts';
import type { Seccomp } from './config.ts';
import type { SpecSeccomp } from './spec.ts';

export const seccompActions: readonly string[] = [
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_LOG',
  'SCMP_ACT_NOTIFY',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_TRAP',
];

export const seccompOperators: readonly string[] = [
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_LE',
  'SCMP_CMP_LT',
  'SCMP_CMP_MASKED_EQ',
  'SCMP_CMP_NE',
];

export const seccompArchitectures: readonly string[] = [
  'SCMP_ARCH_AARCH64',
  'SCMP_ARCH_ARM',
  'SCMP_ARCH_LOONGARCH64',
  'SCMP_ARCH_M68K',
  'SCMP_ARCH_MIPS',
  'SCMP_ARCH_MIPS64',
  'SCMP_ARCH_MIPS64N32',
  'SCMP_ARCH_MIPSEL',
  'SCMP_ARCH_MIPSEL64',
  'SCMP_ARCH_MIPSEL64N32',
  'SCMP_ARCH_PARISC',
  'SCMP_ARCH_PARISC64',
  'SCMP_ARCH_PPC',
  'SCMP_ARCH_PPC64',
  'SCMP_ARCH_PPC64LE',
  'SCMP_ARCH_RISCV64',
  'SCMP_ARCH_S390',
  'SCMP_ARCH_S390X',
  'SCMP_ARCH_SH',
  'SCMP_ARCH_SHEB',
  'SCMP_ARCH_X32',
  'SCMP_ARCH_X86',
  'SCMP_ARCH_X86_64',
];

export const seccompFlags: readonly string[] = [
  'SECCOMP_FILTER_FLAG_LOG',
  'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  'SECCOMP_FILTER_FLAG_TSYNC',
  'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV',
];

/** Actions that carry an errno (or a tracer's message); errnoRet with any other means nothing. */
const withErrno = new Set(['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE']);

export const notify = 'SCMP_ACT_NOTIFY';
const waitKillable = 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV';
/** With it the process reports that it has a listener: nobody could answer yet (runc refuses it, too). */
export const unnotified = 'write';

/** Whether a process with this profile has a listener. */
export const notifies = ({ syscalls = [] }: Seccomp): boolean =>
  syscalls.some(({ action }) => action === notify);

const passes = new Set(['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG']);

/** Whether a process with this profile can send its listener away by itself. */
export function sendsListener({ defaultAction, syscalls = [] }: Seccomp): boolean {
  const rules = syscalls.filter(({ names }) => names.includes('sendmsg'));
  return rules.length === 0
    ? passes.has(defaultAction)
    : rules.every(({ action, args = [] }) => passes.has(action) && args.length === 0);
}

function* listenerIssues(root: string, seccomp: SpecSeccomp): Generator<ConfigIssue> {
  const { listenerPath: path = '', listenerMetadata: metadata = '', flags = [], syscalls = [] } = seccomp;
  if (path !== '' && !isAbsolute(path))
    yield { path: `${root}.listenerPath`, message: 'must be an absolute path' };
  if (metadata !== '' && path === '')
    yield { path: `${root}.listenerMetadata`, message: 'must not be set without listenerPath' };
  if (flags.includes(waitKillable) && !syscalls.some(({ action }) => action === notify))
    yield { path: `${root}.flags`, message: `${waitKillable} needs a rule with ${notify}` };
}

export function* seccompIssues(seccomp: SpecSeccomp): Generator<ConfigIssue> {
  const root = 'linux.seccomp';
  yield* oneOf(`${root}.defaultAction`, seccomp.defaultAction, seccompActions, 'action');
  if (seccomp.defaultAction === 'SCMP_ACT_NOTIFY') {
    yield { path: `${root}.defaultAction`, message: 'SCMP_ACT_NOTIFY cannot be used as default action' };
  }
  yield* listenerIssues(root, seccomp);
  yield* errnoRet(`${root}.defaultErrnoRet`, seccomp.defaultAction, seccomp.defaultErrnoRet);
  for (const [index, name] of (seccomp.architectures ?? []).entries()) {
    yield* oneOf(`${root}.architectures[${index}]`, name, seccompArchitectures, 'architecture');
  }
  for (const [index, name] of (seccomp.flags ?? []).entries()) {
    yield* oneOf(`${root}.flags[${index}]`, name, seccompFlags, 'flag');
  }
  for (const [index, call] of (seccomp.syscalls ?? []).entries()) {
    const path = `${root}.syscalls[${index}]`;
    yield* oneOf(`${path}.action`, call.action, seccompActions, 'action');
    yield* errnoRet(`${path}.errnoRet`, call.action, call.errnoRet);
    for (const [at, name] of call.names.entries())
      if (call.action === notify && name === unnotified)
        yield {
          path: `${path}.names[${at}]`,
          message: `SCMP_ACT_NOTIFY cannot be used for the ${name} syscall`,
        };
    for (const [at, argument] of (call.args ?? []).entries()) {
      yield* oneOf(`${path}.args[${at}].op`, argument.op, seccompOperators, 'operator');
      if (argument.index > 5) {
        yield { path: `${path}.args[${at}].index`, message: 'a system call has arguments 0 to 5' };
      }
    }
  }
}

function* oneOf(path: string, value: string, known: readonly string[], what: string): Generator<ConfigIssue> {
  if (!known.includes(value)) yield { path, message: `invalid seccomp ${what} "${value}"` };
}

function* errnoRet(path: string, action: string, value: number | undefined): Generator<ConfigIssue> {
  if (value !== undefined && !withErrno.has(action)) {
    yield { path, message: `only allowed with SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not with ${action}` };
  }
}
