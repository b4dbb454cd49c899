/** Whole writes to a descriptor, without Node's streams: quick to start, and complete before process.exit(). */
import { writeSync } from 'node:fs';

const pause = new Int32Array(new SharedArrayBuffer(4));

/** A reader that made the pipe non-blocking gets time to read: EAGAIN is tried again until it goes on. */
export function writeAll(fd: number, text: string): void {
  const data = Buffer.from(text);
  let done = 0;
  while (done < data.length) {
    try {
      done += writeSync(fd, data, done);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

/** The last words of a program whose stderr is closed are lost; that must not hide its exit code. */
export function printError(text: string): void {
  try {
    writeAll(2, text);
  } catch {
    // Nowhere is left to say it.
  }
}
