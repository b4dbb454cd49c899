/**
 * Functions that decide about system calls: what the listener of a process's filter receives goes to the handler of its
 * name, and the handler's answer goes back. The kernel wakes the event loop; no thread waits.
 */
import { constants } from 'node:os';
import { LibcontainerError } from '../errors.ts';
import type { Binding, SeccompNotification, Watch } from '../native/binding.ts';
import { SyscallCall } from './syscall-call.ts';
import { isKnownSyscall, type SyscallName } from './syscall-table.ts';

export type ErrnoName = keyof typeof constants.errno;

/**
 * `'continue'`: the kernel does the call. It is done with what the memory holds then, not with what a handler has read:
 * never a check (seccomp_unotify(2)). `errno`: it fails. `value`: it returns this. `fd`: a duplicate of that descriptor of
 * this process becomes the caller's and its number the result; `close` closes ours afterwards.
 */
export type SyscallAnswer =
  | 'continue'
  | { readonly errno: ErrnoName | number }
  | { readonly value: number | bigint }
  | { readonly fd: number; readonly at?: number; readonly closeOnExec?: boolean; readonly close?: boolean };

export type SyscallHandler<N extends SyscallName> = (
  call: SyscallCall<N>,
) => SyscallAnswer | Promise<SyscallAnswer>;
export type SyscallHandlers = { readonly [N in SyscallName]?: SyscallHandler<N> };

export interface SeccompHandlerOptions {
  /** By name. A name without a rule of SCMP_ACT_NOTIFY in the profile gets one, in place of its others. */
  readonly syscalls: SyscallHandlers;
  /** How long a handler may take, in milliseconds. Default 10000. */
  readonly deadlineMs?: number;
  /** What the caller gets when a handler throws, is late or gives a wrong answer. Default `'EPERM'`. */
  readonly errno?: ErrnoName | number;
}

/** A handler threw, was late, or gave no answer; the caller got the errno of the options. */
export interface SyscallErrorEvent {
  /** The call's name; of one that has no handler its name or number. */
  readonly name: string;
  readonly tid: number;
  readonly error: unknown;
}

const epollIn = 1;
const defaultDeadlineMs = 10_000;
/** Of one turn of the event loop: a container that calls without end must not keep others from being heard. */
const mostPerTurn = 64;
/** Linux errno(3); MAX_ERRNO of the kernel's err.h. */
const mostErrno = 4095;

/** @throws {LibcontainerError} ERR_ARGUMENT */
export function errnoNumber(errno: ErrnoName | number): number {
  const number = typeof errno === 'number' ? Math.abs(errno) : constants.errno[errno];
  if (Number.isInteger(number) && number > 0 && number <= mostErrno) return number;
  throw new LibcontainerError('ERR_ARGUMENT', { detail: `${String(errno)} is not an errno` });
}

const names = new Map<string, string>();
function nameOf(binding: Binding, { arch, number }: SeccompNotification): string {
  const key = `${arch}.${number}`;
  let name = names.get(key);
  if (name === undefined) {
    name = binding.syscallName(arch, number) ?? String(number);
    names.set(key, name);
  }
  return name;
}

export class SyscallListener {
  readonly #binding: Binding;
  readonly #fd: number;
  readonly #door: { readonly fd: number; open: boolean };
  readonly #watch: Watch;
  readonly #options: SeccompHandlerOptions;
  readonly #fallback: number;
  readonly #onError: (event: SyscallErrorEvent) => void;
  readonly #onClose: (listener: SyscallListener) => void;

  /** Takes the descriptor over. */
  constructor(
    binding: Binding,
    fd: number,
    options: SeccompHandlerOptions,
    on: {
      readonly error: (event: SyscallErrorEvent) => void;
      readonly close: (listener: SyscallListener) => void;
    },
  ) {
    this.#binding = binding;
    this.#fd = fd;
    this.#door = { fd, open: true };
    this.#options = options;
    this.#fallback = errnoNumber(options.errno ?? 'EPERM');
    this.#onError = on.error;
    this.#onClose = on.close;
    this.#watch = binding.watch(fd, epollIn, () => this.#receive());
    // The process whose calls these are keeps the event loop alive, if anything does.
    this.#watch.unref();
  }

  get #open(): boolean {
    return this.#door.open;
  }

  /** Calls that wait, and all later ones, fail with ENOSYS in the container: that is the kernel's rule. */
  close(): void {
    if (!this.#open) return;
    this.#door.open = false;
    this.#watch.close();
    this.#binding.close(this.#fd);
    this.#onClose(this);
  }

  #receive(): void {
    for (let count = 0; this.#open && count < mostPerTurn; count++) {
      const notification = this.#binding.seccompReceive(this.#fd);
      if (notification === 'none') return;
      if (notification === 'ended') {
        this.close();
        return;
      }
      this.#decide(notification);
    }
  }

  #decide(notification: SeccompNotification): void {
    const { id, pid: tid } = notification;
    const name = nameOf(this.#binding, notification);
    try {
      const handled = isKnownSyscall(name) ? this.#ask(name, notification) : undefined;
      if (handled === undefined)
        throw new LibcontainerError('ERR_SYSCALL_HANDLER', { detail: `there is none for ${name}` });
      if (handled instanceof Promise) void this.#later(id, name, tid, handled);
      else this.#answer(id, handled);
    } catch (error) {
      this.#fail(id, { name, tid, error });
    }
  }

  #ask<N extends SyscallName>(
    name: N,
    notification: SeccompNotification,
  ): SyscallAnswer | Promise<SyscallAnswer> | undefined {
    const handler: SyscallHandler<N> | undefined = this.#options.syscalls[name];
    return handler?.(new SyscallCall(this.#binding, this.#door, name, notification));
  }

  async #later(id: bigint, name: string, tid: number, handled: Promise<SyscallAnswer>): Promise<void> {
    const { deadlineMs = defaultDeadlineMs } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new LibcontainerError('ERR_SYSCALL_HANDLER', { detail: `${name} within ${deadlineMs} ms` }));
      }, deadlineMs);
      timer.unref();
    });
    try {
      // What comes after the deadline answers nothing any more.
      this.#answer(id, await Promise.race([handled, late]));
    } catch (error) {
      this.#fail(id, { name, tid, error });
    } finally {
      clearTimeout(timer);
    }
  }

  #answer(id: bigint, answer: SyscallAnswer): void {
    if (!this.#open) return;
    if (answer === 'continue') this.#respond(id, 0, 0, true);
    else if ('errno' in answer) this.#respond(id, errnoNumber(answer.errno), 0, false);
    else if ('value' in answer) {
      const value = Number(answer.value);
      if (!Number.isSafeInteger(value))
        throw new LibcontainerError('ERR_ARGUMENT', { detail: `${answer.value} cannot be returned` });
      this.#respond(id, 0, value, false);
    } else this.#giveFd(id, answer);
  }

  #giveFd(id: bigint, answer: Extract<SyscallAnswer, { readonly fd: number }>): void {
    const { fd, at = -1, closeOnExec = true, close = false } = answer;
    const add = (send: boolean): number =>
      this.#binding.seccompAddFd(this.#fd, id, fd, at, closeOnExec, send);
    try {
      add(true);
    } catch (error) {
      // Before Linux 5.14 both are two steps: SECCOMP_ADDFD_FLAG_SEND is not known.
      if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error;
      const number = add(false);
      if (number >= 0) this.#respond(id, 0, number, false);
    } finally {
      if (close) this.#binding.close(fd);
    }
  }

  #respond(id: bigint, errno: number, value: number, proceed: boolean): void {
    if (this.#open) this.#binding.seccompRespond(this.#fd, id, errno, value, proceed);
  }

  #fail(id: bigint, event: SyscallErrorEvent): void {
    try {
      this.#respond(id, this.#fallback, 0, false);
    } finally {
      // A caller that was killed meanwhile is no error of the handler's.
      const gone = event.error instanceof LibcontainerError && event.error.code === 'ERR_CALLER_GONE';
      if (!gone) this.#onError(event);
    }
  }
}
