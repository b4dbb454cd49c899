/** A container's events: the hub of its object, fed by the handle, and the streams and listeners on it. */
import { exitOf } from './container-exit.ts';
import type { Handle } from './container-handle.ts';
import type {
  CgroupEvent,
  ContainerEvent,
  OomEvent,
  PressureEvent,
  PressureLevel,
  PressureTrigger,
} from './events/event.ts';
import { EventHub, type Subscriber } from './events/hub.ts';
import { EventQueue, type EventStream } from './events/stream.ts';

export interface EventOptions {
  /** Aborting rejects a pending `next()` with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal;
  /** PSI triggers, cgroup v2 only. Each gives `pressure` events. */
  readonly pressure?: readonly PressureTrigger[];
  /** Memory pressure level, cgroup v1 only. */
  readonly pressureLevel?: PressureLevel;
}

const hubs = new WeakMap<Handle, EventHub>();

/** The events that come from cgroups, as names of the emitter. */
export const cgroupEventNames: ReadonlySet<string> = new Set<CgroupEvent['type']>([
  'oom',
  'memory',
  'pressure',
  'pidsMax',
  'frozen',
  'thawed',
  'empty',
]);

function hubOf(handle: Handle): EventHub {
  const present = hubs.get(handle);
  if (present !== undefined) return present;
  const hub = new EventHub(handle.binding, handle.manager);
  hubs.set(handle, hub);
  const { emitter } = handle;
  const created = (): void => hub.arm('zero');
  const stopped = (): void => {
    hub.stopped();
    // Another process is the parent of that init: no `exit` event of the emitter will follow.
    // destroy() waits for it: the count goes with the cgroup.
    if (handle.init === undefined)
      handle.reporting = Promise.all([handle.reporting, foreignExit(handle, hub)]).then(() => undefined);
  };
  emitter.on('created', created);
  emitter.on('started', created);
  emitter.on('exit', event =>
    hub.exit({
      type: 'exit',
      pid: event.process.pid ?? 0,
      init: event.init,
      status: event.status,
      oomKilled: event.oomKilled,
    }),
  );
  emitter.on('stopped', stopped);
  handle.closers.add(() => {
    hub.close(handle.destroyed);
    hubs.delete(handle);
  });
  return hub;
}

async function foreignExit(handle: Handle, hub: EventHub): Promise<void> {
  const pid = handle.record?.init_process_pid ?? 0;
  const { status, oomKilled } = await exitOf(handle, handle.kernelExit);
  hub.exit({ type: 'exit', pid, init: true, status, oomKilled });
}

function isOver(handle: Handle): boolean {
  if (handle.init !== undefined) return handle.init.exitStatus !== undefined;
  const { init_process_pid: pid = 0, init_process_start: start = 0 } = handle.record ?? {};
  return pid !== 0 && handle.binding.startTime(pid) !== BigInt(start);
}

function subscribe(handle: Handle, subscriber: Subscriber): void {
  const hub = hubOf(handle);
  hub.add(subscriber);
  if (handle.record === undefined) return; // armed when it starts
  hub.arm('present');
  // Asked for after the end: there is nothing to come.
  if (isOver(handle)) {
    hub.remove(subscriber);
    subscriber.end();
  } else handle.watchStop();
}

function stream<E extends ContainerEvent>(
  handle: Handle,
  accepts: (event: ContainerEvent) => event is E,
  { signal, pressure = [], pressureLevel: level }: EventOptions,
): EventStream<E> {
  signal?.throwIfAborted();
  const queue = new EventQueue<E>(accepts, () => hubs.get(handle)?.remove(subscriber), signal);
  const subscriber: Subscriber = {
    pressure,
    level,
    receive: event => {
      queue.receive(event);
      // The thresholds are this stream's, but who listens on the container wants to know too.
      if (event.type === 'pressure') handle.emitter.emit('pressure', event);
    },
    end: () => queue.finish(),
    fail: error => queue.fail(error),
  };
  if (handle.destroyed) queue.finish();
  else {
    try {
      subscribe(handle, subscriber);
    } catch (error) {
      queue.finish();
      throw error;
    }
  }
  return queue;
}

const isAny = (event: ContainerEvent): event is ContainerEvent => event !== undefined;
const isOom = (event: ContainerEvent): event is OomEvent => event.type === 'oom';
const isPressure = (event: ContainerEvent): event is PressureEvent => event.type === 'pressure';

export const containerEvents = (handle: Handle, options: EventOptions): EventStream<ContainerEvent> =>
  stream(handle, isAny, options);

export const oomEvents = (
  handle: Handle,
  options: { readonly signal?: AbortSignal },
): EventStream<OomEvent> => stream(handle, isOom, options);

export const pressureEvents = (
  handle: Handle,
  trigger: PressureLevel | Omit<PressureTrigger, 'resource'>,
  options: { readonly signal?: AbortSignal },
): EventStream<PressureEvent> =>
  stream(
    handle,
    isPressure,
    typeof trigger === 'string'
      ? { ...options, pressureLevel: trigger }
      : { ...options, pressure: [{ ...trigger, resource: 'memory' }] },
  );

const listeners = new WeakMap<Handle, Subscriber>();

/** Watches the cgroups while the emitter has a listener for one of their events. */
export function followListeners(handle: Handle): void {
  const wanted = [...cgroupEventNames].some(
    name => handle.emitter.listenerCount(name as CgroupEvent['type']) > 0,
  );
  const present = listeners.get(handle);
  if (!wanted && present !== undefined) {
    listeners.delete(handle);
    hubs.get(handle)?.remove(present);
  }
  if (!wanted || present !== undefined || handle.destroyed) return;
  const subscriber: Subscriber = {
    pressure: [],
    level: undefined,
    receive: event => {
      if (event.type !== 'exit' && event.type !== 'pressure') emitCgroupEvent(handle, event);
    },
    end: () => listeners.delete(handle),
    fail: error => {
      listeners.delete(handle);
      // The container runs all the same; there is no call to reject.
      process.emitWarning(error instanceof Error ? error : String(error));
    },
  };
  listeners.set(handle, subscriber);
  subscribe(handle, subscriber);
}

function emitCgroupEvent(handle: Handle, event: CgroupEvent): void {
  // One key at a time: eventemitter3's types cannot follow a union through emit().
  const emit = handle.emitter.emit.bind(handle.emitter) as (name: string, event: CgroupEvent) => boolean;
  emit(event.type, event);
  // A once() listener has left by itself.
  followListeners(handle);
}
