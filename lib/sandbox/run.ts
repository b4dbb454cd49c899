/** One program in a sandbox, from its input to its result: limits of time and output, cancelling, what it used. */
import type { Readable } from 'node:stream';
import {
  type ExitStatus,
  LibcontainerError,
  type Process,
  type ProcessOptions,
  type SignalName,
} from '../index.ts';
import { type Collected, collect, type OnOutput } from './output.ts';
import type { ResourceUsage } from './usage.ts';

export interface RunOptions {
  /** Its standard input. Default: empty. */
  readonly input?: string | Uint8Array | Readable;
  /** Added to the environment of the sandbox. */
  readonly env?: { readonly [name: string]: string };
  /** Absolute, inside. Default: that of the sandbox. */
  readonly cwd?: string;
  /** Wall time after which it is killed. Default: none. */
  readonly timeoutMs?: number;
  /** Kept of stdout and of stderr, each; who writes more is killed. Default 1 MiB. */
  readonly maxOutputBytes?: number;
  /** Gets stdout as it comes; a promise holds the program back. `stdout` of the result is then empty, without limit. */
  readonly onStdout?: OnOutput;
  readonly onStderr?: OnOutput;
  /** Abort kills the program and rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** How a program ended, however that was. A program that fails is a result; what could not be started is an error. */
export interface SandboxResult<Output = string> {
  /** null: a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: SignalName | null;
  /** The kernel killed a process of the sandbox for lack of memory while it ran. */
  readonly oomKilled: boolean;
  /** `timeoutMs` was over. */
  readonly timedOut: boolean;
  /** It wrote more than `maxOutputBytes`; what fitted is there. */
  readonly outputExceeded: boolean;
  readonly stdout: Output;
  readonly stderr: Output;
  /** From the execve to the end. */
  readonly durationMs: number;
  /** Undefined without cgroups. In a `Sandbox` of everything that ran in it meanwhile. */
  readonly resourceUsage: ResourceUsage | undefined;
}

const defaultMaxOutputBytes = 1 << 20;

export interface Running {
  readonly process: Process;
  /** Ends it for sure. */
  readonly kill: () => void;
  readonly facts: () => Promise<{ readonly oomKilled: boolean; readonly usage: ResourceUsage | undefined }>;
}

/** @throws {LibcontainerError} ERR_ARGUMENT */
export function checkRun(argv: readonly string[], { timeoutMs, maxOutputBytes }: RunOptions): void {
  const wrong = (detail: string): never => {
    throw new LibcontainerError('ERR_ARGUMENT', { detail });
  };
  if (!Array.isArray(argv) || argv.length === 0) wrong('argv: a list of at least one string is needed');
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= 2 ** 31 - 1))
    wrong(`timeoutMs is ${timeoutMs}`);
  if (maxOutputBytes !== undefined && !(Number.isSafeInteger(maxOutputBytes) && maxOutputBytes >= 0))
    wrong(`maxOutputBytes is ${maxOutputBytes}`);
}

/** For the Process: pipes for all three, or no input. */
export function processOptions(
  argv: readonly string[],
  base: { readonly env: readonly string[]; readonly cwd: string },
  options: RunOptions,
): ProcessOptions {
  const added = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`);
  return {
    args: argv,
    env: [...base.env, ...added],
    cwd: options.cwd ?? base.cwd,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
  };
}

/** Follows a process that has just been started to its end. */
export async function follow(running: Running, options: RunOptions): Promise<SandboxResult<Buffer>> {
  const { process: program, kill } = running;
  const { signal, timeoutMs, maxOutputBytes: maxBytes = defaultMaxOutputBytes } = options;
  const started = performance.now();
  const ended = { timedOut: false, outputExceeded: false };
  const outputs: Collected[] = [];
  const end = (why: keyof typeof ended): void => {
    ended[why] = true;
    kill();
  };
  const output = (stream: Readable | undefined, onOutput: OnOutput | undefined): Collected | undefined => {
    if (stream === undefined) return undefined;
    const collected = collect(stream, { maxBytes, onOutput, onLimit: () => end('outputExceeded') });
    outputs.push(collected);
    // What a function of the caller throws ends the program; the result rejects with it below.
    collected.ended.catch(kill);
    return collected;
  };
  const stdout = output(program.stdout, options.onStdout);
  const stderr = output(program.stderr, options.onStderr);
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => end('timedOut'), timeoutMs);
  signal?.addEventListener('abort', kill, { once: true });
  if (signal?.aborted === true) kill();
  try {
    feed(program, options.input);
    const status = await program.wait();
    const durationMs = performance.now() - started;
    const killed = ended.timedOut || ended.outputExceeded || signal?.aborted === true;
    // Of one that was killed others may hold the pipes on; their output is nobody's result.
    if (killed) for (const { stop } of outputs) stop();
    await Promise.all(outputs.map(({ ended: done }) => done));
    signal?.throwIfAborted();
    const { oomKilled, usage } = await running.facts();
    return {
      ...statusOf(status),
      ...ended,
      oomKilled,
      stdout: stdout?.bytes() ?? Buffer.alloc(0),
      stderr: stderr?.bytes() ?? Buffer.alloc(0),
      durationMs,
      resourceUsage: usage,
    };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
  }
}

export const asText = (result: SandboxResult<Buffer>): SandboxResult => ({
  ...result,
  stdout: result.stdout.toString('utf8'),
  stderr: result.stderr.toString('utf8'),
});

function statusOf(status: ExitStatus): Pick<SandboxResult, 'exitCode' | 'signal'> {
  if (status.kind === 'exited') return { exitCode: status.code, signal: null };
  return { exitCode: null, signal: status.kind === 'signaled' ? status.signal : null };
}

function feed(process: Process, input: RunOptions['input']): void {
  const { stdin } = process;
  if (stdin === undefined || input === undefined) return;
  // A program that ends without reading its input is no error of ours.
  stdin.on('error', () => undefined);
  if (typeof input === 'string' || input instanceof Uint8Array) stdin.end(input);
  else input.on('error', () => stdin.destroy()).pipe(stdin);
}
