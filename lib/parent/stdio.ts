/** Descriptors 0, 1 and 2 of a process, from what the caller wants: pipes with Node streams, /dev/null, descriptors. */
import { constants, fchownSync, fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { ProcessOptions, StdioInput, StdioOutput } from '../process.ts';

export interface PreparedStdio {
  /** Descriptors for the child: borrowed by the spawn call. */
  readonly fds: readonly [number, number, number];
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** After the spawn call. Idempotent. */
  closeChildEnds(): void;
  /** The process has ended: nobody reads its input any more. */
  ended(): void;
  /** When everything that is copied to a stream of the caller's has been written. */
  drained(): Promise<void>;
  /** Gives everything back: the start failed. */
  discard(): void;
}

/** A stream that stands on a descriptor of its own (a file, a socket, a terminal) is passed as that, as child_process does. */
function descriptorOf(stream: Readable | Writable): number | undefined {
  const own = 'fd' in stream ? stream.fd : undefined;
  return typeof own === 'number' && own >= 0 ? own : undefined;
}

/** Host ids of the container's root, which gives them on to the process's user. */
export interface StdioOwner {
  readonly uid: number;
  readonly gid: number;
}

class Builder implements PreparedStdio {
  readonly fds: [number, number, number] = [-1, -1, -1];
  stdin: Writable | undefined;
  stdout: Readable | undefined;
  stderr: Readable | undefined;
  #childEnds: number[] = [];
  readonly #sockets: Socket[] = [];
  readonly #copies: Promise<void>[] = [];
  #input: Socket | undefined;
  #nullFd = -1;
  readonly #binding: Binding;
  readonly #owner: StdioOwner | undefined;

  constructor(binding: Binding, owner: StdioOwner | undefined) {
    this.#binding = binding;
    this.#owner = owner;
  }

  input(option: StdioInput): void {
    const fd = this.#plain(option, 0);
    if (fd !== undefined) {
      this.fds[0] = fd;
      return;
    }
    const [read, write] = this.#pipe();
    this.#childEnds.push(read);
    this.fds[0] = read;
    const socket = this.#socket(write, false);
    this.#input = socket;
    // A process that does not read its input closes the pipe: no error of ours.
    socket.on('error', () => undefined);
    if (typeof option === 'object') pipeline(option, socket).catch(() => undefined);
    else this.stdin = socket;
  }

  output(which: 1 | 2, option: StdioOutput): void {
    const fd = this.#plain(option, which);
    if (fd !== undefined) {
      this.fds[which] = fd;
      return;
    }
    const [read, write] = this.#pipe();
    this.#childEnds.push(write);
    this.fds[which] = write;
    const socket = this.#socket(read, true);
    if (typeof option === 'object') {
      const copy = pipeline(socket, option, { end: false });
      // Nobody may ever ask for the exit, and before it nobody waits for this.
      copy.catch(() => undefined);
      this.#copies.push(copy);
    } else if (which === 1) this.stdout = socket;
    else this.stderr = socket;
  }

  closeChildEnds(): void {
    for (const fd of this.#childEnds) this.#binding.close(fd);
    this.#childEnds = [];
  }

  ended(): void {
    this.#input?.destroy();
  }

  async drained(): Promise<void> {
    // A stream that fails tells its owner; the exit status is not lost by that.
    if (this.#copies.length > 0) await Promise.allSettled(this.#copies);
  }

  discard(): void {
    this.closeChildEnds();
    for (const socket of this.#sockets) socket.destroy();
  }

  #plain(option: StdioInput | StdioOutput, which: number): number | undefined {
    if (option === 'pipe') return undefined;
    if (option === 'inherit') return which;
    if (option === 'ignore') return this.#null();
    if (typeof option === 'number') return option;
    return descriptorOf(option);
  }

  #null(): number {
    if (this.#nullFd < 0) {
      this.#nullFd = this.#binding.open('/dev/null', constants.O_RDWR, 0);
      this.#childEnds.push(this.#nullFd);
    }
    return this.#nullFd;
  }

  /** Ours until it is given away: the root of a user namespace could not open it again by /proc/self/fd. */
  #pipe(): [read: number, write: number] {
    const ends = this.#binding.pipe();
    if (this.#owner !== undefined) fchownSync(ends[0], this.#owner.uid, this.#owner.gid);
    return ends;
  }

  #socket(fd: number, readable: boolean): Socket {
    const socket = new Socket({ fd, readable, writable: !readable });
    this.#sockets.push(socket);
    return socket;
  }
}

/**
 * @param owner Who gets the pipes that are made here; default: they stay ours.
 * @throws {LibcontainerError} ERR_ARGUMENT
 */
export function prepareStdio(binding: Binding, options: ProcessOptions, owner?: StdioOwner): PreparedStdio {
  const builder = new Builder(binding, owner);
  try {
    // With a terminal init opens it itself; until then it must not hold a terminal of ours.
    const terminal = options.terminal === true;
    builder.input(terminal ? 'ignore' : check(options.stdin ?? 'ignore', 'stdin'));
    builder.output(1, terminal ? 'ignore' : check(options.stdout ?? 'ignore', 'stdout'));
    builder.output(2, terminal ? 'ignore' : check(options.stderr ?? 'ignore', 'stderr'));
    for (const fd of options.preservedFds ?? []) checkOpen(fd, 'preservedFds');
    return builder;
  } catch (error) {
    builder.discard();
    throw error;
  }
}

function check<T extends StdioInput | StdioOutput>(option: T, name: string): T {
  const known =
    option === 'pipe' ||
    option === 'inherit' ||
    option === 'ignore' ||
    (typeof option === 'number' && Number.isInteger(option) && option >= 0) ||
    (typeof option === 'object' && option !== null && 'pipe' in option);
  if (typeof option === 'number' && known) checkOpen(option, name);
  if (known) return option;
  throw new LibcontainerError('ERR_ARGUMENT', {
    detail: `process.${name}: 'pipe', 'inherit', 'ignore', a descriptor or a stream`,
  });
}

function checkOpen(fd: number, name: string): void {
  try {
    fstatSync(fd);
  } catch (cause) {
    throw new LibcontainerError('ERR_ARGUMENT', {
      detail: `process.${name}: ${fd} is no open descriptor`,
      cause,
    });
  }
}
