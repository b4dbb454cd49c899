/** Waiting with a deadline, never for a fixed time. Deadlines grow with the slowness of the machine (the VM lane). */
import type { EventEmitter } from 'node:events';

/** How many times slower than a usual machine this one is; set by the VM lane. */
export const slowness = Math.max(1, Number(process.env.LIBCONTAINER_TEST_SLOWNESS ?? '1') || 1);

const defaultMs = 10_000;

/** Settles as `work` does, or rejects after `timeoutMs` (default 10 s, times slowness) naming what was waited for. */
export async function within<T>(work: Promise<T>, what: string, timeoutMs = defaultMs): Promise<T> {
  const limit = timeoutMs * slowness;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`deadline: ${what} did not happen within ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The arguments of the emitter's next `event`. */
export function waitFor<T extends unknown[] = unknown[]>(
  emitter: Pick<EventEmitter, 'once'>,
  event: string,
  timeoutMs = defaultMs,
): Promise<T> {
  const happened = new Promise<T>(resolve => {
    emitter.once(event, (...args: unknown[]) => resolve(args as T));
  });
  return within(happened, `event ${event}`, timeoutMs);
}

/**
 * For what the kernel has no event for: asks again until `check` returns something other than undefined and false.
 * The answer is returned.
 */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = defaultMs,
): Promise<T> {
  const end = Date.now() + timeoutMs * slowness;
  for (;;) {
    const answer = await check();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end)
      throw new Error(`deadline: ${what} did not happen within ${timeoutMs * slowness} ms`);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
}

/** Everything a stream gives until its end, as text. */
export async function text(stream: AsyncIterable<Buffer | string>, timeoutMs = defaultMs): Promise<string> {
  const read = async () => {
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(Buffer.from(part));
    return Buffer.concat(parts).toString();
  };
  return within(read(), 'end of the stream', timeoutMs);
}
