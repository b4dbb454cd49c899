/**
 * Hooks that run in the runtime's namespaces: prestart, createRuntime, poststart, poststop. config.md "POSIX-platform
 * Hooks". A hook gets the container's state on stdin and only its own environment; its working directory is the bundle.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Hook, HookName } from '../config/config.ts';
import { HookError } from '../errors.ts';
import { hookTimeoutMs } from '../plan/process-steps.ts';

/** What a hook may take when its config says nothing: a hung hook must not hang the daemon for ever. */
const defaultTimeoutMs = 30_000;
const outputLimitBytes = 64 * 1024;

export interface HookRun {
  readonly name: HookName;
  readonly hooks: readonly Hook[];
  /** OCI state as JSON. */
  readonly state: string;
  readonly cwd: string;
  readonly signal?: AbortSignal | undefined;
}

/** One after the other; the first that fails ends it. @throws {HookError} */
export async function runHooks(run: HookRun): Promise<void> {
  for (const [index, hook] of run.hooks.entries()) {
    run.signal?.throwIfAborted();
    await runHook(run, hook, index);
  }
}

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

async function runHook(run: HookRun, hook: Hook, index: number): Promise<void> {
  const at = { hook: run.name, index };
  const timeoutMs =
    hook.timeout === undefined || hook.timeout <= 0 ? defaultTimeoutMs : hookTimeoutMs(hook.timeout);
  // `detached`: a session and so a process group of its own, which the deadline kills with everything in it.
  const child = spawn(hook.path, hook.args.slice(1), {
    argv0: hook.args[0] ?? hook.path,
    env: environment(hook.env ?? []),
    cwd: run.cwd,
    detached: true,
    stdio: 'pipe',
  });
  const output = collect(child);
  let late = false;
  const kill = (): void => killGroup(child);
  const timer = setTimeout(() => {
    late = true;
    kill();
  }, timeoutMs);
  run.signal?.addEventListener('abort', kill, { once: true });
  try {
    // A hook that never reads, or ends before it has read everything, is no error (EPIPE).
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(run.state);
    const ending = await ended(child, at);
    if (late)
      throw new HookError(
        'ERR_HOOK_TIMEOUT',
        { ...at, output: output() },
        { message: `error running ${run.name} hook #${index}: no end within ${timeoutMs} ms` },
      );
    run.signal?.throwIfAborted();
    if (ending.code !== 0) throw failed(run.name, index, ending, output());
  } finally {
    clearTimeout(timer);
    run.signal?.removeEventListener('abort', kill);
    // What the hook left in the background may hold the pipes open for ever: we are done with them.
    child.stdin?.destroy();
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

/** `exit`, not `close`: an orphan of the hook that keeps its stdout would hold `close` back (runc waits for it). */
function ended(child: ChildProcess, at: { readonly hook: string; readonly index: number }): Promise<Ending> {
  return new Promise((resolve, reject) => {
    child.once('error', cause => {
      reject(new HookError('ERR_HOOK', at, { message: `error running ${at.hook} hook #${at.index}`, cause }));
    });
    child.once('exit', (code, signal) => {
      // One more turn of the loop, so that output that is already in the pipe is read.
      setImmediate(() => resolve({ code, signal }));
    });
  });
}

function failed(name: HookName, index: number, { code, signal }: Ending, output: string): HookError {
  const how = code === null ? `signal: ${signal}` : `exit status ${code}`;
  return new HookError(
    'ERR_HOOK',
    { hook: name, index, output, ...(code === null ? {} : { exitCode: code }) },
    { message: `error running ${name} hook #${index}: ${how}, output: ${output.trimEnd()}` },
  );
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // ESRCH: the group has ended by itself.
  }
}

function collect(child: ChildProcess): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      // Read on beyond the limit, or the hook would block on a full pipe.
      if (bytes < outputLimitBytes) chunks.push(chunk.subarray(0, outputLimitBytes - bytes));
      bytes += chunk.length;
    });
  return () => Buffer.concat(chunks).toString();
}

function environment(entries: readonly string[]): { [name: string]: string } {
  const result: { [name: string]: string } = {};
  for (const entry of entries) {
    const equals = entry.indexOf('=');
    if (equals > 0) result[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  return result;
}
