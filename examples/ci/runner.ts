/**
 * Runs a pipeline: each step in a container of its own, on the layers of the steps before it. What a step changes is its layer,
 * `layers/<key>`; a step whose key has a layer already is not run again. Only what has succeeded gets its name, so a runner may
 * be killed at any time: its container dies with it, and what it left has no key.
 */
import { createWriteStream, existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { busyboxRootfs, type ExitStatus, LinuxFactory, Process, signalNumber } from '../../lib/index.ts';
import { containerConfig } from '../container-config.ts';
import { type Pipeline, type Step, stepKey, treeKey } from './pipeline.ts';

export interface StepResult {
  readonly step: string;
  readonly outcome: 'passed' | 'cached' | 'failed' | 'timed out' | 'out of memory';
  /** As a shell tells it: 128 and the signal's number for what was killed by one. */
  readonly exitCode: number;
  readonly durationMs: number;
  /** Of its last run. */
  readonly logPath: string;
}

export interface RunnerOptions {
  /** Layers, logs, state. Not on an overlay: it is where upper layers are. */
  readonly directory: string;
  readonly onOutput?: (step: string, chunk: Buffer) => void;
  readonly onResult?: (result: StepResult) => void;
}

const mostLogBytes = 16 << 20;

/** Resolves with a result for each step up to the first that did not succeed. */
export async function runPipeline(pipeline: Pipeline, options: RunnerOptions): Promise<StepResult[]> {
  const { directory } = options;
  for (const name of ['layers', 'logs']) await mkdir(join(directory, name), { recursive: true });
  const busybox = join(directory, 'rootfs');
  const rootfs = pipeline.rootfs ?? (existsSync(busybox) ? busybox : await busyboxRootfs(busybox));
  const factory = new LinuxFactory({ root: join(directory, 'state') });
  await factory.reconcile();
  const results: StepResult[] = [];
  /** The topmost first, as overlayfs wants them. */
  let lower: readonly string[] = [rootfs];
  let key = await treeKey(rootfs);
  for (const step of pipeline.steps) {
    key = await stepKey(key, step);
    const layer = join(directory, 'layers', key);
    const result = existsSync(layer)
      ? cached(step, options)
      : await runStep(step, { factory, rootfs, lower, layer }, options);
    results.push(result);
    options.onResult?.(result);
    if (result.exitCode !== 0) break;
    lower = [layer, ...lower];
  }
  return results;
}

const logPath = ({ name }: Step, { directory }: RunnerOptions): string =>
  join(directory, 'logs', `${name}.log`);

const cached = (step: Step, options: RunnerOptions): StepResult => ({
  step: step.name,
  outcome: 'cached',
  exitCode: 0,
  durationMs: 0,
  logPath: logPath(step, options),
});

interface Ground {
  readonly factory: LinuxFactory;
  readonly rootfs: string;
  readonly lower: readonly string[];
  /** What the step's changes become when it succeeds. */
  readonly layer: string;
}

async function runStep(step: Step, ground: Ground, options: RunnerOptions): Promise<StepResult> {
  const began = performance.now();
  const fresh = await mkdtemp(join(dirname(ground.layer), '.step-'));
  const [upper, work] = [join(fresh, 'upper'), join(fresh, 'work')];
  try {
    // It becomes the mode of the container's root directory.
    await mkdir(upper, { mode: 0o755 });
    await mkdir(work);
    for (const [from, to] of Object.entries(step.copy))
      await cp(from, join(upper, normalize(to)), { recursive: true, verbatimSymlinks: true });
    const { outcome, exitCode } = await execute(step, { ...ground, upper, work }, options);
    if (exitCode === 0) await keep(upper, ground.layer);
    return {
      step: step.name,
      outcome,
      exitCode,
      durationMs: performance.now() - began,
      logPath: logPath(step, options),
    };
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Another runner may have been quicker: its layer is as good. */
async function keep(upper: string, layer: string): Promise<void> {
  try {
    await rename(upper, layer);
  } catch (error) {
    if (!existsSync(layer)) throw error;
  }
}

type Ending = Pick<StepResult, 'outcome' | 'exitCode'>;

async function execute(
  step: Step,
  { factory, rootfs, lower, upper, work }: Ground & { readonly upper: string; readonly work: string },
  options: RunnerOptions,
): Promise<Ending> {
  const { name, run, env, cwd, memoryBytes, pids, cpus, timeoutMs } = step;
  const args = ['sh', '-e', '-c', run];
  const limits = { memoryBytes, pids, cpus };
  const overlay = { lower, upper, work };
  const config = await containerConfig({ rootfs, args, env, cwd, hostname: name, overlay, ...limits });
  const container = await factory.create(`${name}-${process.pid}-${Date.now()}`, config, {
    lifetime: 'owner',
  });
  let isLate = false;
  let timer: NodeJS.Timeout | undefined;
  try {
    const running = new Process({ args, stdout: 'pipe', stderr: 'pipe' });
    await container.run(running);
    timer = setTimeout(() => {
      isLate = true;
      container.signal('KILL').catch(() => undefined);
    }, timeoutMs);
    const [{ status, oomKilled }] = await Promise.all([
      container.wait(),
      writeLog(step, [running.stdout, running.stderr], options),
    ]);
    const exitCode = codeOf(status);
    if (isLate && exitCode !== 0) return { outcome: 'timed out', exitCode };
    if (exitCode !== 0) return { outcome: oomKilled ? 'out of memory' : 'failed', exitCode };
    return { outcome: 'passed', exitCode };
  } finally {
    clearTimeout(timer);
    await container.destroy({ force: true });
  }
}

function codeOf(status: ExitStatus): number {
  if (status.kind === 'exited') return status.code;
  return 128 + signalNumber(status.kind === 'signaled' ? status.signal : 'KILL');
}

/** All of it is read, so that the step does not wait for us; what is beyond the limit is not kept. */
async function writeLog(
  step: Step,
  streams: readonly (Readable | undefined)[],
  options: RunnerOptions,
): Promise<void> {
  const log = createWriteStream(logPath(step, options));
  let leftBytes = mostLogBytes;
  const copy = async (stream: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of stream) {
      const kept = chunk.subarray(0, leftBytes);
      leftBytes -= kept.length;
      if (kept.length === 0) continue;
      log.write(kept);
      options.onOutput?.(step.name, kept);
    }
  };
  await Promise.all(streams.map(stream => (stream === undefined ? undefined : copy(stream))));
  log.end();
  await finished(log);
}
