/**
 * What the methods of one Container object share: its record, its cgroups, the process it started itself, the lock.
 * Status is always read from the system, never remembered: other processes work on the same container.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EventEmitter } from 'eventemitter3';
import type { CgroupManager } from './cgroups/manager.ts';
import type { Config } from './config/config.ts';
import type { ContainerEvents } from './container.ts';
import { kernelExit } from './container-exit.ts';
import { executesProgram, needsRecovery, recover } from './container-recover.ts';
import type { Keeper } from './criu/cgroup-options.ts';
import { ContainerError } from './errors.ts';
import { assertAllowed, type Operation, type Status } from './lifecycle.ts';
import type { Binding, KernelExit } from './native/binding.ts';
import type { Logger } from './observe.ts';
import type { ContainerInit } from './parent/container-init.ts';
import type { Lifetime } from './parent/init-process.ts';
import type { NotifyForwarder } from './parent/notify-socket.ts';
import type { SeccompHandlerOptions } from './parent/syscall-listener.ts';
import { fifoPath, isSameRecord, lockPath, readRecord, type StateRecord } from './state.ts';

/** The factory's part. */
export interface Root {
  readonly path: string;
  readonly binding: Binding;
  readonly lockTimeoutMs: number;
  /** The directory of resctrl, when the caller names one. */
  readonly resctrl: string | undefined;
  readonly logger: Logger | undefined;
  /** Makes the root and checks who may write to it. @throws {LibcontainerError} ERR_STATE_ROOT */
  readonly prepare: () => void;
  /** Gives the ID back, that `create()` reserved. */
  readonly release: (handle: Handle) => void;
}

/** What is used of eventemitter3: named here, so that our declarations need no other package's. */
interface Emitter {
  on<E extends keyof ContainerEvents>(event: E, listener: ContainerEvents[E]): unknown;
  emit<E extends keyof ContainerEvents>(event: E, ...values: Parameters<ContainerEvents[E]>): boolean;
  listenerCount(event: keyof ContainerEvents): number;
  removeAllListeners(): unknown;
}

export interface LiveState {
  readonly status: Status;
  readonly pid: number;
  readonly startTime: bigint;
}

const none: LiveState = { status: 'stopped', pid: 0, startTime: 0n };
const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

export class Handle {
  // Its types cannot follow one key through a generic method.
  readonly emitter: Emitter = new EventEmitter() as unknown as Emitter;
  readonly root: Root;
  readonly id: string;
  readonly directory: string;
  readonly manager: CgroupManager;
  readonly notifySocket: string | undefined;
  readonly seccompHandler: SeccompHandlerOptions | undefined;
  /** Of a container that this object starts. */
  readonly lifetime: Lifetime;
  config: Config;
  /** What is on disk; undefined before the first start. */
  record: StateRecord | undefined;
  /** The container's init, when this object started or restored it. */
  init: ContainerInit | undefined;
  /** While its NOTIFY_SOCKET is forwarded. */
  notify: NotifyForwarder | undefined;
  destroyed = false;
  /** A start by this object is under way. */
  starting = false;
  /** Work on an exit event that must be done before the cgroups go. */
  reporting: Promise<void> | undefined;
  /** What the kernel told of the end of an init that another process started. */
  kernelExit: Promise<KernelExit | undefined> | undefined;
  /** Closed with the object. */
  readonly closers = new Set<() => void>();
  #watching = false;

  constructor(
    root: Root,
    id: string,
    directory: string,
    config: Config,
    manager: CgroupManager,
    options: {
      readonly record?: StateRecord | undefined;
      readonly notifySocket?: string | undefined;
      readonly seccompHandler?: SeccompHandlerOptions | undefined;
      readonly lifetime?: Lifetime | undefined;
    },
  ) {
    this.root = root;
    this.id = id;
    this.directory = directory;
    this.config = config;
    this.manager = manager;
    this.record = options.record;
    this.notifySocket = options.notifySocket;
    this.seccompHandler = options.seccompHandler;
    this.lifetime = options.lifetime ?? 'container';
  }

  get binding(): Binding {
    return this.root.binding;
  }

  /** Every process of the container is in a pid namespace that dies with its init. */
  get hasPrivatePids(): boolean {
    return this.config.namespaces.some(({ type, path }) => type === 'pid' && path === undefined);
  }

  /** runc's order (container_linux.go currentStatus): frozen, then gone, then not yet released. */
  async live(): Promise<LiveState> {
    const process = this.#process();
    if (process === undefined) return this.starting ? { ...none, status: 'creating' } : none;
    const { pid, startTime } = process;
    if (pid === 0) return { ...none, status: process.creating ? 'creating' : 'stopped' };
    // Our own child, reaped, and with it its pid namespace: no file can say anything else.
    if (this.init?.exitStatus !== undefined && this.hasPrivatePids) return none;
    const frozen = (await this.manager.freezerState()) === 'frozen';
    if (frozen) return { status: 'paused', pid, startTime };
    const ended =
      this.init === undefined
        ? this.binding.startTime(pid) !== startTime
        : this.init.exitStatus !== undefined || this.binding.startTime(pid) !== startTime;
    if (ended) return none;
    const created = existsSync(fifoPath(this.directory)) && !executesProgram(pid);
    return { status: created ? 'created' : 'running', pid, startTime };
  }

  #process(): { readonly pid: number; readonly startTime: bigint; readonly creating: boolean } | undefined {
    if (this.destroyed) return undefined;
    const { init } = this;
    if (init !== undefined) return { pid: init.pid, startTime: init.startTime, creating: false };
    if (this.record === undefined) return undefined;
    // While a start by another process is under way, the record changes.
    if (this.record.init_process_pid === 0) this.#reread();
    const { init_process_pid: pid, init_process_start: start, creator } = this.record;
    const creating = pid === 0 && this.binding.startTime(creator.pid) === BigInt(creator.start);
    return { pid, startTime: BigInt(start), creating };
  }

  #reread(): void {
    try {
      const record = readRecord(this.id, this.directory);
      if (record.nonce === this.record?.nonce) this.record = record;
    } catch (error) {
      // Destroyed meanwhile: what this object knows is all there is.
      if (codeOf(error) !== 'ERR_CONTAINER_NOT_EXIST') throw error;
    }
  }

  /** @throws {ContainerError} when lifecycle.ts forbids the operation in the present status */
  async require(operation: Operation): Promise<LiveState> {
    const live = await this.live();
    assertAllowed(operation, this.id, live.status);
    return live;
  }

  /**
   * Runs `work` while no other process and no other call works on this container. The record is read again under the
   * lock: the container may have been destroyed, and its ID given to another one, since this object was made.
   * @throws {ContainerError} ERR_CONTAINER_BUSY, ERR_CONTAINER_NOT_EXIST
   */
  async locked<T>(
    work: () => Promise<T>,
    signal?: AbortSignal,
    timeoutMs = this.root.lockTimeoutMs,
  ): Promise<T> {
    signal?.throwIfAborted();
    const fd = await this.#lock(timeoutMs);
    try {
      signal?.throwIfAborted();
      this.#verify();
      if (needsRecovery(this)) await recover(this);
      return await work();
    } finally {
      this.binding.close(fd);
    }
  }

  /** Under the lock: the record is still that of this container. Whoever else may have changed it, it is read again. */
  #verify(): void {
    const { record } = this;
    if (record === undefined || this.init === undefined) {
      const found = readRecord(this.id, this.directory);
      if (record !== undefined && found.nonce !== record.nonce)
        throw new ContainerError('ERR_CONTAINER_NOT_EXIST', this.id);
      this.record = found;
      this.config = found.config;
    } else if (!isSameRecord(this.id, record.nonce, this.directory))
      throw new ContainerError('ERR_CONTAINER_NOT_EXIST', this.id);
  }

  async #lock(timeoutMs: number): Promise<number> {
    try {
      return await this.binding.lock(lockPath(this.directory), timeoutMs);
    } catch (cause) {
      const code = codeOf(cause);
      if (code === 'ENOENT' || code === 'ENOTDIR')
        throw new ContainerError('ERR_CONTAINER_NOT_EXIST', this.id, { cause });
      if (code === 'EAGAIN') throw new ContainerError('ERR_CONTAINER_BUSY', this.id, { cause });
      throw cause;
    }
  }

  /** This process, named by pid and start time. */
  get self(): { readonly pid: number; readonly start: number } {
    return creator(this.binding);
  }

  /** A record for a start that is about to begin. */
  newRecord(): Omit<StateRecord, 'init_process_pid' | 'init_process_start'> {
    const by = this.self;
    count += 1;
    return {
      id: this.id,
      created: new Date().toISOString(),
      rootless: process.geteuid?.() !== 0,
      cgroup_paths: this.manager.paths,
      ...this.manager.resctrl?.record(),
      config: this.config,
      version: 1,
      // Of all processes ever on this boot one has this pid and start time; Workers share it, hence the clock.
      nonce: `${by.pid}.${by.start}.${process.hrtime.bigint()}.${count}`,
      owner: process.geteuid?.() ?? 0,
      creator: by,
      ...(this.lifetime === 'owner' ? { lifetime: 'owner' } : {}),
    };
  }

  /** For a container that another process started: the end of its init as an event, while somebody listens. */
  watchStop(): void {
    if (this.init !== undefined || this.record === undefined || this.#watching || this.destroyed) return;
    const { init_process_pid: pid, init_process_start: start } = this.record;
    if (pid === 0) return;
    const pidfd = this.binding.pidfdOpen(pid, BigInt(start));
    if (pidfd < 0) return;
    this.#watching = true;
    const watch = this.binding.pidfdWatch(pidfd, () => {
      this.closers.delete(stop);
      watch.close();
      this.kernelExit = kernelExit(this.binding, pidfd);
      this.emitter.emit('stopped');
    });
    const stop = (): void => {
      this.closers.delete(stop);
      watch.close();
      this.binding.close(pidfd);
    };
    this.closers.add(stop);
  }

  /** Gives back what the object holds; not the container. */
  close(): void {
    for (const close of [...this.closers]) close();
    this.emitter.removeAllListeners();
    if (this.record === undefined && !this.starting) this.root.release(this);
  }

  /** A pidfd of the container's init (the caller's); -1 when it is gone. */
  pidfd({ pid, startTime }: LiveState): number {
    return this.init === undefined ? this.binding.pidfdOpen(pid, startTime) : this.init.pidfd();
  }

  /** Resolves when the process behind the pidfd has ended. Takes the pidfd over. */
  async gone(pidfd: number): Promise<void> {
    if (pidfd < 0) return;
    try {
      await new Promise<void>(resolve => {
        const watch = this.binding.pidfdWatch(pidfd, () => {
          watch.close();
          resolve();
        });
      });
    } finally {
      this.binding.close(pidfd);
    }
  }
}

let count = 0;
let self: { readonly pid: number; readonly start: number } | undefined;
function creator(binding: Binding): { readonly pid: number; readonly start: number } {
  self ??= { pid: process.pid, start: Number(binding.startTime(process.pid) ?? 0n) };
  return self;
}

/** Who puts back what CRIU changes on the host (criu/cgroup-options.ts); no container can have this name. */
export const cgroupKeeper = ({ path, binding }: Root): Keeper => ({
  file: join(path, '@cgroup2.json'),
  self: creator(binding),
  lives: ({ pid, start }) => binding.startTime(pid) === BigInt(start),
});
