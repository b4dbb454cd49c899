/** `nrunc events`: statistics as lines of JSON, once or every interval, and a line for each OOM, until the container stops. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Container } from '../../index.ts';
import type { Caller } from '../caller.ts';
import { errorCode } from '../error-text.ts';
import { type GoJson, goJson } from '../go-json.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { statsData } from '../stats-json.ts';

const defaultIntervalMs = 5000;

export async function run(invocation: Invocation): Promise<number> {
  const { options, caller } = invocation;
  const id = containerIdOf(invocation);
  await using container = await openFactory(invocation).load(id);
  const intervalMs = options.durationMs('interval') ?? defaultIntervalMs;
  if (intervalMs <= 0) throw new Error('duration interval must be greater than 0');
  if ((await container.status()) === 'stopped') throw new Error(`container with id ${id} is not running`);
  if (options.flag('stats')) {
    printEvent(caller, 'stats', id, statsData(await container.stats()));
    return 0;
  }
  await watch(caller, container, intervalMs);
  return 0;
}

function printEvent(caller: Caller, type: string, id: string, data?: GoJson): void {
  caller.print(`${goJson({ type, id, data })}\n`);
}

/** The statistics end with the event stream, which ends with the container. */
async function watch(caller: Caller, container: Container, intervalMs: number): Promise<void> {
  const over = new AbortController();
  const statistics = printStats(caller, container, intervalMs, over.signal);
  try {
    for await (const event of container.notifyOOM())
      if (event.type === 'oom') printEvent(caller, 'oom', container.id);
  } finally {
    over.abort();
    await statistics;
  }
}

async function printStats(
  caller: Caller,
  container: Container,
  intervalMs: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    // As runc: first the wait, then the figures.
    await delay(intervalMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      printEvent(caller, 'stats', container.id, statsData(await container.stats()));
    } catch (error) {
      // It has stopped since; the event stream is about to say so.
      if (errorCode(error) === 'ERR_CONTAINER_NOT_RUNNING') return;
      throw error;
    }
  }
}
