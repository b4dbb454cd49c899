/**
 * The host's end of a container's terminal. init opens the pty in the container's own devpts and sends the ptmx; it is
 * handed to a console socket, or becomes a Duplex stream. pty(7), ioctl_tty(2).
 */
import { readSync, writeSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { LibcontainerError } from '../errors.ts';
import type { Binding, Watch } from '../native/binding.ts';

export interface Terminal {
  readonly stream: Duplex;
  resize(columns: number, rows: number): void;
}

const epollIn = 0x1;
const epollOut = 0x4;
const chunkBytes = 64 * 1024;

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

/**
 * A Duplex over a ptmx. libuv's own TTY handle writes to a ptmx in blocking mode, so that a program that
 * does not read would stop Node; this one waits for epoll instead.
 */
class TerminalStream extends Duplex {
  readonly #fd: number;
  readonly #binding: Binding;
  #readWatch: Watch | undefined;
  #writeWatch: Watch | undefined;
  #pending: { chunk: Buffer; callback: (error?: Error | null) => void } | undefined;
  #closed = false;

  constructor(binding: Binding, fd: number) {
    // Half-open makes no sense here: the terminal is one thing.
    super({ allowHalfOpen: false });
    this.#binding = binding;
    this.#fd = fd;
  }

  get closedFd(): boolean {
    return this.#closed;
  }

  override _read(): void {
    if (this.#readWatch !== undefined || this.#closed) return;
    this.#readWatch = this.#binding.watch(this.#fd, epollIn, () => this.#readable());
  }

  #readable(): void {
    for (;;) {
      if (this.#closed) return;
      const buffer = Buffer.allocUnsafe(chunkBytes);
      let bytes = 0;
      try {
        bytes = readSync(this.#fd, buffer);
      } catch (error) {
        if (codeOf(error) === 'EAGAIN') return;
        // EIO: nobody has the other side open any more. That is how a terminal ends.
        this.#stopReading();
        if (codeOf(error) === 'EIO') this.push(null);
        else this.destroy(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      if (bytes === 0) {
        this.#stopReading();
        this.push(null);
        return;
      }
      if (!this.push(buffer.subarray(0, bytes))) {
        this.#stopReading();
        return;
      }
    }
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#pending = { chunk, callback };
    this.#writable();
  }

  #writable(): void {
    while (this.#pending !== undefined) {
      const { chunk, callback } = this.#pending;
      let written = 0;
      try {
        written = writeSync(this.#fd, chunk);
      } catch (error) {
        if (codeOf(error) !== 'EAGAIN') {
          this.#finishWrite();
          // The process is gone: what it was told does not matter any more.
          callback(
            codeOf(error) === 'EIO' ? null : error instanceof Error ? error : new Error(String(error)),
          );
          return;
        }
      }
      if (written === chunk.length) {
        this.#finishWrite();
        callback();
        return;
      }
      this.#pending = { chunk: chunk.subarray(written), callback };
      if (written === 0) {
        this.#writeWatch ??= this.#binding.watch(this.#fd, epollOut, () => this.#writable());
        return;
      }
    }
  }

  #finishWrite(): void {
    this.#pending = undefined;
    this.#writeWatch?.close();
    this.#writeWatch = undefined;
  }

  #stopReading(): void {
    this.#readWatch?.close();
    this.#readWatch = undefined;
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#stopReading();
    this.#writeWatch?.close();
    this.#writeWatch = undefined;
    this.#pending = undefined;
    if (!this.#closed) {
      this.#closed = true;
      this.#binding.close(this.#fd);
    }
    callback(error);
  }
}

/** Takes over the ptmx. */
export function openTerminal(binding: Binding, fd: number): Terminal {
  // The open file description is shared with nobody: init has closed its end.
  binding.setNonBlocking(fd);
  const stream = new TerminalStream(binding, fd);
  return {
    stream,
    resize: (columns, rows) => {
      if (!stream.closedFd) binding.ptyResize(fd, columns, rows);
    },
  };
}

/**
 * Sends the ptmx to the listener on `socketPath` as runc does: one message, the name of the device as data.
 * @throws {LibcontainerError} ERR_CONSOLE
 */
export async function handTerminal(binding: Binding, socketPath: string, fd: number): Promise<void> {
  try {
    await binding.sendFd(socketPath, '/dev/ptmx', fd);
  } catch (cause) {
    throw new LibcontainerError('ERR_CONSOLE', { detail: socketPath, cause });
  } finally {
    binding.close(fd);
  }
}
