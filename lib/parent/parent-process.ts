/**
 * The parent side of one child: drives a job of the native spawner from its first event to the exit of the process,
 * for a container's init and for processes that are executed in it. It knows frames, streams and the exit status, not
 * containers.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Binding, JobEvent, SpawnHandle, SpawnJob } from '../native/binding.ts';
import type { ExitStatus } from '../process.ts';
import { signalName } from '../signals.ts';
import { handTerminal, openTerminal, type Terminal } from './console.ts';
import type { ContainerInit } from './container-init.ts';
import { handPidfd, type PidfdReceiver } from './pidfd-socket.ts';
import type { PreparedStdio } from './stdio.ts';

const exitStatusOf = (event: Extract<JobEvent, { type: 'exit' }>): ExitStatus => {
  if (event.kind === 'unknown') return { kind: 'unknown' };
  if (event.kind === 'exited') return { kind: 'exited', code: event.status };
  return { kind: 'signaled', signal: signalName(event.status), coreDumped: event.coreDumped };
};

export type FailedEvent = Extract<JobEvent, { type: 'failed' }>;

/** init's answer points, for the hooks that run in this process. */
export interface SyncPoint {
  readonly name: string;
  readonly pid: number;
  /** Clock ticks, as in /proc/PID/stat. */
  readonly startTime: bigint;
}

export interface ParentRequest {
  readonly binding: Binding;
  readonly job: Omit<SpawnJob, 'stdio'>;
  readonly stdio: PreparedStdio;
  /** Path of the socket that gets the ptmx; undefined: it becomes `terminal`. */
  readonly consoleSocket?: string | undefined;
  /** Who gets a pidfd of the process, and what the message says. */
  readonly pidfdSocket?: PidfdReceiver | undefined;
  /** Runs the hooks of this point; resolves to the OCI state that init hands to its own hooks. */
  readonly onSync: (point: SyncPoint) => Promise<string>;
  /** Takes the listener of the filter over; true: init waits for the answer that it has arrived. */
  readonly onListener?: ((fd: number, pid: number) => Promise<boolean>) | undefined;
  /** Asked before the answer to `ready` (`SpawnJob.askReady`). */
  readonly onReady?: ((pid: number) => Promise<string>) | undefined;
  /** The error that the caller is to see. */
  readonly explain: (failure: StartFailure) => Promise<unknown>;
}

/** `failed` reached us, or something on this side of the pipe went wrong. */
export class StartFailure extends Error {
  readonly event: FailedEvent | undefined;
  /** How the child ended, if there was one. */
  exit: ExitStatus | undefined;
  constructor(event: FailedEvent | undefined, cause?: unknown) {
    super('start failed', { cause });
    this.event = event;
  }
}

interface Milestone {
  readonly promise: Promise<void>;
  readonly reach: () => void;
  readonly fail: (error: unknown) => void;
}

function milestone(): Milestone {
  let reach = (): void => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((resolve, reject) => {
    reach = resolve;
    fail = reject;
  });
  // Nobody may be waiting for this one; who is, gets the rejection all the same.
  promise.catch(() => undefined);
  return { promise, reach, fail };
}

export class ParentProcess implements ContainerInit {
  pid = 0;
  startTime = 0n;
  durationsNs: readonly number[] = [];
  exitStatus: ExitStatus | undefined;
  readonly #request: ParentRequest;
  readonly #handle: SpawnHandle;
  readonly #waiting = milestone();
  readonly #running = milestone();
  readonly #exit: Promise<ExitStatus>;
  #resolveExit: (status: ExitStatus) => void = () => undefined;
  #failure: StartFailure | undefined;
  #hadChild = false;
  #executed = false;
  #terminal: Terminal | undefined;
  #answering: Promise<void> = Promise.resolve();
  /** The ptmx is on its way to the console socket: whether it got there decides whether the start succeeded. */
  #handing: Promise<boolean> | undefined;
  #pidfdHanded = false;
  #onExit: ((status: ExitStatus) => void) | undefined;

  constructor(request: ParentRequest) {
    this.#request = request;
    this.#exit = new Promise(resolve => {
      this.#resolveExit = resolve;
    });
    try {
      this.#handle = request.binding.spawn({ ...request.job, stdio: request.stdio.fds }, event =>
        this.#receive(event),
      );
    } catch (error) {
      request.stdio.discard();
      throw error;
    }
    // The child's ends are duplicated by now; ours must not keep a pipe open after the child is gone.
    request.stdio.closeChildEnds();
  }

  get stdin(): Writable | undefined {
    return this.#request.stdio.stdin;
  }
  get stdout(): Readable | undefined {
    return this.#request.stdio.stdout;
  }
  get stderr(): Readable | undefined {
    return this.#request.stdio.stderr;
  }
  get terminal(): Duplex | undefined {
    return this.#terminal?.stream;
  }
  /** What ended the start, if it failed. */
  get failure(): StartFailure | undefined {
    return this.#failure;
  }

  /** Resolves when init stands at waitStart. Rejects with a StartFailure, after the child is reaped. */
  waiting(): Promise<void> {
    return this.#waiting.promise;
  }
  /** Resolves when the program executes. Rejects as `waiting()`. */
  running(): Promise<void> {
    return this.#running.promise;
  }
  /** `running()` for those who wait after the start itself: rejects with the error for the caller. */
  async executed(): Promise<void> {
    try {
      await this.#running.promise;
    } catch (failure) {
      throw failure instanceof StartFailure ? await this.#request.explain(failure) : failure;
    }
  }
  /** Called once, in the turn in which the exit is known. */
  set onExit(listener: (status: ExitStatus) => void) {
    this.#onExit = listener;
    if (this.exitStatus !== undefined) listener(this.exitStatus);
  }
  /** The exit alone; `wait()` also waits for output that is being copied. */
  exited(): Promise<ExitStatus> {
    return this.#exit;
  }
  async wait(): Promise<ExitStatus> {
    const status = await this.#exit;
    await this.#request.stdio.drained();
    return status;
  }
  signal(signal: number): boolean {
    return this.exitStatus === undefined && this.#handle.kill(signal);
  }
  resize(columns: number, rows: number): void {
    this.#terminal?.resize(columns, rows);
  }
  ref(): void {
    if (this.exitStatus === undefined) this.#handle.ref();
  }
  unref(): void {
    if (this.exitStatus === undefined) this.#handle.unref();
  }
  /** A duplicate of the pidfd (the caller's); -1 when it is gone. */
  pidfd(): number {
    return this.exitStatus === undefined ? this.#handle.pidfd() : -1;
  }
  /** Leaves waitStart via the pipe (two-phase exec), or waitCommand. False: the command is too large for a packet. */
  release(command?: Buffer): boolean {
    return this.#handle.release(command);
  }
  /** When nothing is done any more for an init that asked (hooks). */
  answered(): Promise<void> {
    return this.#answering;
  }
  /** SIGKILL, and the start (if it is still under way) rejects with this cause once the child is reaped. */
  abort(cause?: unknown): void {
    this.#failure ??= new StartFailure(undefined, cause);
    this.#handle.abort();
  }

  #receive(event: JobEvent): void {
    switch (event.type) {
      case 'sync':
        this.#born(event);
        this.#answering = this.#answer(this.#request.onSync(event));
        return;
      case 'ready':
        this.#born(event);
        if (this.#request.onReady !== undefined) void this.#answer(this.#request.onReady(event.pid));
        return;
      case 'waiting':
        this.#born(event);
        this.durationsNs = event.durationsNs;
        this.#handPidfd();
        this.#whenHanded(handed => {
          if (handed) this.#waiting.reach();
        });
        return;
      case 'running':
        this.#born(event);
        this.durationsNs = event.durationsNs;
        this.#handPidfd();
        this.#whenHanded(handed => {
          if (!handed) return;
          this.#executed = true;
          this.#waiting.reach();
          this.#running.reach();
        });
        return;
      case 'fd':
        this.#descriptor(event.name, event.fd);
        return;
      case 'failed':
        this.#failed(event);
        return;
      case 'exit':
        this.#ended(event);
    }
  }

  #born(event: { readonly pid: number; readonly startTime: bigint }): void {
    this.#hadChild = true;
    this.pid = event.pid;
    this.startTime = event.startTime;
  }

  async #answer(state: Promise<string>): Promise<void> {
    try {
      const text = await state;
      if (this.exitStatus === undefined) this.#handle.answer(text);
    } catch (error) {
      this.abort(error);
    }
  }

  #descriptor(name: string, fd: number): void {
    const { binding, consoleSocket, onListener } = this.#request;
    if (name === 'seccomp' && onListener !== undefined) {
      // A start that has succeeded has its listener in its place: who closes it then, finds it.
      const handed = this.#handing ?? Promise.resolve(true);
      this.#handing = Promise.all([handed, this.#listen(onListener(fd, this.pid))]).then(all =>
        all.every(done => done),
      );
      return;
    }
    if (name !== 'console') {
      binding.close(fd);
      this.abort(new Error(`init sent a descriptor that nobody asked for: ${name}`));
      return;
    }
    if (consoleSocket === undefined) {
      this.#terminal = openTerminal(binding, fd);
      return;
    }
    this.#handing = handTerminal(binding, consoleSocket, fd).then(
      () => true,
      error => {
        this.abort(error);
        return false;
      },
    );
  }

  /** At the first milestone: who asked for it has it before the start is known to have succeeded. */
  #handPidfd(): void {
    const { binding, pidfdSocket } = this.#request;
    if (pidfdSocket === undefined || this.#pidfdHanded) return;
    this.#pidfdHanded = true;
    const sent = handPidfd(binding, pidfdSocket, this.#handle.pidfd()).then(
      () => true,
      error => {
        this.abort(error);
        return false;
      },
    );
    this.#handing = Promise.all([this.#handing ?? true, sent]).then(all => all.every(done => done));
  }

  async #listen(taken: Promise<boolean>): Promise<boolean> {
    try {
      const waits = await taken;
      if (waits && this.exitStatus === undefined) this.#handle.answer('');
      return true;
    } catch (error) {
      this.abort(error);
      return false;
    }
  }

  /** At once without a console socket; else in the order of the calls when it is known whether the ptmx got there. */
  #whenHanded(then: (handed: boolean) => void): void {
    if (this.#handing === undefined) then(true);
    else void this.#handing.then(then);
  }

  #failed(event: FailedEvent): void {
    this.#failure ??= new StartFailure(event);
    // Without a child no exit follows: this is the end of the job.
    if (!this.#hadChild && (event.stage === 'prepare' || event.stage === 'spawn')) this.#settleFailure();
  }

  #ended(event: Extract<JobEvent, { type: 'exit' }>): void {
    const status = exitStatusOf(event);
    this.exitStatus = status;
    this.#request.stdio.ended();
    this.#whenHanded(() => {
      if (!this.#executed) this.#settleFailure();
      this.#resolveExit(status);
      this.#onExit?.(status);
    });
  }

  /** For a milestone that was reached this changes nothing. */
  #settleFailure(): void {
    const failure = this.#failure ?? new StartFailure(undefined);
    failure.exit = this.exitStatus;
    this.#waiting.fail(failure);
    this.#running.fail(failure);
    if (this.#failure !== undefined) {
      this.#request.stdio.discard();
      this.#terminal?.stream.destroy();
    }
  }
}
