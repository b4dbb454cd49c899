/** runc and nrunc as commands, for tests that compare them. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { containerId, makeBundle, makeStateRoot } from './bundle.ts';
import { slowness } from './deadline.ts';
import { projectRoot, type Requirement } from './requirements.ts';
import { type TestContext, test } from './test.ts';

export type Runtime = 'runc' | 'nrunc';
const commands: { readonly [name in Runtime]: readonly string[] } = {
  runc: ['runc'],
  nrunc: [process.execPath, join(projectRoot, 'dist/nrunc.cjs')],
};

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param output Where stdout and stderr go instead of being collected. */
export function command(runtime: Runtime, args: readonly string[], output?: number): Outcome {
  const [file = '', ...first] = commands[runtime];
  const { status, stdout, stderr, error } = spawnSync(file, [...first, ...args], {
    encoding: 'utf8',
    timeout: 60_000 * slowness,
    // 3 and 4 for --preserve-fds; runtimes must keep everything else to themselves, so 5 is a trap.
    stdio: ['ignore', output ?? 'pipe', output ?? 'pipe', 'pipe', 'pipe', 'pipe'],
  });
  if (error !== undefined) throw error;
  return { status, stdout: stdout ?? '', stderr: stderr ?? '' };
}

/** In a terminal of its own (script(1)), since a foreground terminal needs one. */
export function inTerminal(runtime: Runtime, args: readonly string[]): Outcome {
  const line = [...commands[runtime], ...args].map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const { status, stdout, stderr, error } = spawnSync('script', ['-qefc', line, '/dev/null'], {
    encoding: 'utf8',
    timeout: 60_000 * slowness,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

let refusal: string | undefined | null = null;
/** Why runc cannot run a container here, or undefined. Asked once. */
function runcRefusal(t: TestContext): string | undefined {
  if (refusal === null) {
    const root = makeStateRoot(t);
    const id = containerId('can');
    const outcome = command('runc', ['--root', root, 'run', '--bundle', makeBundle(t), id]);
    refusal = outcome.status === 0 ? undefined : outcome.stderr.trim().split('\n').at(-1);
    if (refusal !== undefined) command('runc', ['--root', root, 'delete', '--force', id]);
  }
  return refusal;
}

/** A test of both runtimes; skipped, with what runc says, where runc cannot run a container. */
export function differential(
  name: string,
  work: (t: TestContext) => void | Promise<void>,
  requires: readonly Requirement[] = [],
  timeoutMs = 60_000,
): void {
  test(`differential: ${name}`, {
    requires: ['root', 'runc', 'probe', ...requires],
    timeoutMs,
  }, t => {
    const reason = runcRefusal(t);
    if (reason === undefined) return work(t);
    t.skip(`runc cannot run a container here: ${reason}`);
  });
}
