/**
 * The operations of the library as OpenTelemetry spans, out of its tracing channels: a span for each operation on a container,
 * with an event for each step of a start. `tracer` is `trace.getTracer('libcontainer')` of @opentelemetry/api, or anything
 * with these methods.
 */
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import type { OperationMessage, OperationName, StepMessage } from '../lib/index.ts';

export interface Span {
  addEvent(name: string, attributes: { readonly [name: string]: string | number }): unknown;
  recordException(error: Error): void;
  setAttribute(name: string, value: string): unknown;
  /** 2: an error. */
  setStatus(status: { readonly code: 2 }): unknown;
  end(): void;
}
export interface Tracer {
  startSpan(name: string, options: { readonly attributes: { readonly [name: string]: string } }): Span;
}

const operations: readonly OperationName[] = [
  'create',
  'start',
  'run',
  'exec',
  'prepare',
  'signal',
  'pause',
  'resume',
  'set',
  'checkpoint',
  'restore',
  'destroy',
];

/** @returns Stops it. */
export function traceOperations(tracer: Tracer): () => void {
  // One message object goes with an operation from its start to its end.
  const spans = new Map<unknown, Span>();
  const starting = new Map<string, Span>();
  const begin = (message: unknown): void => {
    const { operation, containerId } = message as OperationMessage;
    // container.id: semantic conventions, resource/container. The name of a span has no id: there are too many of them.
    const span = tracer.startSpan(`libcontainer ${operation}`, {
      attributes: { 'container.id': containerId },
    });
    spans.set(message, span);
    starting.set(containerId, span);
  };
  const fail = (message: unknown): void => {
    const { error } = message as OperationMessage;
    const span = spans.get(message);
    if (error instanceof Error) {
      span?.recordException(error);
      span?.setAttribute('error.type', 'code' in error ? String(error.code) : error.name);
    }
    span?.setStatus({ code: 2 });
  };
  const end = (message: unknown): void => {
    const { containerId } = message as OperationMessage;
    const span = spans.get(message);
    span?.end();
    spans.delete(message);
    if (starting.get(containerId) === span) starting.delete(containerId);
  };
  const step = (message: unknown): void => {
    const { containerId, process, index, step: name, durationNs } = message as StepMessage;
    starting.get(containerId)?.addEvent(name, {
      'libcontainer.process': process,
      'libcontainer.step.index': index,
      'libcontainer.step.duration_ns': durationNs,
    });
  };
  const channels = operations.map(operation => tracingChannel(`libcontainer.${operation}`));
  for (const { start, error, asyncEnd } of channels) {
    start.subscribe(begin);
    error.subscribe(fail);
    asyncEnd.subscribe(end);
  }
  subscribe('libcontainer.step', step);
  return () => {
    for (const { start, error, asyncEnd } of channels) {
      start.unsubscribe(begin);
      error.unsubscribe(fail);
      asyncEnd.unsubscribe(end);
    }
    unsubscribe('libcontainer.step', step);
  };
}
