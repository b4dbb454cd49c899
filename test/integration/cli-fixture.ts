/** nrunc (and runc) as processes: their output goes to files, since a detached container keeps what it inherits open. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { containerId, makeBundle, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import type { TestContext } from '../harness/test.ts';

export const nruncPath = join(projectRoot, 'dist/nrunc.cjs');

export interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: { readonly [name: string]: string };
  readonly cwd?: string;
  /** Content of stdin; default empty. */
  readonly input?: string;
  /** Descriptors of this process for 3, 4, …. */
  readonly fds?: readonly number[];
  /** Standard streams are /dev/null. A pipe of Node's is a socket, and a file is of no mount of the container: CRIU knows neither. */
  readonly noStreams?: boolean;
  /** Standard input is neither written to nor closed. */
  readonly openInput?: boolean;
}

export interface Started {
  readonly process: ChildProcess;
  /** What it has written so far. */
  stdout(): string;
  stderr(): string;
  ended(): Promise<Result>;
}

const deadlineMs = 30_000;

/** Starts a program; `ended()` waits for its exit, not for the end of its streams. */
export function start(program: string, words: readonly string[], options: RunOptions = {}): Started {
  const directory = mkdtempSync(join(tmpdir(), 'libcontainer-test-'));
  const files = { out: join(directory, 'out'), err: join(directory, 'err') };
  const [out, err] = [openSync(files.out, 'a'), openSync(files.err, 'a')];
  const streams: StdioOptions =
    options.noStreams === true ? ['ignore', 'ignore', 'ignore'] : ['pipe', out, err];
  const stdio: StdioOptions = [...streams, ...(options.fds ?? [])];
  // NODE_EXTRA_CA_CERTS makes each start of Node read a bundle of certificates.
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, NOTIFY_SOCKET: ___, ...environment } = process.env;
  const child = spawn(program, words, {
    stdio,
    cwd: options.cwd ?? directory,
    env: { ...environment, ...options.env },
  });
  closeSync(out);
  closeSync(err);
  child.stdin?.on('error', () => undefined);
  // script(1) types the end of its input into the terminal: where that would disturb, the input stays open.
  if (options.openInput !== true) child.stdin?.end(options.input ?? '');
  const exit = waitFor<[number | null, NodeJS.Signals | null]>(child, 'exit', deadlineMs);
  const read = (file: string): string => readFileSync(file, 'utf8');
  return {
    process: child,
    stdout: () => read(files.out),
    stderr: () => read(files.err),
    ended: async () => {
      try {
        const [code, signal] = await exit;
        return { code, signal, stdout: read(files.out), stderr: read(files.err) };
      } finally {
        child.kill('SIGKILL');
        child.stdin?.destroy();
        rmSync(directory, { recursive: true, force: true });
      }
    },
  };
}

export interface Cli {
  readonly root: string;
  readonly bundle: string;
  /** A container ID of its own. */
  readonly id: string;
  /** nrunc with --root and these words. */
  (words: readonly string[], options?: RunOptions): Promise<Result>;
  start(words: readonly string[], options?: RunOptions): Started;
}

export interface CliOptions {
  /** Default nrunc; for the differential tests `runc`. */
  readonly program?: string;
  readonly env?: { readonly [name: string]: string };
  readonly process?: { readonly [property: string]: unknown };
  readonly patch?: (spec: SpecDocument) => SpecDocument | undefined;
}

/** A state root and a bundle; every container that is left in the root is deleted at the end of the test. */
export function cli(t: TestContext, options: CliOptions = {}): Cli {
  const program = options.program ?? nruncPath;
  const root = makeStateRoot(t);
  const bundle = makeBundle(t, {
    process: { args: ['/bin/sleep', '1000'], ...options.process },
    ...(options.patch === undefined ? {} : { patch: options.patch }),
  });
  const begin = (words: readonly string[], more?: RunOptions): Started =>
    start(program, ['--root', root, ...words], { ...more, env: { ...options.env, ...more?.env } });
  const run = async (words: readonly string[], more?: RunOptions): Promise<Result> =>
    begin(words, more).ended();
  t.after(async () => {
    const left = (await run(['list', '-q'])).stdout.split('\n').filter(id => id !== '');
    for (const id of left) await run(['delete', '--force', id]);
  });
  return Object.assign(run, { root, bundle, id: containerId('cli'), start: begin });
}

/** The message of the one error line on stderr. */
export function errorMessage({ stderr }: Pick<Result, 'stderr'>): string {
  const match = /^time="[^"]+" level=error msg=(.*)\n$/.exec(stderr);
  if (match === null) return `not one error line: ${JSON.stringify(stderr)}`;
  const text = match[1] ?? '';
  return text.startsWith('"') ? String(JSON.parse(text)) : text;
}
