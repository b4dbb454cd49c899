/**
 * CRIU's RPC: one request or answer per packet of a SOCK_SEQPACKET socket (proto/criu.proto). The only user of protobufjs
 * beside plan/encode.ts; loaded by the first checkpoint or restore.
 */
import { criu as pb } from '../generated/criu.js';
import type { Binding, Watch } from '../native/binding.ts';

export const RequestType = pb.RequestType;
export const CgroupMode = pb.CgroupMode;
export type Options = pb.IOptions;
export type Request = pb.IRequest;
export type Response = pb.Response;
export type Statistics = pb.Statistics;

export interface Answer {
  readonly response: Response;
  /** The receiver's: taken or closed. */
  readonly fds: readonly number[];
}

const epollIn = 1;

/** Our end of the socket; owns it. */
export class Session {
  readonly #binding: Binding;
  readonly #fd: number;
  #closed = false;

  constructor(binding: Binding, fd: number) {
    this.#binding = binding;
    this.#fd = fd;
  }

  /** False: CRIU is gone. */
  send(request: Request): boolean {
    return !this.#closed && this.#binding.packetSend(this.#fd, pb.Request.encode(request).finish());
  }

  /** The next message; undefined: CRIU is gone. */
  async next(): Promise<Answer | undefined> {
    for (;;) {
      if (this.#closed) return undefined;
      const packet = this.#binding.packetReceive(this.#fd);
      if (packet === 'ended') return undefined;
      if (packet !== 'none') return this.#decoded(packet);
      await this.#readable();
    }
  }

  #decoded({ data, fds }: { readonly data: Buffer; readonly fds: readonly number[] }): Answer {
    try {
      return { response: pb.Response.decode(data), fds };
    } catch (error) {
      for (const fd of fds) this.#binding.close(fd);
      throw error;
    }
  }

  #readable(): Promise<void> {
    return new Promise(resolve => {
      const watch: Watch = this.#binding.watch(this.#fd, epollIn, () => {
        watch.close();
        resolve();
      });
    });
  }

  /** CRIU that is still at work takes back what it has done when it notices. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#binding.close(this.#fd);
  }
}

/** Image files begin with two magic numbers and the size of the message, each in 32 bits (CRIU's images/README). */
const serviceMagic = 0x55105940;
const statisticsMagic = 0x57093306;
const headerBytes = 12;

/** stats-dump and stats-restore; undefined: not such a file. */
export function decodeStatistics(image: Buffer): Statistics | undefined {
  if (image.length < headerBytes) return undefined;
  const size = image.readUInt32LE(8);
  if (image.readUInt32LE(0) !== serviceMagic || image.readUInt32LE(4) !== statisticsMagic) return undefined;
  if (image.length < headerBytes + size) return undefined;
  try {
    return pb.Statistics.decode(image.subarray(headerBytes, headerBytes + size));
  } catch {
    return undefined;
  }
}
