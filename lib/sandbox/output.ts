/** What a program writes: collected up to a limit, or given to a function as it comes. */
import type { Readable } from 'node:stream';

/** A promise holds the stream back until it is settled, and with it the program that writes. */
export type OnOutput = (chunk: Buffer) => unknown;

export interface Collected {
  /** Resolves at the end of the stream, or when `stop()` was called. Rejects with what the function threw. */
  readonly ended: Promise<void>;
  readonly bytes: () => Buffer;
  readonly stop: () => void;
}

/**
 * @param maxBytes What is kept; with more, `onLimit` is called once and the pipe is closed.
 * @param onOutput Gets all of it instead; nothing is kept then and no limit counts.
 */
export function collect(
  stream: Readable,
  {
    maxBytes,
    onOutput,
    onLimit,
  }: { readonly maxBytes: number; readonly onOutput: OnOutput | undefined; readonly onLimit: () => void },
): Collected {
  const chunks: Buffer[] = [];
  let size = 0;
  const read = async (): Promise<void> => {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (onOutput !== undefined) {
        await onOutput(chunk);
        continue;
      }
      const room = maxBytes - size;
      const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
      if (kept.length > 0) chunks.push(kept);
      size += kept.length;
      if (chunk.length > room) {
        onLimit();
        return;
      }
    }
  };
  let stop = (): void => undefined;
  const stopped = new Promise<void>(resolve => {
    stop = () => {
      stream.destroy();
      resolve();
    };
  });
  const ended = Promise.race([
    read().catch(error => {
      // Ours to stop, whether the iteration likes it or not.
      if (!(error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE'))
        throw error;
    }),
    stopped,
  ]);
  // Who runs the program waits for it only when the program has ended.
  ended.catch(() => undefined);
  return { ended, bytes: () => Buffer.concat(chunks, size), stop };
}
