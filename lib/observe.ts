/**
 * What the library does, for who wants to see it: a tracing channel per operation (diagnostics_channel), a channel of steps,
 * lines of NODE_DEBUG=libcontainer, a logger of the caller's. Nobody listening costs a few comparisons.
 */
import { channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';

/** The methods of pino and its kin that are called. */
export interface Logger {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export type OperationName =
  | 'create'
  | 'start'
  | 'run'
  | 'exec'
  | 'prepare'
  | 'signal'
  | 'pause'
  | 'checkpoint'
  | 'restore'
  | 'resume'
  | 'set'
  | 'destroy';

/** The message of the channels `tracing:libcontainer.<operation>:start`, `…:asyncEnd`, `…:error`. */
export interface OperationMessage {
  readonly operation: OperationName;
  readonly containerId: string;
  /** In `error`. */
  error?: unknown;
}

/** The message of the channel `libcontainer.step`: one for each step of a start, when it has succeeded. */
export interface StepMessage {
  readonly containerId: string;
  /** The first process of the container, or one that was exec'd. */
  readonly process: 'init' | 'exec';
  readonly index: number;
  readonly step: string;
  readonly durationNs: number;
}

const debug = debuglog('libcontainer');
const steps = channel('libcontainer.step');
const operations = new Map<OperationName, TracingChannel>();

function channelOf(operation: OperationName): TracingChannel {
  let found = operations.get(operation);
  if (found === undefined) {
    found = tracingChannel(`libcontainer.${operation}`);
    operations.set(operation, found);
  }
  return found;
}

const isWatched = ({ start, end, asyncStart, asyncEnd, error }: TracingChannel): boolean =>
  [start, end, asyncStart, asyncEnd, error].some(({ hasSubscribers }) => hasSubscribers);

/** Does the work, and tells of its beginning and end. */
export function observed<T>(
  operation: OperationName,
  containerId: string,
  logger: Logger | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const tracing = channelOf(operation);
  const told =
    logger === undefined && !debug.enabled ? work : () => logged(operation, containerId, logger, work);
  if (!isWatched(tracing)) return told();
  const message: OperationMessage = { operation, containerId };
  return tracing.tracePromise(told, message);
}

async function logged<T>(
  operation: OperationName,
  containerId: string,
  logger: Logger | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const began = performance.now();
  try {
    const result = await work();
    const durationMs = performance.now() - began;
    debug('%s %s: %s ms', operation, containerId, durationMs.toFixed(2));
    logger?.debug({ operation, containerId, durationMs }, `${operation} ${containerId}`);
    return result;
  } catch (error) {
    debug('%s %s: %s', operation, containerId, error);
    logger?.warn({ operation, containerId, err: error }, `${operation} ${containerId} failed`);
    throw error;
  }
}

/** The steps of a start that has succeeded, with what each took. */
export function tellSteps(
  containerId: string,
  process: StepMessage['process'],
  kinds: readonly { readonly kind: string }[],
  durationsNs: readonly number[],
): void {
  if (!steps.hasSubscribers) return;
  for (const [index, durationNs] of durationsNs.entries()) {
    const step = kinds[index]?.kind;
    if (step !== undefined)
      steps.publish({ containerId, process, index, step, durationNs } satisfies StepMessage);
  }
}
