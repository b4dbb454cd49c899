/**
 * Every way to fail: one row per cause in `reasons` (code, sentence, hint) and one class per shape of data. docs/errors.md
 * is generated from the table. Sentences that containerd, Podman and runc's users match are byte-equal to runc's.
 * Context goes in `cause`; a message never contains its cause's text. Only the CLI joins the chain with ": ".
 */
export const reasons = {
  // Container and factory
  ERR_ID_INVALID: [
    'invalid container ID format',
    'use 1 to 255 of A-Z a-z 0-9 _ + - . ; not "." or "..", and no leading "-"',
  ],
  ERR_CONTAINER_EXISTS: [
    'container with given ID already exists',
    'choose another ID, or destroy the old container first',
  ],
  ERR_CONTAINER_NOT_EXIST: [
    'container does not exist',
    'list() or `nrunc list` shows what this state root holds',
  ],
  ERR_CONTAINER_RUNNING: [
    'container still running',
    'signal it and wait for its exit first, or force the deletion',
  ],
  ERR_CONTAINER_NOT_RUNNING: ['container not running', 'create and start it first'],
  ERR_CONTAINER_PAUSED: ['container paused', 'resume() it first'],
  ERR_CONTAINER_NOT_PAUSED: [
    'container not paused',
    'pause() works on created and running containers, resume() on paused ones',
  ],
  ERR_CONTAINER_STOPPED: ['cannot start a container that has stopped', 'destroy it and create a new one'],
  ERR_CONTAINER_STARTED: [
    'cannot start an already running container',
    'only a created container can be started',
  ],
  ERR_CONTAINER_BUSY: [
    'container is locked by another operation',
    'another process works on it; try again when it is done',
  ],
  ERR_POOL_CLOSED: ['the pool is closed', 'take() before close()'],
  ERR_STATE_CORRUPT: [
    'state of the container cannot be read',
    'destroy it with force; the state directory is removed',
  ],
  ERR_STATE_ROOT: [
    'state root is not usable',
    'it must be a directory that you own and nobody else can write to, and not "/"',
  ],
  ERR_PLATFORM: ['this system cannot run containers', 'Linux 5.12 or later on x86-64 or arm64 is needed'],
  ERR_ADDON: [
    'the native addon could not be loaded',
    'run `npm run build`, or install the package for this platform',
  ],
  ERR_ID_MAP: [
    'the ids of the user namespace cannot be mapped',
    'see the ranges of your user in /etc/subuid and /etc/subgid',
  ],
  ERR_PRIVILEGE: ['not enough privilege', 'run as root (CAP_SYS_ADMIN is needed)'],
  ERR_ARGUMENT: ['invalid argument', 'see the documentation of the call'],
  ERR_SIGNAL_UNKNOWN: [
    'unknown signal',
    'use a name as in signal(7), with or without SIG, or a number from 1 to 64',
  ],
  ERR_UNSUPPORTED: [
    'not supported',
    'the property named is part of the specification, but this version refuses it rather than ignore it',
  ],
  // Configuration
  ERR_SPEC_NOT_FOUND: [
    'JSON specification file config.json not found',
    'a bundle is a directory with a config.json; `nrunc spec` writes one',
  ],
  ERR_SPEC_JSON: ['config.json is not valid JSON', 'line and column tell where'],
  ERR_SPEC_INVALID: [
    'config.json does not follow the OCI runtime specification',
    'each issue names the property',
  ],
  ERR_ROOTFS: ['invalid rootfs', 'root.path must name an existing directory that is not a link'],
  // Start
  ERR_START: ['unable to start container process', 'the cause names the step and the system call'],
  ERR_INIT_STEP: [
    'a step of the start failed',
    'the step, its system call, arguments and errno are in the error',
  ],
  ERR_INIT_DIED: [
    'container init died before it was ready',
    'look for an out-of-memory kill; a very low memory limit does this',
  ],
  ERR_SPAWN: ['the init process could not be made', 'the cause has the system call'],
  ERR_EXEC_NOT_FOUND: [
    'executable file not found in $PATH',
    'PATH is the one of process.env, looked up inside the rootfs',
  ],
  ERR_EXEC_NO_FILE: ['no such file or directory', 'args[0] is a path inside the rootfs'],
  ERR_EXEC_INTERPRETER: [
    'the interpreter of the executable is missing',
    'the file exists, but its #! line or its ELF loader names a file that the rootfs lacks (CRLF line ends look like this too)',
  ],
  ERR_EXEC_FORMAT: ['exec format error', 'wrong architecture, or a script without #! line'],
  ERR_EXEC_PERMISSION: [
    'permission denied',
    'the file or a directory above it lacks the execute permission for this user, or it is on a noexec mount',
  ],
  ERR_CWD: [
    'the working directory is not usable',
    'process.cwd must be an absolute path to a directory inside the rootfs that the user may enter',
  ],
  ERR_ESCAPE: [
    'a path would leave the container',
    'a component is a link out of the rootfs or into a host directory',
  ],
  ERR_LABEL: [
    'the security label could not be set',
    "AppArmor: the profile must be loaded in the host's kernel first (apparmor_parser); SELinux: the policy must know the label and allow the transition",
  ],
  ERR_SECCOMP_AGENT: [
    'the listener of seccomp notifications could not be handed over',
    'linux.seccomp.listenerPath must be the UNIX socket of an agent that accepts',
  ],
  ERR_SYSCALL_HANDLER: [
    'a handler of a system call gave no answer',
    'the caller got the errno of seccompHandler; raise deadlineMs, or answer sooner',
  ],
  ERR_CALLER_GONE: [
    'the caller of the system call does not wait any more',
    'it was killed, or a signal interrupted it; nothing that was read of it may be used',
  ],
  ERR_NAMESPACE_KIND: [
    'namespace path is of another kind',
    'use the file of the same kind, e.g. /proc/PID/ns/net for a network namespace',
  ],
  ERR_NET_DEVICE: [
    'network device could not be moved into the container',
    'is it there, not the loopback, and its name free inside? the cause is the request that was refused',
  ],
  ERR_IDMAP: [
    'idmapped mount could not be made',
    'the file system of the source must know idmapped mounts (mount_setattr(2) has the list) and not be idmapped already',
  ],
  ERR_HOOK: ['hook failed', 'its output is in the error'],
  ERR_HOOK_TIMEOUT: [
    'hook did not end in time',
    'raise its timeout, or see why it hangs; its process group was killed',
  ],
  ERR_CONSOLE: [
    'the terminal could not be set up',
    'with --console-socket a listener must accept on that path',
  ],
  ERR_PIDFD_SOCKET: [
    'the pidfd could not be handed over',
    'with --pidfd-socket a listener must accept on that path',
  ],
  ERR_OOM_KILLED: ['container init was killed by the out-of-memory killer', 'raise memory.limit'],
  // cgroups
  ERR_CGROUP: ['cgroup operation failed', 'file and value are in the error'],
  ERR_CGROUP_CONTROLLER: [
    'cgroup controller is not available',
    'wanted and available controllers are in the error; under systemd use Delegate=yes',
  ],
  ERR_CGROUP_NOT_EMPTY: [
    'cgroup is not empty',
    'another container or service uses this cgroup; give linux.cgroupsPath a path of its own',
  ],
  ERR_CGROUP_TYPE: [
    'cgroup cannot hold a container',
    'a container needs a domain cgroup below domain cgroups; give linux.cgroupsPath another path',
  ],
  ERR_CGROUP_FROZEN: ['cgroup is frozen', 'thaw it, or give linux.cgroupsPath another path'],
  ERR_CGROUP_BUSY: [
    'cgroup cannot be removed',
    'processes that cannot be killed are still in it; their pids are in the error',
  ],
  ERR_SYSTEMD: [
    'systemd cannot be reached',
    'it must be PID 1; or use the cgroupfs driver: leave --systemd-cgroup out',
  ],
  ERR_SYSTEMD_UNIT: [
    'systemd did not do what was asked of it',
    '`systemctl status UNIT` and the journal say why',
  ],
  ERR_CGROUP_LAYOUT: ['no usable cgroup mount', 'mount cgroup2 on /sys/fs/cgroup'],
  ERR_SANDBOX_FILE: [
    'a file of the sandbox could not be read or written',
    'it is done inside, as the user of the sandbox: only /tmp, the home directory and writable mounts can be written',
  ],
  ERR_ROOTFS_MAKE: [
    'a root file system could not be made',
    'the directory must be empty or absent; apt-get install busybox-static has the program',
  ],
  ERR_IMAGE: [
    'image cannot be unpacked',
    'it must be an OCI image layout or a docker save archive, whole and unchanged; to write it again is what helps most',
  ],
  ERR_TEST_RUNNER: [
    'the hooks of the test runner cannot be used',
    'call useSandbox() in a test file, outside of tests',
  ],
  // Checkpoint and restore
  ERR_CRIU: ['CRIU failed', 'the first errors of its log are in `reasons`, the log itself is at `logPath`'],
  ERR_CRIU_MISSING: [
    'CRIU is not installed',
    'install the package `criu` (3.0 or later); it is looked for in the absolute directories of PATH',
  ],
  ERR_CRIU_VERSION: ['CRIU is too old', 'the version that is needed and the one found are in the error'],
  ERR_CRIU_UNABLE: [
    'CRIU cannot do this here',
    'the words are those of its own check: a kernel that it does not know, or one without the feature',
  ],
  ERR_CRIU_MOUNT: [
    'a mount cannot make the round trip through CRIU',
    'mount destinations, as links of the rootfs resolve them, must differ and have no [ ] : , or line break in them',
  ],
  ERR_CRIU_IMAGE: [
    'not a checkpoint of this container',
    'the image must be whole and its mounts those of config.json',
  ],
  ERR_SYSCALL: [
    'system call failed',
    'errno says why and args what was asked; the man page of the call has its errors',
  ],
} as const satisfies Record<string, readonly [sentence: string, hint: string]>;

export type Reason = keyof typeof reasons;

export interface ErrorOptions_ {
  readonly cause?: unknown;
  /** Added to the table's sentence after ": " — a value, a path, a property, never a cause's text. */
  readonly detail?: string;
  /** Replaces the sentence (for the cases where runc's own sentence has another form). */
  readonly message?: string;
  readonly hint?: string;
}

/** Base of all errors of this library; `code` is stable. */
export class LibcontainerError extends Error {
  readonly code: Reason;
  readonly hint: string;
  constructor(code: Reason, options: ErrorOptions_ = {}) {
    const [sentence, hint] = reasons[code];
    const message =
      options.message ?? (options.detail === undefined ? sentence : `${sentence}: ${options.detail}`);
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint ?? hint;
  }
}

export class ContainerError extends LibcontainerError {
  readonly containerId: string;
  readonly status: string | undefined;
  constructor(code: Reason, containerId: string, options: ErrorOptions_ & { readonly status?: string } = {}) {
    super(code, options);
    this.containerId = containerId;
    this.status = options.status;
  }
}

export interface ConfigIssue {
  /** `linux.namespaces[0].type` */
  readonly path: string;
  readonly message: string;
}
/** config.json or an argument of the same shape is wrong; for broken JSON `line` and `column` count from 1. */
export class ConfigError extends LibcontainerError {
  readonly issues: readonly ConfigIssue[];
  readonly line: number | undefined;
  readonly column: number | undefined;
  constructor(
    code: Reason,
    options: ErrorOptions_ & {
      readonly issues?: readonly ConfigIssue[];
      readonly line?: number;
      readonly column?: number;
    } = {},
  ) {
    const issues = options.issues ?? [];
    const detail =
      options.detail ??
      (issues.length > 0 ? issues.map(i => `${i.path}: ${i.message}`).join('; ') : undefined);
    super(code, detail === undefined ? options : { ...options, detail });
    this.issues = issues;
    this.line = options.line;
    this.column = options.column;
  }
}

/** A system call that failed: `errno` is negative and `code`-like names are in `errnoName`, as Node's own errors have them. */
export class SyscallError extends LibcontainerError {
  readonly errno: number;
  readonly errnoName: string;
  readonly syscall: string;
  readonly args: string;
  constructor(
    call: {
      readonly syscall: string;
      readonly args: string;
      readonly errno: number;
      readonly errnoName: string;
    },
    options: ErrorOptions_ = {},
  ) {
    super('ERR_SYSCALL', {
      ...options,
      message: options.message ?? `${call.syscall}(${call.args}): ${call.errnoName}`,
    });
    this.errno = -Math.abs(call.errno);
    this.errnoName = call.errnoName;
    this.syscall = call.syscall;
    this.args = call.args;
  }
}

/** A step of a start failed inside init, or init died. */
export class InitError extends LibcontainerError {
  readonly step: string;
  readonly index: number;
  readonly syscall: string;
  readonly args: string;
  /** Negative, 0 when no system call failed. */
  readonly errno: number;
  constructor(
    code: Reason,
    at: {
      readonly step: string;
      readonly index: number;
      readonly syscall: string;
      readonly args: string;
      readonly errno: number;
    },
    options: ErrorOptions_ = {},
  ) {
    super(code, options);
    this.step = at.step;
    this.index = at.index;
    this.syscall = at.syscall;
    this.args = at.args;
    this.errno = -Math.abs(at.errno);
  }
}

export class CgroupError extends LibcontainerError {
  readonly file: string;
  readonly value: string | undefined;
  readonly pids: readonly number[];
  constructor(
    code: Reason,
    at: { readonly file: string; readonly value?: string; readonly pids?: readonly number[] },
    options: ErrorOptions_ = {},
  ) {
    super(code, {
      ...options,
      detail:
        options.detail ?? (at.value === undefined ? at.file : `${at.file} ← ${JSON.stringify(at.value)}`),
    });
    this.file = at.file;
    this.value = at.value;
    this.pids = at.pids ?? [];
  }
}

export class HookError extends LibcontainerError {
  readonly hook: string;
  readonly index: number;
  /** Exit code, or undefined when a signal or the deadline ended it. */
  readonly exitCode: number | undefined;
  /** What it wrote (at most 64 KiB). */
  readonly output: string;
  constructor(
    code: Reason,
    at: {
      readonly hook: string;
      readonly index: number;
      readonly exitCode?: number;
      readonly output?: string;
    },
    options: ErrorOptions_ = {},
  ) {
    super(code, { ...options, detail: options.detail ?? `${at.hook}[${at.index}]` });
    this.hook = at.hook;
    this.index = at.index;
    this.exitCode = at.exitCode;
    this.output = at.output ?? '';
  }
}

/** CRIU failed at a checkpoint or a restore. */
export class CriuError extends LibcontainerError {
  /** What was asked of it. */
  readonly operation: 'check' | 'dump' | 'pre-dump' | 'restore' | 'page-server';
  /** The first lines of its log that tell of an error; empty when it wrote none. */
  readonly reasons: readonly string[];
  /** Absolute; undefined: it had not come to writing one. */
  readonly logPath: string | undefined;
  constructor(
    code: Reason,
    at: {
      readonly operation: CriuError['operation'];
      readonly reasons?: readonly string[];
      readonly logPath?: string | undefined;
    },
    options: ErrorOptions_ = {},
  ) {
    const reasonsGiven = at.reasons ?? [];
    const words = [
      options.detail ?? `${at.operation}: ${reasonsGiven[0] ?? 'it gave no reason'}`,
      ...(at.logPath === undefined ? [] : [`log: ${at.logPath}`]),
    ];
    super(code, { ...options, detail: words.join('; ') });
    this.operation = at.operation;
    this.reasons = reasonsGiven;
    this.logPath = at.logPath;
  }
}
