/**
 * Process: what to run in a container, and, once started, the running thing: pid, streams, terminal, exit status.
 * `container.run(process)` or `container.start(process)` starts it; an object is started once.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { ProcessConfig, User } from './config/config.ts';
import { refuseUnsupportedProcess } from './config/unsupported.ts';
import { LibcontainerError } from './errors.ts';
import { type SignalName, signalNumber } from './signals.ts';

/** How a process ended. `128 + signal` exists only on the command line. */
export type ExitStatus =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: SignalName; readonly coreDumped: boolean }
  /** It has ended, and nobody can tell how: whoever waited for it was killed, on a kernel before 6.15. */
  | { readonly kind: 'unknown' };

/**
 * `'pipe'`: a Node stream on the Process; `'inherit'`: this process's own; `'ignore'`: /dev/null; a number: that
 * descriptor (borrowed); a stream: copied from or to it.
 */
export type StdioInput = 'pipe' | 'inherit' | 'ignore' | number | Readable;
export type StdioOutput = 'pipe' | 'inherit' | 'ignore' | number | Writable;

export interface ProcessOptions extends Partial<Omit<ProcessConfig, 'args' | 'user'>> {
  readonly args: readonly string[];
  readonly user?: Partial<User>;
  /** Default `'ignore'` for all three; not used with `terminal`. */
  readonly stdin?: StdioInput;
  readonly stdout?: StdioOutput;
  readonly stderr?: StdioOutput;
  /** With `terminal`: path of a UNIX socket that gets the ptmx (runc's `--console-socket`) instead of `process.terminal`. */
  readonly consoleSocket?: string;
  /**
   * Path of a UNIX socket that gets a pidfd of the process before it executes (runc's `--pidfd-socket`); the data of the
   * message is `standard` for a container's first process, `setns` for a further one.
   */
  readonly pidfdSocket?: string;
  /**
   * Its end is known here but left for whoever inherits this process's children (a subreaper: containerd's shim, conmon),
   * even when it ends first: for programs that start it and end themselves, like `nrunc exec --detach`. Default false.
   */
  readonly unreaped?: boolean;
  /** @internal A socket to the front that clones the process and is its parent (docs/adr/0026). Borrowed. */
  readonly front?: number;
  /** Descriptors of this process that the container keeps as 3, 4, …. Borrowed. Default none. */
  readonly preservedFds?: readonly number[];
  /** Exec only: enter the container even when it is paused. Default false. */
  readonly ignorePaused?: boolean;
  /** Exec only: sub-cgroup to join, `''` on cgroup v2 or controller → path below the container's cgroup. */
  readonly subCgroups?: { readonly [controller: string]: string };
}

/** What a started process gives to its Process object; made by parent/. */
export interface StartedProcess {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  readonly terminal: Duplex | undefined;
  /** Nanoseconds per step of the start plan. */
  readonly durationsNs: readonly number[];
  wait(): Promise<ExitStatus>;
  /** False: it is gone. */
  signal(signal: number): boolean;
  resize(columns: number, rows: number): void;
  ref(): void;
  unref(): void;
}

/**
 * One process of a container. Fields that the options leave out are taken from the container's `config.process` when it
 * is started (`terminal` is not).
 *
 * @example
 * const process = new Process({ ...config.process, args: ['id'], stdout: 'pipe' });
 * await container.run(process);
 * for await (const chunk of process.stdout ?? []) …
 * const status = await process.wait(); // { kind: 'exited', code: 0 }
 */
export class Process {
  readonly options: ProcessOptions;
  #started: StartedProcess | undefined;
  #claimed = false;

  /** @throws {LibcontainerError} `ERR_ARGUMENT` for options that contradict each other, `ERR_UNSUPPORTED`. */
  constructor(options: ProcessOptions) {
    checkOptions(options);
    refuseUnsupportedProcess(options);
    this.options = options;
  }

  /** As seen by this process (not inside the container). Undefined before the start. */
  get pid(): number | undefined {
    return this.#started?.pid;
  }
  /** Writable end of stdin when it is `'pipe'`. */
  get stdin(): Writable | undefined {
    return this.#started?.stdin;
  }
  get stdout(): Readable | undefined {
    return this.#started?.stdout;
  }
  get stderr(): Readable | undefined {
    return this.#started?.stderr;
  }
  /** Both directions of the terminal, when `terminal` is true and no `consoleSocket` was given. */
  get terminal(): Duplex | undefined {
    return this.#started?.terminal;
  }
  /**
   * Nanoseconds that each step of the start plan took, in the order of `container.plan().steps`; empty before the start.
   * Steps behind a seccomp filter count as 0: the filter need not let init read the clock.
   */
  get durationsNs(): readonly number[] {
    return this.#started?.durationsNs ?? [];
  }

  /**
   * Its exit status, after output that is copied to a given stream has been written. May be called any number of times,
   * also after the exit.
   * @throws {LibcontainerError} `ERR_ARGUMENT` when the process was never started.
   */
  async wait(): Promise<ExitStatus> {
    return this.#running('wait').wait();
  }

  /**
   * Sends a signal through the pidfd: it can never reach another process.
   * @param signal A name with or without SIG, or a number from 1 to 64.
   * @throws {LibcontainerError} `ERR_SIGNAL_UNKNOWN`; `ERR_CONTAINER_NOT_RUNNING` when it has ended.
   */
  signal(signal: SignalName | number | string): void {
    const number = signalNumber(signal);
    if (!this.#running('signal').signal(number))
      throw new LibcontainerError('ERR_CONTAINER_NOT_RUNNING', { message: 'os: process already finished' });
  }

  /** Sets the size of the terminal; the foreground process group gets SIGWINCH. */
  resize(size: { readonly columns: number; readonly rows: number }): void {
    for (const [name, value] of [
      ['columns', size.columns],
      ['rows', size.rows],
    ] as const)
      if (!Number.isInteger(value) || value < 0 || value > 65535)
        throw new LibcontainerError('ERR_ARGUMENT', { detail: `${name} is ${value}, not 0 to 65535` });
    this.#running('resize').resize(size.columns, size.rows);
  }

  /** Whether this process keeps Node's event loop alive until its exit (default yes). */
  ref(): this {
    this.#started?.ref();
    return this;
  }
  unref(): this {
    this.#started?.unref();
    return this;
  }

  /** @internal A Process is started once; the claim comes before the first effect. */
  claim(): void {
    if (this.#claimed)
      throw new LibcontainerError('ERR_ARGUMENT', { detail: 'this Process object was started before' });
    this.#claimed = true;
  }
  /** @internal A start that failed gives the object back. */
  unclaim(): void {
    if (this.#started === undefined) this.#claimed = false;
  }
  /** @internal */
  attach(started: StartedProcess): void {
    this.#started = started;
  }

  #running(what: string): StartedProcess {
    if (this.#started !== undefined) return this.#started;
    throw new LibcontainerError('ERR_ARGUMENT', { detail: `Process.${what}(): it was never started` });
  }
}

function checkOptions(options: ProcessOptions): void {
  const wrong = (detail: string): never => {
    throw new LibcontainerError('ERR_ARGUMENT', { detail });
  };
  const { program } = options;
  if (program !== undefined && program !== 'none' && program !== 'late')
    wrong(`process.program is ${String(program)}, not 'none' or 'late'`);
  const few = program === undefined && options.args?.length === 0;
  if (!Array.isArray(options.args) || few || options.args.some(a => typeof a !== 'string'))
    wrong('process.args: a list of at least one string is needed');
  if (program !== undefined && options.args.length > 0)
    wrong(`process.args must be empty with program '${program}'`);
  if (options.args.some(a => a.includes('\0'))) wrong('process.args: a NUL byte cannot be passed');
  for (const entry of options.env ?? []) {
    if (!/^[^=\0]+=[^\0]*$/s.test(entry)) wrong(`process.env: ${JSON.stringify(entry)} is not NAME=value`);
  }
  if (options.cwd !== undefined && !options.cwd.startsWith('/'))
    wrong(`process.cwd: ${options.cwd} is not absolute`);
  if (options.consoleSocket !== undefined && options.terminal !== true)
    wrong('process.consoleSocket needs process.terminal');
  if (options.terminal === true)
    for (const name of ['stdin', 'stdout', 'stderr'] as const)
      if (options[name] !== undefined) wrong(`process.${name} cannot be set with process.terminal`);
  for (const name of ['uid', 'gid'] as const) {
    const value = options.user?.[name];
    if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value < 2 ** 32 - 1))
      wrong(`process.user.${name}: ${value} is not a number from 0 to 4294967294`);
  }
  // On the wire 2^32 would become group 0 (containerd's CVE-2024-40635 was such an overflow).
  for (const value of options.user?.additionalGids ?? [])
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** 32 - 1))
      wrong(`process.user.additionalGids: ${value} is not a number from 0 to 4294967294`);
}

/** The process's own fields over those of the container's `config.process`. */
export function resolveProcess(options: ProcessOptions, base: ProcessConfig | undefined): ProcessConfig {
  const { user } = options;
  const of = base?.user ?? { uid: 0, gid: 0, additionalGids: [] };
  const optional = <K extends keyof ProcessConfig & keyof ProcessOptions>(name: K) => {
    const value = (options as Partial<ProcessConfig>)[name] ?? base?.[name];
    return value === undefined ? {} : { [name]: value };
  };
  return {
    args: options.args,
    env: options.env ?? base?.env ?? [],
    cwd: options.cwd ?? base?.cwd ?? '/',
    user: user === undefined || user === of ? of : { ...of, ...user },
    // Not the container's: who executes a command beside a terminal's shell does not ask for a second terminal.
    terminal: options.terminal ?? false,
    rlimits: options.rlimits ?? base?.rlimits ?? [],
    noNewPrivileges: options.noNewPrivileges ?? base?.noNewPrivileges ?? false,
    ...optional('consoleSize'),
    ...optional('plainNewlines'),
    ...(options.program === undefined ? {} : { program: options.program }),
    ...optional('capabilities'),
    ...optional('oomScoreAdj'),
    ...optional('scheduler'),
    ...optional('ioPriority'),
    ...optional('execCPUAffinity'),
    ...optional('apparmorProfile'),
    ...optional('selinuxLabel'),
  };
}
