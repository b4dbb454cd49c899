/** Packets to a front, in order, however slowly it reads: nobody waits for it. */
import type { binding } from '../../index.ts';

type Native = ReturnType<typeof binding>;
const epollOut = 4;

export class Channel {
  readonly #native: Native;
  readonly #fd: number;
  #queue: Buffer[] = [];
  #watch: { close(): void } | undefined;
  #drained: (() => void) | undefined;
  #closed = false;

  constructor(native: Native, fd: number) {
    this.#native = native;
    this.#fd = fd;
  }

  send(frame: Buffer): void {
    if (this.#closed) return;
    if (this.#watch !== undefined || !this.#try(frame)) this.#later(frame);
  }

  /** When everything is sent, or the front is gone. */
  async drained(): Promise<void> {
    if (this.#watch === undefined) return;
    await new Promise<void>(resolve => {
      this.#drained = resolve;
    });
  }

  /** The front is gone, and soon the descriptor: what is left is nobody's. */
  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#rest();
  }

  #rest(): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#drained?.();
  }

  /** False: its queue is full. */
  #try(frame: Buffer): boolean {
    try {
      this.#native.packetSend(this.#fd, frame);
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return false;
      throw error;
    }
  }

  #later(frame: Buffer): void {
    this.#queue.push(frame);
    this.#watch ??= this.#native.watch(this.#fd, epollOut, () => {
      for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
        if (!this.#try(next)) return;
        this.#queue.shift();
      }
      this.#rest();
    });
  }
}
