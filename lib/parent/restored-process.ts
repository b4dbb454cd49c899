/**
 * The root task that CRIU has restored: a child of this process that no job has made (CLONE_PARENT). It is known by its
 * pidfd, reaped when that says so, and its end is written to the exit record, whose lock this process holds meanwhile.
 */
import { writeSync } from 'node:fs';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Binding, KernelExit, Watch } from '../native/binding.ts';
import type { ExitStatus } from '../process.ts';
import { signalName } from '../signals.ts';
import { handTerminal, openTerminal, type Terminal } from './console.ts';
import type { ContainerInit } from './container-init.ts';
import type { PreparedStdio } from './stdio.ts';

const tracedMs = 10_000;

export class RestoredProcess implements ContainerInit {
  readonly pid: number;
  readonly startTime: bigint;
  readonly durationsNs: readonly number[] = [];
  exitStatus: ExitStatus | undefined;
  readonly #binding: Binding;
  readonly #stdio: PreparedStdio;
  readonly #exit: Promise<ExitStatus>;
  #resolveExit: (status: ExitStatus) => void = () => undefined;
  #pidfd: number;
  readonly #watch: Watch;
  #record = -1;
  #terminal: Terminal | undefined;
  #onExit: ((status: ExitStatus) => void) | undefined;

  /** Takes the pidfd over. */
  constructor(binding: Binding, pid: number, startTime: bigint, pidfd: number, stdio: PreparedStdio) {
    this.#binding = binding;
    this.#stdio = stdio;
    this.pid = pid;
    this.startTime = startTime;
    this.#pidfd = pidfd;
    this.#exit = new Promise(resolve => {
      this.#resolveExit = resolve;
    });
    this.#watch = binding.pidfdWatch(pidfd, () => this.#ended());
  }

  /** Descriptor of the exit record, locked; written and closed at the end. Takes it over. */
  set record(fd: number) {
    this.#record = fd;
  }

  get stdin(): Writable | undefined {
    return this.#stdio.stdin;
  }
  get stdout(): Readable | undefined {
    return this.#stdio.stdout;
  }
  get stderr(): Readable | undefined {
    return this.#stdio.stderr;
  }
  get terminal(): Duplex | undefined {
    return this.#terminal?.stream;
  }

  /** Takes the ptmx over. @param consoleSocket Where it goes; undefined: it becomes `terminal`. @throws {LibcontainerError} ERR_CONSOLE */
  async takeTerminal(fd: number, consoleSocket: string | undefined): Promise<void> {
    if (consoleSocket === undefined) this.#terminal = openTerminal(this.#binding, fd);
    else await handTerminal(this.#binding, consoleSocket, fd);
  }

  set onExit(listener: (status: ExitStatus) => void) {
    this.#onExit = listener;
    if (this.exitStatus !== undefined) listener(this.exitStatus);
  }
  executed(): Promise<void> {
    return Promise.resolve();
  }
  exited(): Promise<ExitStatus> {
    return this.#exit;
  }
  async wait(): Promise<ExitStatus> {
    const status = await this.#exit;
    await this.#stdio.drained();
    return status;
  }
  signal(signal: number): boolean {
    return this.exitStatus === undefined && this.#binding.pidfdSendSignal(this.#pidfd, signal);
  }
  resize(columns: number, rows: number): void {
    this.#terminal?.resize(columns, rows);
  }
  ref(): void {
    if (this.exitStatus === undefined) this.#watch.ref();
  }
  unref(): void {
    if (this.exitStatus === undefined) this.#watch.unref();
  }
  pidfd(): number {
    return this.exitStatus === undefined ? this.#binding.pidfdOpen(this.pid, this.startTime) : -1;
  }

  /** It was killed with a restore that failed: reaped, and nothing of it is kept. */
  async discard(): Promise<void> {
    if (this.exitStatus === undefined) this.#binding.pidfdSendSignal(this.#pidfd, 9);
    await this.#exit;
    this.#stdio.discard();
    this.#terminal?.stream.destroy();
  }

  #ended(deadline = Date.now() + tracedMs): void {
    this.#watch.close();
    const reaped = this.#binding.pidfdReap(this.#pidfd);
    // Killed while CRIU traces it: its end is CRIU's to see first (ptrace(2), "Death under ptrace").
    if (reaped === null && Date.now() < deadline) {
      setTimeout(() => this.#ended(deadline), 2);
      return;
    }
    // Somebody else in this process may have waited for any child (waitpid(-1)): then the kernel may tell.
    const found = reaped ?? this.#binding.pidfdExit(this.#pidfd) ?? undefined;
    this.#binding.close(this.#pidfd);
    this.#pidfd = -1;
    const status = statusOf(found);
    this.exitStatus = status;
    this.#write(found);
    this.#stdio.ended();
    this.#resolveExit(status);
    this.#onExit?.(status);
  }

  #write(found: KernelExit | undefined): void {
    if (this.#record < 0) return;
    // One write of one line, as the monitor does it; the directory may be gone by now, the file is still open.
    if (found !== undefined)
      writeSync(this.#record, `${JSON.stringify({ ...found, exitedMs: Date.now() })}\n`);
    this.#binding.close(this.#record);
    this.#record = -1;
  }
}

function statusOf(found: KernelExit | undefined): ExitStatus {
  if (found === undefined) return { kind: 'unknown' };
  const { kind, status, coreDumped } = found;
  return kind === 'exited' ? { kind, code: status } : { kind, signal: signalName(status), coreDumped };
}
