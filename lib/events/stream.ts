/** Events as an async iterable: queued from the moment of the call, so that nothing is lost before the first `next()`. */
import type { ContainerEvent } from './event.ts';

/**
 * Iterate it, or use `next()`; `return()`, a `break` of the loop, `await using` and the AbortSignal all stop it and give
 * back what it holds. It ends by itself when the container has stopped and its cgroups are empty.
 */
export interface EventStream<E> extends AsyncIterableIterator<E>, AsyncDisposable {
  [Symbol.asyncIterator](): EventStream<E>;
}

export class EventQueue<E extends ContainerEvent> implements EventStream<E> {
  readonly #accepts: (event: ContainerEvent) => event is E;
  readonly #stop: () => void;
  readonly #signal: AbortSignal | undefined;
  #events: E[] = [];
  #waiting: {
    readonly resolve: (result: IteratorResult<E>) => void;
    readonly reject: (error: unknown) => void;
  }[] = [];
  #over = false;
  #failure: { readonly error: unknown } | undefined;

  /** @param stop leaves the hub; called once */
  constructor(
    accepts: (event: ContainerEvent) => event is E,
    stop: () => void,
    signal: AbortSignal | undefined,
  ) {
    this.#accepts = accepts;
    this.#stop = stop;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort, { once: true });
  }

  readonly #abort = (): void => {
    this.#events = [];
    this.fail(this.#signal?.reason);
  };

  fail(error: unknown): void {
    if (this.#over) return;
    this.#failure = { error };
    this.finish();
  }

  receive(event: ContainerEvent): void {
    if (this.#over || !this.#accepts(event)) return;
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#events.push(event);
    else waiter.resolve({ done: false, value: event });
  }

  /** What is queued can still be read. */
  finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#stop();
    const failure = this.#failure;
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (failure === undefined) resolve({ done: true, value: undefined });
      else reject(failure.error);
    }
  }

  next(): Promise<IteratorResult<E>> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    const failure = this.#failure;
    if (failure !== undefined) return Promise.reject(failure.error);
    if (this.#over) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<E>> {
    this.#events = [];
    this.#failure = undefined;
    this.finish();
    return Promise.resolve({ done: true, value: undefined });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): EventStream<E> {
    return this;
  }
}
