/** Container: one method per operation of libcontainer. The work is in container-*.ts and parent/. */
import type { Config, IntelRdt, Resources } from './config/config.ts';
import { checkpointContainer } from './container-checkpoint.ts';
import { destroyContainer } from './container-destroy.ts';
import {
  cgroupEventNames,
  containerEvents,
  type EventOptions,
  followListeners,
  oomEvents,
  pressureEvents,
} from './container-events.ts';
import {
  isFirst,
  notified,
  prepareFirst,
  prepareFurther,
  release,
  removeAfterFailedRun,
  startFirst,
  startFurther,
} from './container-exec.ts';
import { type ContainerExit, waitForExit } from './container-exit.ts';
import type { Handle } from './container-handle.ts';
import {
  containerPids,
  pauseContainer,
  resumeContainer,
  setResources,
  signalContainer,
} from './container-live.ts';
import { planOf } from './container-plan.ts';
import { type ContainerStats, containerStats, statsEvery } from './container-stats.ts';
import type { CheckpointOptions, CheckpointResult } from './criu/options.ts';
import { ContainerError } from './errors.ts';
import type {
  CgroupEvent,
  ContainerEvent,
  OomEvent,
  PressureEvent,
  PressureLevel,
  PressureTrigger,
} from './events/event.ts';
import type { EventStream } from './events/stream.ts';
import type { Status } from './lifecycle.ts';
import { type OperationName, observed } from './observe.ts';
import type { SyscallErrorEvent } from './parent/syscall-listener.ts';
import type { StartPlan } from './plan/steps.ts';
import type { ExitStatus, Process } from './process.ts';
import type { SignalName } from './signals.ts';
import { namespacePaths, type OciState, ociState, type State } from './state.ts';

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
  /** A handler of a system call (`CreateOptions.seccompHandler`) threw, was late or gave no answer. */
  syscallError: (event: SyscallErrorEvent) => void;
  /** A process was killed for lack of memory (v1: is about to be). The cgroups are watched while one of these has a listener. */
  oom: (event: OomEvent) => void;
  memory: (event: Extract<CgroupEvent, { type: 'memory' }>) => void;
  /** Of the triggers of the streams that this object has open. */
  pressure: (event: PressureEvent) => void;
  pidsMax: (event: Extract<CgroupEvent, { type: 'pidsMax' }>) => void;
  frozen: () => void;
  thawed: () => void;
  empty: () => void;
}

export interface ExecutionOptions {
  /** Abort rejects with `signal.reason`; what was made is taken back first. */
  readonly signal?: AbortSignal;
}

export interface SetOptions {
  /** The device rules stay as they are. Default false. */
  readonly skipDevices?: boolean;
  /** Replaces linux.intelRdt (not its closID) of a container that has one. Default: it stays as it is. */
  readonly intelRdt?: IntelRdt;
}

export interface DestroyOptions extends ExecutionOptions {
  /** Kill a container that runs, is paused or half-made; one that does not exist any more is no error. Default false. */
  readonly force?: boolean;
}

/** What a process that was prepared without its program executes. */
export interface Command {
  readonly args: readonly string[];
  /** `NAME=value`. Default: that of the configuration. */
  readonly env?: readonly string[];
}

/** A process that is ready in the container and waits for `release()` to execute its program. */
export interface PreparedProcess extends AsyncDisposable {
  readonly process: Process;
  readonly pid: number;
  /**
   * Lets it execute its program; resolves when it does.
   * @param command Of a first process with program `late`, and only there.
   * @throws as `start()`, and ERR_ARGUMENT
   */
  release(command?: Command): Promise<void>;
  /** Kills it instead; resolves when it is gone. */
  cancel(): Promise<void>;
}

/** Made by `LinuxFactory.create()` and `load()`. */
export class Container {
  readonly #handle: Handle;

  /** @internal */
  constructor(handle: Handle) {
    this.#handle = handle;
  }

  get id(): string {
    return this.#handle.id;
  }
  /** What it was made with, with the resources of the last `set()`. */
  get config(): Config {
    return this.#handle.config;
  }
  /** Directory of state.json and exec.fifo; it exists from the first start on. */
  get directory(): string {
    return this.#handle.directory;
  }

  /** The status now: `creating`, `created`, `running`, `paused` or `stopped` (also before the first start). */
  async status(): Promise<Status> {
    return (await this.#handle.live()).status;
  }

  /**
   * runc's state record.
   * @throws {ContainerError} `ERR_CONTAINER_NOT_EXIST` before the first start
   */
  async state(): Promise<State> {
    const { pid } = await this.#handle.live();
    const { record } = this.#handle;
    if (record === undefined) throw new ContainerError('ERR_CONTAINER_NOT_EXIST', this.id);
    return { ...record, config: this.config, namespace_paths: namespacePaths(pid) };
  }

  /** The state of the runtime-spec; pid 0 when stopped. */
  async ociState(): Promise<OciState> {
    const { status, pid } = await this.#handle.live();
    return ociState(this.#handle, status, pid);
  }

  /** Process ids (of this process's pid namespace) of everything in the container's cgroups; [] when stopped. */
  async processes(): Promise<number[]> {
    return containerPids(this.#handle);
  }

  /**
   * What a start would do, without doing it.
   * @param process Default: the configuration's own.
   * @param options `wait`: as create and start do it; default false, as `run()`.
   */
  async plan(process?: Process, options: { readonly wait?: boolean } = {}): Promise<StartPlan> {
    return planOf(this.#handle, process, options.wait ?? false);
  }

  /**
   * libcontainer's Start. A container without a process gets its init, which waits (status `created`) until `exec()`; in
   * a created or running one the process is executed beside the others (`nrunc exec`).
   *
   * A failed start leaves nothing behind: the container can be started again.
   * @param options `signal` aborts: everything is taken back, then it rejects with `signal.reason`.
   * @throws {InitError} with the step, system call and errno that failed; `ERR_EXEC_*`, `ERR_CWD`, `ERR_OOM_KILLED` …
   * @throws {ContainerError} `ERR_CONTAINER_PAUSED`, `ERR_CONTAINER_NOT_RUNNING`, `ERR_CONTAINER_EXISTS`
   * @throws {HookError} {CgroupError}
   */
  async start(process: Process, options: ExecutionOptions = {}): Promise<void> {
    await this.#observed('start', async () => {
      if (isFirst(this.#handle)) await startFirst(this.#handle, process, true, options);
      else await startFurther(this.#handle, process, false, options);
    });
  }

  /**
   * Starts and executes in one: resolves when the program runs. The quick way, since init does not wait in between.
   * @throws as `start()`
   */
  async run(process: Process, options: ExecutionOptions = {}): Promise<void> {
    await this.#observed('run', async () => {
      if (!isFirst(this.#handle)) {
        await startFurther(this.#handle, process, false, options);
        return;
      }
      try {
        await startFirst(this.#handle, process, false, options);
      } catch (error) {
        // Only a poststart hook fails when init runs already.
        if (this.#handle.init !== undefined) await removeAfterFailedRun(this.#handle, error);
        throw error;
      }
    });
  }

  /**
   * Releases the init of a created container, made by this process or another one (`nrunc start`).
   * @throws {ContainerError} `ERR_CONTAINER_STARTED`, `ERR_CONTAINER_STOPPED`, `ERR_CONTAINER_BUSY`
   * @throws {HookError} a startContainer or poststart hook failed: the container was stopped
   */
  async exec(options: ExecutionOptions = {}): Promise<void> {
    await this.#observed('exec', () => release(this.#handle, options));
  }

  /**
   * Resolves when the program has said READY=1 on its NOTIFY_SOCKET and the host's socket has been told, or when the
   * container has stopped. At once without `notifySocket`.
   */
  async ready(): Promise<void> {
    await notified(this.#handle);
  }

  /**
   * Resolves when the container's first process has ended, with how it ended; at once when it has. Whoever started it, and
   * when: the exit status outlives the daemon that did (docs/adr/0003).
   * @param options `signal` stops waiting: it rejects with `signal.reason`.
   * @throws {ContainerError} `ERR_CONTAINER_NOT_EXIST` before the first start
   */
  async wait(options: ExecutionOptions = {}): Promise<ContainerExit> {
    return waitForExit(this.#handle, options.signal);
  }

  /**
   * First half of a two-phase exec into a running container: attach to its streams, then `release()`. In a container
   * without a process: of its first one, which must have `program: 'late'`; everything but its program is then done.
   * @throws as `start()`
   */
  async prepare(process: Process, options: ExecutionOptions = {}): Promise<PreparedProcess> {
    return this.#observed('prepare', () =>
      isFirst(this.#handle)
        ? prepareFirst(this.#handle, process, options)
        : prepareFurther(this.#handle, process, options),
    );
  }

  /**
   * Sends a signal to init through its pidfd. KILL reaches every process when they do not share init's pid namespace,
   * and a frozen container too.
   * @param options `all`: to every process in the container's cgroups; a stopped container is no error then.
   * @throws {ContainerError} `ERR_CONTAINER_NOT_RUNNING`
   */
  async signal(
    signal: SignalName | number | string,
    options: { readonly all?: boolean } = {},
  ): Promise<void> {
    await this.#observed('signal', () => signalContainer(this.#handle, signal, options));
  }

  /** Freezes all processes. @throws {ContainerError} `ERR_CONTAINER_NOT_RUNNING`, `ERR_CONTAINER_PAUSED` */
  async pause(options: ExecutionOptions = {}): Promise<void> {
    await this.#observed('pause', () => pauseContainer(this.#handle, options));
  }
  /** @throws {ContainerError} `ERR_CONTAINER_NOT_PAUSED` */
  async resume(options: ExecutionOptions = {}): Promise<void> {
    await this.#observed('resume', () => resumeContainer(this.#handle, options));
  }

  /**
   * Replaces the limits (spread `config.resources` to keep the rest) and records them. If the kernel refuses one, the
   * former limits are written back before the promise rejects.
   * @param resources `memory.limit` in bytes; `cpu.quota`, `cpu.period` in microseconds; -1: no limit.
   * @throws {ContainerError} `ERR_CONTAINER_NOT_RUNNING`
   * @throws {CgroupError} `file` and `value` tell what was refused
   */
  async set(resources: Resources, options: ExecutionOptions & SetOptions = {}): Promise<void> {
    await this.#observed('set', () => setResources(this.#handle, resources, options));
  }

  /** Counters of the container's cgroups and network interfaces; with `intervalMs` again and again, until the container stops. */
  stats(): Promise<ContainerStats>;
  stats(options: {
    readonly intervalMs: number;
    readonly signal?: AbortSignal;
  }): AsyncIterable<ContainerStats>;
  stats(options?: {
    readonly intervalMs: number;
    readonly signal?: AbortSignal;
  }): Promise<ContainerStats> | AsyncIterable<ContainerStats> {
    return options === undefined ? containerStats(this.#handle) : statsEvery(this.#handle, options);
  }

  /**
   * What happens to the container from now on: exit, oom, memory and pids limits that were hit, pressure, frozen, thawed,
   * empty. Called before the start, it misses nothing. It ends when the container has stopped and no process is left.
   * @param options `pressure`: PSI triggers (cgroup v2); `pressureLevel` (cgroup v1). `signal` stops it.
   * @throws {LibcontainerError} `ERR_UNSUPPORTED`: pressure in the form of the other layout, or a kernel without it
   *   The iterator rejects with a CgroupError when the kernel refuses the thresholds.
   * @example for await (const event of container.events({ signal })) if (event.type === 'oom') …
   */
  events(options: EventOptions = {}): EventStream<ContainerEvent> {
    return containerEvents(this.#handle, options);
  }

  /** One event for each OOM in the container. On v2 after the kill, on v1 when it is about to happen. */
  notifyOOM(options: { readonly signal?: AbortSignal } = {}): EventStream<OomEvent> {
    return oomEvents(this.#handle, options);
  }

  /**
   * @param trigger v1: a level; v2: `{ kind, stallUs, windowUs }`, a PSI trigger on memory.
   * @throws as `events()`
   */
  notifyMemoryPressure(
    trigger: PressureLevel | Omit<PressureTrigger, 'resource'>,
    options: { readonly signal?: AbortSignal } = {},
  ): EventStream<PressureEvent> {
    return pressureEvents(this.#handle, trigger, options);
  }

  /**
   * Writes the processes of a running or paused container into an image directory, by CRIU, from which
   * `LinuxFactory.restore()` makes them anew, here or on another machine. The container is stopped by that (destroy it
   * then), unless `leaveRunning` or `preDump` is given. After a failure it goes on, or it is stopped; it is never left frozen.
   * @example
   * await container.checkpoint({ imagePath: '/images/1', preDump: true });
   * await container.checkpoint({ imagePath: '/images/2', parentPath: '../1' });
   * await container.destroy();
   * @throws {CriuError} `ERR_CRIU` with the first errors of CRIU's log and its path; `ERR_CRIU_MISSING`,
   *   `ERR_CRIU_VERSION`, `ERR_CRIU_UNABLE`; `ERR_CRIU_MOUNT`: a mount whose name CRIU cannot keep
   * @throws {ContainerError} `ERR_CONTAINER_NOT_RUNNING`, `ERR_UNSUPPORTED` (Landlock, seccomp notify, idmapped mounts)
   */
  async checkpoint(options: CheckpointOptions): Promise<CheckpointResult> {
    return this.#observed('checkpoint', () => checkpointContainer(this.#handle, options));
  }

  /**
   * Removes all traces of the container (processes, cgroups, state), then runs the poststop hooks. A created container is
   * killed first. The ID is free afterwards.
   * @throws {ContainerError} `ERR_CONTAINER_RUNNING`, `ERR_CONTAINER_PAUSED`, `ERR_CONTAINER_BUSY` (not with `force`),
   *   `ERR_CONTAINER_NOT_EXIST`
   * @throws {CgroupError} `ERR_CGROUP_BUSY`: processes that cannot be killed; the record stays, try again
   * @throws {HookError} of a poststop hook, when all else is done
   */
  async destroy(options: DestroyOptions = {}): Promise<void> {
    await this.#observed('destroy', () => destroyContainer(this.#handle, options));
  }

  on<E extends keyof ContainerEvents>(event: E, listener: ContainerEvents[E]): this {
    this.#emitter().on(event, listener as Listener);
    if (cgroupEventNames.has(event)) followListeners(this.#handle);
    return this;
  }
  once<E extends keyof ContainerEvents>(event: E, listener: ContainerEvents[E]): this {
    this.#emitter().once(event, listener as Listener);
    if (cgroupEventNames.has(event)) followListeners(this.#handle);
    return this;
  }
  off<E extends keyof ContainerEvents>(event: E, listener: ContainerEvents[E]): this {
    this.#emitter().off(event, listener as Listener);
    if (cgroupEventNames.has(event)) followListeners(this.#handle);
    return this;
  }
  #observed<T>(operation: OperationName, work: () => Promise<T>): Promise<T> {
    return observed(operation, this.id, this.#handle.root.logger, work);
  }
  /** eventemitter3's types cannot follow one key through a generic method. */
  #emitter(): AnyEmitter {
    this.#handle.watchStop();
    return this.#handle.emitter as unknown as AnyEmitter;
  }

  /** Closes what this object holds (descriptors, watches). The container lives on: removing it is `destroy()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#handle.close();
  }
}

type Listener = (...args: unknown[]) => void;
interface AnyEmitter {
  on(event: string, listener: Listener): void;
  once(event: string, listener: Listener): void;
  off(event: string, listener: Listener): void;
}
