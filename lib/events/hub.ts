/**
 * The events of one container: its cgroups are watched once, however many listen, from the first subscriber to the last.
 * Before the container has started there is nothing to watch: `arm()` is called when there is.
 */
import type { CgroupManager } from '../cgroups/manager.ts';
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { CgroupEvent, ContainerEvent, ExitEvent, PressureLevel, PressureTrigger } from './event.ts';
import type { Source } from './source.ts';
import { pressureLevelSource, v1Sources } from './v1.ts';
import { pressureSource, v2Sources } from './v2.ts';

export interface Subscriber {
  readonly pressure: readonly PressureTrigger[];
  readonly level: PressureLevel | undefined;
  receive(event: ContainerEvent): void;
  /** Nothing more will come. */
  end(): void;
  /** Nothing more will come, since the kernel refused to watch: thresholds, or too many open files. */
  fail(error: unknown): void;
}

interface Entry {
  readonly sources: Source[];
}

export class EventHub {
  readonly #binding: Binding;
  readonly #manager: CgroupManager;
  readonly #subscribers = new Map<Subscriber, Entry>();
  #sources: Source[] | undefined;
  #empty = false;
  #stopped = false;
  #exited = false;
  #leaving: Source | undefined;

  constructor(binding: Binding, manager: CgroupManager) {
    this.#binding = binding;
    this.#manager = manager;
  }

  get isIdle(): boolean {
    return this.#subscribers.size === 0;
  }

  /** @throws {LibcontainerError} ERR_UNSUPPORTED: pressure in the form of the other layout */
  add(subscriber: Subscriber): void {
    const entry: Entry = { sources: [] };
    this.#refuse(subscriber);
    this.#subscribers.set(subscriber, entry);
    if (this.#sources !== undefined) this.#armPressure(subscriber, entry);
  }

  remove(subscriber: Subscriber): void {
    for (const source of this.#subscribers.get(subscriber)?.sources ?? []) source.close();
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size === 0) this.#disarm();
  }

  #refuse({ pressure, level }: Subscriber): void {
    const v2 = this.#manager.layout === 'v2';
    if (!v2 && pressure.length > 0)
      throw new LibcontainerError('ERR_UNSUPPORTED', {
        detail: 'pressure triggers on cgroup v1',
        hint: 'PSI per cgroup is of cgroup v2; on v1 use the levels low, medium and critical',
      });
    if (v2 && level !== undefined)
      throw new LibcontainerError('ERR_UNSUPPORTED', {
        detail: `memory pressure level ${level} on cgroup v2`,
        hint: 'levels are of cgroup v1; on v2 use a trigger: { resource, kind, stallUs, windowUs }',
      });
  }

  /**
   * The container's cgroups are there.
   * @param baseline `zero`: the container has just started, and all that has been counted is news
   */
  arm(baseline: 'zero' | 'present'): void {
    if (this.#sources !== undefined || this.#subscribers.size === 0) return;
    // Set before the first event: what it tells may make a subscriber leave, and the last one disarms.
    const sources: Source[] = [];
    this.#sources = sources;
    try {
      sources.push(...this.#cgroupSources(baseline));
    } catch (error) {
      for (const subscriber of [...this.#subscribers.keys()]) this.#fail(subscriber, error);
    }
    if (this.#sources === sources)
      for (const [subscriber, entry] of [...this.#subscribers]) this.#armPressure(subscriber, entry);
    else for (const source of sources) source.close();
    // A container that has ended before its start was told.
    if (this.#stopped) void this.#waitEmpty();
  }

  #cgroupSources(baseline: 'zero' | 'present'): Source[] {
    const { paths, layout } = this.#manager;
    const emit = (event: CgroupEvent) => this.#emit(event);
    return layout === 'v2'
      ? v2Sources(this.#binding, paths[''] ?? '', emit, baseline)
      : v1Sources(this.#binding, paths, emit, baseline);
  }

  #armPressure(subscriber: Subscriber, entry: Entry): void {
    const { paths, layout } = this.#manager;
    const emit = (event: CgroupEvent) => this.#emit(event, subscriber);
    try {
      if (layout === 'v2') {
        for (const trigger of subscriber.pressure)
          entry.sources.push(pressureSource(this.#binding, paths[''] ?? '', trigger, emit));
      } else if (subscriber.level !== undefined)
        entry.sources.push(pressureLevelSource(this.#binding, paths.memory, subscriber.level, emit));
    } catch (error) {
      this.#fail(subscriber, error);
    }
  }

  #fail(subscriber: Subscriber, error: unknown): void {
    this.remove(subscriber);
    subscriber.fail(error);
  }

  #emit(event: ContainerEvent, only?: Subscriber): void {
    if (event.type === 'empty') {
      if (this.#empty) return;
      this.#empty = true;
      // v2 may tell this before the end of init is known here. In the order of what happened, for every listener.
      if (!this.#exited) return;
    }
    for (const subscriber of only === undefined ? [...this.#subscribers.keys()] : [only])
      subscriber.receive(event);
    this.#endWhenOver();
  }

  /** init is gone: at once what was counted, since the cgroups may be removed in the next turn. */
  stopped(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const source of this.#sources ?? []) source.flush();
    if (this.#sources !== undefined) void this.#waitEmpty();
  }

  exit(event: ExitEvent): void {
    if (event.init) this.#exited = true;
    const held = this.#empty;
    this.#empty = false;
    this.#emit(event);
    if (held) this.#emit({ type: 'empty' });
  }

  /** The cgroups are removed, or the object is closed. */
  close(removed: boolean): void {
    for (const source of this.#sources ?? []) source.flush();
    if (removed && this.#stopped && !this.#empty) this.#emit({ type: 'empty' });
    this.#end();
  }

  /**
   * v2 tells by itself when it is not empty already. v1 has no event for the last process: the end of one that is left is
   * waited for, then it is looked again.
   */
  async #waitEmpty(): Promise<void> {
    for (;;) {
      const [pid] = await this.#manager.pids();
      if (this.#sources === undefined) return;
      if (pid === undefined) break;
      if (this.#manager.layout === 'v2') return;
      const start = this.#binding.startTime(pid);
      const pidfd = start === null ? -1 : this.#binding.pidfdOpen(pid, start);
      if (pidfd >= 0) await this.#processEnd(pidfd);
      // A zombie that its parent has not reaped is still listed: the next turn of the loop, not this one, sees it gone.
      else await new Promise(resolve => setTimeout(resolve, 5));
      if (this.#sources === undefined) return;
    }
    this.#emit({ type: 'empty' });
  }

  #processEnd(pidfd: number): Promise<void> {
    return new Promise(resolve => {
      const finish = (): void => {
        watch.close();
        this.#binding.close(pidfd);
        this.#leaving = undefined;
        resolve();
      };
      const watch = this.#binding.pidfdWatch(pidfd, finish);
      this.#leaving = { flush: () => undefined, close: finish };
    });
  }

  #endWhenOver(): void {
    if (this.#exited && this.#empty) this.#end();
  }

  #end(): void {
    const subscribers = [...this.#subscribers.keys()];
    for (const subscriber of subscribers) {
      this.remove(subscriber);
      subscriber.end();
    }
    this.#disarm();
  }

  #disarm(): void {
    for (const source of this.#sources ?? []) source.close();
    this.#sources = undefined;
    this.#leaving?.close();
  }
}
