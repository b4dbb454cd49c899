/**
 * libcontainer/sandbox: a program in a container in one call, without image, root file system or configuration. What is
 * isolated and what is not is in docs/sandbox.md.
 */
import { randomBytes } from 'node:crypto';
import {
  binding,
  type Config,
  type Container,
  type ContainerEvent,
  type ContainerStats,
  type EventOptions,
  type EventStream,
  type ExecutionOptions,
  LinuxFactory,
  Process,
  type ProcessOptions,
} from '../index.ts';
import { sandboxConfig } from './config.ts';
import { sandboxRoot } from './directories.ts';
import { SandboxFiles } from './files.ts';
import { resolveOptions, type SandboxOptions } from './options.ts';
import { asText, checkRun, follow, processOptions, type RunOptions, type SandboxResult } from './run.ts';
import { oomKills, type ResourceUsage, usageOf, usageSince } from './usage.ts';

export { sandboxRoot } from './directories.ts';
export type { SandboxFiles } from './files.ts';
export type { SandboxMount, SandboxOptions } from './options.ts';
export type { OnOutput } from './output.ts';
export type { RunOptions, SandboxResult } from './run.ts';
export { defaultSeccomp } from './seccomp.ts';
export type { ResourceUsage } from './usage.ts';

const factories = new Map<string, LinuxFactory>();
function factoryOf(root: string): LinuxFactory {
  const known = factories.get(root);
  if (known !== undefined) return known;
  const factory = new LinuxFactory({ root });
  factories.set(root, factory);
  // What dies with its owner is removed from the moment on that it is whole; of an owner that was killed in the middle of a
  // start the next one takes back what there is. What cannot be removed now is no error of this sandbox.
  setImmediate(() => void factory.reconcile().catch(() => undefined));
  return factory;
}

/** @internal A container for these options, without a process, and its configuration. Also for `nrunc sandbox`. */
export async function newContainer(
  options: SandboxOptions,
): Promise<{ readonly container: Container; readonly config: Config }> {
  // Where there are no containers that is the first thing to be said.
  binding();
  const config = await sandboxConfig(resolveOptions(options));
  const id = `sandbox-${randomBytes(8).toString('hex')}`;
  const factory = factoryOf(options.root ?? sandboxRoot());
  const container = await factory.create(id, config, { lifetime: options.lifetime ?? 'owner' });
  return { container, config };
}

/**
 * Runs one program in a sandbox of its own and resolves when it has ended and everything is removed.
 *
 * It is process 1 of the sandbox: signals that it sends to itself without a handler are dropped by the kernel
 * (pid_namespaces(7)); programs in a `Sandbox` are not.
 * @throws {LibcontainerError} ERR_ARGUMENT, ERR_EXEC_NOT_FOUND and the other reasons why a start fails; never because of
 *   how the program ends
 * @example
 * const { stdout } = await sandbox(['python3', '-c', code], { timeoutMs: 2000, memoryBytes: 128 << 20, pids: 32 });
 */
export async function sandbox(
  argv: readonly string[],
  options: SandboxOptions & RunOptions & { readonly encoding: 'buffer' },
): Promise<SandboxResult<Buffer>>;
export async function sandbox(
  argv: readonly string[],
  options?: SandboxOptions & RunOptions,
): Promise<SandboxResult>;
export async function sandbox(
  argv: readonly string[],
  options: SandboxOptions & RunOptions & { readonly encoding?: 'buffer' } = {},
): Promise<SandboxResult<Buffer> | SandboxResult> {
  checkRun(argv, options);
  options.signal?.throwIfAborted();
  const { container, config } = await newContainer(options);
  // Of the sandbox; those of the run are the same here.
  const { env: _, cwd: _2, ...run } = options;
  try {
    const process = new Process(processOptions(argv, baseOf(config), run));
    await container.run(process, signalOf(options));
    const { cgroup_paths: paths } = await container.state();
    const result = await follow(
      {
        process,
        kill: () => killProcess(process),
        facts: async () => ({ oomKilled: oomKills(paths) > 0, usage: usageOf(paths) }),
      },
      run,
    );
    return options.encoding === 'buffer' ? result : asText(result);
  } finally {
    await container.destroy({ force: true });
  }
}

const baseOf = ({ process }: Config): { readonly env: readonly string[]; readonly cwd: string } => ({
  env: process?.env ?? [],
  cwd: process?.cwd ?? '/',
});

const signalOf = ({ signal }: RunOptions): ExecutionOptions => (signal === undefined ? {} : { signal });

function killProcess(process: Process): void {
  try {
    process.signal('SIGKILL');
  } catch {
    // It has ended: that is what was wanted.
  }
}

/** A sandbox that lives on, for more than one program. Made by `Sandbox.create()`. */
export class Sandbox implements AsyncDisposable {
  readonly #container: Container;
  readonly #config: Config;
  readonly #paths: { readonly [controller: string]: string };
  /** Files inside. */
  readonly files: SandboxFiles;

  private constructor(
    container: Container,
    config: Config,
    paths: { readonly [controller: string]: string },
  ) {
    this.#container = container;
    this.#config = config;
    this.#paths = paths;
    this.files = new SandboxFiles((argv, options) => this.#run(argv, options));
  }

  /**
   * @throws {LibcontainerError} as `sandbox()`
   * @example
   * await using box = await Sandbox.create({ memoryBytes: 512 << 20 });
   * await box.files.write('/tmp/a.py', source);
   * const { exitCode, stderr } = await box.run(['python3', '/tmp/a.py']);
   */
  static async create(options: SandboxOptions & { readonly signal?: AbortSignal } = {}): Promise<Sandbox> {
    options.signal?.throwIfAborted();
    const { container, config } = await newContainer(options);
    try {
      // Nobody runs yet; process 1 is ours, and reaps.
      const idle: ProcessOptions = { ...config.process, args: [], program: 'none' };
      await container.run(new Process(idle), signalOf(options));
      const { cgroup_paths: paths } = await container.state();
      return new Sandbox(container, config, paths);
    } catch (error) {
      await container.destroy({ force: true }).catch(() => undefined);
      throw error;
    }
  }

  get id(): string {
    return this.#container.id;
  }
  /** For everything that a container can do beyond this: pause, limits, events … */
  get container(): Container {
    return this.#container;
  }

  /** Runs a program to its end. @throws as `sandbox()` */
  async run(
    argv: readonly string[],
    options: RunOptions & { readonly encoding: 'buffer' },
  ): Promise<SandboxResult<Buffer>>;
  async run(argv: readonly string[], options?: RunOptions): Promise<SandboxResult>;
  async run(
    argv: readonly string[],
    options: RunOptions & { readonly encoding?: 'buffer' } = {},
  ): Promise<SandboxResult<Buffer> | SandboxResult> {
    const result = await this.#run(argv, options);
    return options.encoding === 'buffer' ? result : asText(result);
  }

  async #run(argv: readonly string[], options: RunOptions): Promise<SandboxResult<Buffer>> {
    checkRun(argv, options);
    const before = { usage: usageOf(this.#paths), kills: oomKills(this.#paths) };
    const process = new Process(processOptions(argv, baseOf(this.#config), options));
    await this.#container.run(process, signalOf(options));
    return follow(
      {
        process,
        kill: () => killProcess(process),
        facts: async () => ({
          oomKilled: oomKills(this.#paths) > before.kills,
          usage: usageSince(before.usage, usageOf(this.#paths)),
        }),
      },
      options,
    );
  }

  /**
   * Starts a program and leaves it running: its streams, its terminal, its end are on the Process.
   * @param options As of a Process; environment and working directory are the sandbox's unless given.
   * @throws as `sandbox()`
   */
  async exec(
    argv: readonly string[],
    options: Omit<ProcessOptions, 'args' | 'program'> & ExecutionOptions = {},
  ): Promise<Process> {
    const { signal, ...own } = options;
    const process = new Process({ ...baseOf(this.#config), ...own, args: argv });
    await this.#container.run(process, signal === undefined ? {} : { signal });
    return process;
  }

  /** Counters of its cgroups; with `intervalMs` again and again. */
  stats(): Promise<ContainerStats>;
  stats(options: {
    readonly intervalMs: number;
    readonly signal?: AbortSignal;
  }): AsyncIterable<ContainerStats>;
  stats(options?: {
    readonly intervalMs: number;
    readonly signal?: AbortSignal;
  }): Promise<ContainerStats> | AsyncIterable<ContainerStats> {
    return options === undefined ? this.#container.stats() : this.#container.stats(options);
  }

  /** Processor time and memory of all that ran in it; undefined without cgroups. */
  usage(): ResourceUsage | undefined {
    return usageOf(this.#paths);
  }

  /** Out-of-memory, limits that were hit, its end. */
  events(options: EventOptions = {}): EventStream<ContainerEvent> {
    return this.#container.events(options);
  }

  /** Kills everything in it and removes it. Once more does no harm. */
  async destroy(): Promise<void> {
    await this.#container.destroy({ force: true });
    await this.#container[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
