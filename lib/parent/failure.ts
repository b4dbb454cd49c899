/** JobEvent `failed` → the error that the caller sees, with runc's sentences where callers match them. */
import { constants } from 'node:os';
import type { CgroupStart } from '../cgroups/manager.ts';
import {
  ContainerError,
  type ErrorOptions_,
  HookError,
  InitError,
  LibcontainerError,
  type Reason,
  reasons,
  SyscallError,
} from '../errors.ts';
import type { ExitStatus } from '../process.ts';
import type { FailedEvent, StartFailure } from './parent-process.ts';

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
export const errnoName = (errno: number): string => errnoNames.get(Math.abs(errno)) ?? `errno ${errno}`;

/** strerror(3) as Go prints it, since runc's users match these. */
const errnoSentences: { readonly [name: string]: string } = {
  EACCES: 'permission denied',
  EEXIST: 'file exists',
  EINVAL: 'invalid argument',
  EIO: 'input/output error',
  ELOOP: 'too many levels of symbolic links',
  ENODEV: 'no such device',
  ENOENT: 'no such file or directory',
  ENOEXEC: 'exec format error',
  ENOMEM: 'cannot allocate memory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  EPERM: 'operation not permitted',
  EROFS: 'read-only file system',
};
export const errnoSentence = (errno: number): string => {
  const name = errnoName(errno);
  return errnoSentences[name] ?? name;
};

export interface FailureContext {
  readonly containerId: string;
  /** What was to be executed: args[0]. */
  readonly program: string;
  readonly cwd: string;
  readonly stateDirectory: string;
  readonly cgroup: CgroupStart;
  /** Index of the first cgroup operation in `SpawnJob.before`. */
  readonly cgroupOffset: number;
  /** OOM kills that the cgroup has counted since the start began. */
  readonly oomKills: () => Promise<number>;
}

const isReason = (word: string): word is Reason => Object.hasOwn(reasons, word);

export async function startError(failure: StartFailure, context: FailureContext): Promise<unknown> {
  const { event } = failure;
  // A hook of ours, the console socket or an abort: it is an error of its own already.
  if (event === undefined) {
    if (failure.cause !== undefined) return failure.cause;
    return died(context, undefined, failure.exit);
  }
  switch (event.stage) {
    case 'prepare':
      return prepareError(event, context);
    case 'spawn':
      return spawnError(event);
    case 'died':
      return died(context, event, failure.exit);
    case 'init':
      return initError(event, context);
  }
}

function syscallError(event: FailedEvent): SyscallError {
  return new SyscallError({
    syscall: event.syscall,
    args: event.args,
    errno: event.errno,
    errnoName: errnoName(event.errno),
  });
}

function prepareError(event: FailedEvent, context: FailureContext): unknown {
  const cause = syscallError(event);
  const refused = cause.errnoName === 'EACCES' || cause.errnoName === 'EPERM';
  // Before the cgroup's own words: whoever is not root mostly fails here first.
  if (refused && process.geteuid?.() !== 0)
    return new LibcontainerError('ERR_PRIVILEGE', { detail: `${event.syscall}(${event.args})`, cause });
  const index = event.index - context.cgroupOffset;
  if (index >= 0 && index < context.cgroup.operations.length && context.cgroup.failure !== undefined)
    return context.cgroup.failure(index, cause);
  if (event.step === 'mkdir' && cause.errnoName === 'EEXIST')
    return new ContainerError('ERR_CONTAINER_EXISTS', context.containerId);
  return stateError(cause, context);
}

function stateError(cause: SyscallError, { stateDirectory: detail }: FailureContext): LibcontainerError {
  if (cause.errnoName === 'EACCES' || cause.errnoName === 'EPERM')
    return new LibcontainerError('ERR_PRIVILEGE', { detail, cause });
  const full = cause.errnoName === 'ENOSPC' || cause.errnoName === 'EDQUOT';
  const hint = full ? { hint: 'the file system of the state root is full' } : {};
  return new LibcontainerError('ERR_STATE_ROOT', { detail, cause, ...hint });
}

function spawnError(event: FailedEvent): LibcontainerError {
  const cause = syscallError(event);
  if (isReason(event.reason)) return new LibcontainerError(event.reason, { detail: event.args, cause });
  const code = cause.errnoName === 'EPERM' || cause.errnoName === 'EACCES' ? 'ERR_PRIVILEGE' : 'ERR_SPAWN';
  return new LibcontainerError(code, { cause });
}

const ending = (exit: ExitStatus | undefined): string => {
  if (exit === undefined || exit.kind === 'unknown') return '';
  return exit.kind === 'exited' ? `exit status ${exit.code}` : `killed by ${exit.signal}`;
};

async function died(
  context: FailureContext,
  event: FailedEvent | undefined,
  exit: ExitStatus | undefined,
): Promise<InitError> {
  const at = {
    step: event?.step ?? '',
    index: event?.index ?? 0,
    syscall: event?.syscall ?? '',
    args: event?.args ?? '',
    errno: event?.errno ?? 0,
  };
  const words = [event?.detail ?? '', ending(exit)].filter(text => text !== '');
  const detail = words.length === 0 ? {} : { detail: words.join(', ') };
  if ((await context.oomKills()) > 0)
    // runc's words.
    return new InitError('ERR_OOM_KILLED', at, {
      message: 'container init was OOM-killed (memory limit too low?)',
    });
  return new InitError('ERR_INIT_DIED', at, detail);
}

async function initError(event: FailedEvent, context: FailureContext): Promise<LibcontainerError> {
  if (event.reason === 'ERR_HOOK' || event.reason === 'ERR_HOOK_TIMEOUT')
    return hookError(event, event.reason);
  // Not a step of init's: the spawner could not record the pid.
  if (event.step === 'stateFile') return stateError(syscallError(event), context);
  // A step that failed because the kernel killed a helper or refused memory is better told as what it was.
  if (event.errno === constants.errno.ENOMEM && (await context.oomKills()) > 0)
    return died(context, event, undefined);
  const code = isReason(event.reason) ? event.reason : 'ERR_INIT_STEP';
  return new InitError(code, event, { ...sentence(code, event, context) });
}

/** What init says of a hook that it ran (addon/init/steps/hooks.cc), as the hooks that run here are reported. */
const hookDetail =
  /^(\w+) hook #(\d+) .*?: (exit status (\d+)|killed by signal \d+|no end after ms: \d+|[^,]*)(?:, output: ([\s\S]*))?$/;

function hookError(event: FailedEvent, reason: 'ERR_HOOK' | 'ERR_HOOK_TIMEOUT'): HookError {
  const [, name = event.step, index = '0', how = event.detail, exitCode, output = ''] =
    hookDetail.exec(event.detail) ?? [];
  return new HookError(
    reason,
    {
      hook: name,
      index: Number(index),
      output,
      ...(exitCode === undefined ? {} : { exitCode: Number(exitCode) }),
    },
    {
      message: `error running ${name} hook #${index}: ${how}, output: ${output.trimEnd()}`,
      ...(event.errno === 0 ? {} : { cause: syscallError(event) }),
    },
  );
}

/** What people look for when a profile is not loaded. */
function labelSentence({ step }: FailedEvent): string {
  if (step === 'apparmor')
    return 'unable to apply apparmor profile: apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec';
  if (step === 'mount') return 'unable to label a mount';
  return step === 'selinux'
    ? "can't set process label: write /proc/thread-self/attr/exec"
    : 'unable to set the label of the session keyring: write /proc/thread-self/attr/keycreate';
}

/** `unable to start container process: …` is what runc's callers look for. */
function sentence(code: Reason, event: FailedEvent, context: FailureContext): ErrorOptions_ {
  const program = JSON.stringify(context.program);
  const why = errnoSentence(event.errno);
  const start = (text: string): ErrorOptions_ => ({
    message: `unable to start container process: ${text}`,
    ...(event.errno === 0 ? {} : { cause: syscallError(event) }),
  });
  switch (code) {
    case 'ERR_EXEC_NOT_FOUND':
      return start(`exec: ${program}: executable file not found in $PATH`);
    case 'ERR_EXEC_NO_FILE':
      return start(`exec: ${program}: stat ${context.program}: no such file or directory`);
    case 'ERR_EXEC_PERMISSION':
      return start(`exec: ${program}: permission denied`);
    case 'ERR_EXEC_FORMAT':
      return start(`exec ${context.program}: exec format error`);
    case 'ERR_EXEC_INTERPRETER':
      return start(
        `exec ${context.program}: no such file or directory${event.detail === '' ? '' : ` (${event.detail})`}`,
      );
    case 'ERR_LABEL':
      return start(`error during container init: ${labelSentence(event)}: ${why}`);
    case 'ERR_CWD':
      return start(
        `chdir to cwd (${JSON.stringify(context.cwd)}) set in config.json failed: ${event.errno === 0 ? event.detail : why}`,
      );
    default: {
      const call = event.syscall === '' ? '' : `: ${event.syscall}(${event.args})`;
      const detail = event.detail === '' ? '' : `: ${event.detail}`;
      return start(
        `error at step ${event.index} ${event.step}${call}${detail}${event.errno === 0 ? '' : `: ${why}`}`,
      );
    }
  }
}
