/** Container: one method per operation of libcontainer. The work is in container-*.ts and parent/. */
import type { Stats } from './cgroups/stats.ts';
import type { Config, Resources } from './config/config.ts';
import type { Status } from './lifecycle.ts';
import type { StartPlan } from './plan/steps.ts';
import type { ExitStatus, Process } from './process.ts';
import type { SignalName } from './signals.ts';
import type { OciState, State } from './state.ts';

export interface ContainerEvents {
  /** A process that this object started has ended; `init` is true for the container's own. */
  exit: (event: {
    readonly process: Process;
    readonly status: ExitStatus;
    readonly init: boolean;
    /** The container's cgroup counted an OOM kill since the start of this process. Only known for init. */
    readonly oomKilled: boolean;
  }) => void;
  /** init waits on exec.fifo. */
  created: (event: { readonly pid: number }) => void;
  /** The container's own program runs. */
  started: (event: { readonly pid: number }) => void;
  /** init is gone. */
  stopped: () => void;
  destroyed: () => void;
}

export interface ExecutionOptions {
  /** Abort rejects with `signal.reason`; what was made is taken back first. */
  readonly signal?: AbortSignal;
}

export interface DestroyOptions extends ExecutionOptions {
  /** Kill a container that runs, is paused or half-made; one that does not exist any more is no error. Default false. */
  readonly force?: boolean;
}

/** A process that is ready in the container and waits for `release()` to execute its program. */
export interface PreparedProcess extends AsyncDisposable {
  readonly process: Process;
  readonly pid: number;
  /** Lets it execute its program; resolves when it does. */
  release(): Promise<void>;
  /** Kills it instead; resolves when it is gone. */
  cancel(): Promise<void>;
}

const soon = (): never => {
  throw new Error('not built yet');
};

export class Container {
  get id(): string {
    return soon();
  }
  /** What it was made with, with the resources of the last `set()`. */
  get config(): Config {
    return soon();
  }
  /** Directory of state.json and exec.fifo. */
  get directory(): string {
    return soon();
  }
  /** The live status. */
  async status(): Promise<Status> {
    return soon();
  }
  /** runc's state record. */
  async state(): Promise<State> {
    return soon();
  }
  /** The state of the runtime-spec. */
  async ociState(): Promise<OciState> {
    return soon();
  }
  /** Process ids (of this pid namespace) of everything in the container's cgroups; [] when stopped. */
  async processes(): Promise<number[]> {
    return soon();
  }
  /** What a start would do, without doing it. `wait`: as create + start does it (default false: as `run()`). */
  async plan(_process?: Process, _options?: { readonly wait?: boolean }): Promise<StartPlan> {
    return soon();
  }
  /**
   * libcontainer's Start. A container that has no process yet gets its init, which then waits (status `created`) until
   * `exec()`; in a created or running one the process is executed beside the others (`nrunc exec`).
   */
  async start(_process: Process, _options?: ExecutionOptions): Promise<void> {
    return soon();
  }
  /** start and exec in one: resolves when the program executes. The quick way: init does not wait in between. */
  async run(_process: Process, _options?: ExecutionOptions): Promise<void> {
    return soon();
  }
  /** Releases the init of a created container, made by this or another process (`nrunc start`). */
  async exec(_options?: ExecutionOptions): Promise<void> {
    return soon();
  }
  /** First half of a two-phase exec into a running container. */
  async prepare(_process: Process, _options?: ExecutionOptions): Promise<PreparedProcess> {
    return soon();
  }
  async signal(_signal: SignalName | number | string, _options?: { readonly all?: boolean }): Promise<void> {
    return soon();
  }
  async pause(_options?: ExecutionOptions): Promise<void> {
    return soon();
  }
  async resume(_options?: ExecutionOptions): Promise<void> {
    return soon();
  }
  /** Replaces the limits; spread `config.resources` to keep the rest. */
  async set(
    _resources: Resources,
    _options?: ExecutionOptions & { readonly skipDevices?: boolean },
  ): Promise<void> {
    return soon();
  }
  stats(): Promise<Stats>;
  stats(options: { readonly intervalMs: number; readonly signal?: AbortSignal }): AsyncIterable<Stats>;
  stats(_options?: {
    readonly intervalMs: number;
    readonly signal?: AbortSignal;
  }): Promise<Stats> | AsyncIterable<Stats> {
    return soon();
  }
  /** Removes all traces of the container; then the poststop hooks run. */
  async destroy(_options?: DestroyOptions): Promise<void> {
    return soon();
  }
  on<E extends keyof ContainerEvents>(_event: E, _listener: ContainerEvents[E]): this {
    return soon();
  }
  once<E extends keyof ContainerEvents>(_event: E, _listener: ContainerEvents[E]): this {
    return soon();
  }
  off<E extends keyof ContainerEvents>(_event: E, _listener: ContainerEvents[E]): this {
    return soon();
  }
  /** Closes what this object holds (descriptors, watches). The container lives on: removing it is `destroy()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    return soon();
  }
}
