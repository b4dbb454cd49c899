/**
 * One service: a container that is started, watched, and started again as its policy says. Each operation waits for the one
 * before it; a stop interrupts a start and the pause between two starts.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Container,
  ContainerError,
  type ContainerEvent,
  type ContainerExit,
  explainPlan,
  type LinuxFactory,
  Process,
} from '../../lib/index.ts';
import { containerConfig } from '../container-config.ts';
import type { Definition } from './definition.ts';
import type { Log } from './log.ts';
import { type Sample, samples } from './sample.ts';
import { readReport, type StartReport } from './start-report.ts';

export type Phase = 'stopped' | 'starting' | 'running' | 'stopping' | 'waiting';
export type Action = 'start' | 'stop' | 'restart' | 'kill';
/** What happened, for the event stream of the dashboard. */
export interface Incident {
  readonly service: string;
  readonly at: number;
  readonly kind:
    | 'started'
    | 'adopted'
    | 'exited'
    | 'oom'
    | 'limit'
    | 'frozen'
    | 'thawed'
    | 'waiting'
    | 'error';
  readonly text: string;
}
export interface Listener {
  changed(service: Service): void;
  sampled(service: Service, sample: Sample): void;
  happened(incident: Incident): void;
}
export interface ServiceOptions {
  /** Of its containers. */
  readonly id: string;
  readonly definition: Definition;
  readonly factory: LinuxFactory;
  readonly rootfs: string;
  readonly log: Log;
  /** Where the report of the last start is kept. */
  readonly reportPath: string;
  readonly sampleMs: number;
  readonly listener: Listener;
}

/** Annotations by which a later daemon knows its containers again. */
export const nameAnnotation = 'org.example.supervisor.service';
export const definitionAnnotation = 'org.example.supervisor.definition';

const longestPauseMs = 30_000;
/** After so long a run a failure is the first one again. */
const stableMs = 10_000;
const keptSamples = 180;

export class Service {
  readonly name: string;
  readonly log: Log;
  readonly history: Sample[] = [];
  readonly #options: ServiceOptions;
  phase: Phase = 'stopped';
  pid = 0;
  startedAt = 0;
  restarts = 0;
  oomKills = 0;
  lastExit: ContainerExit | undefined;
  report: StartReport | undefined;
  #container: Container | undefined;
  /** Aborted: it shall not run any more. */
  #interrupt = new AbortController();
  #running: Promise<void> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, options: ServiceOptions) {
    this.name = name;
    this.log = options.log;
    this.#options = options;
  }

  get definition(): Definition {
    return this.#options.definition;
  }

  /** Resolves when it is done: a start is done when it has been begun. */
  act(action: Action): Promise<void> {
    // It needs no turn: who is being stopped may be killed. What comes then is the policy's affair.
    if (action === 'kill') return this.#signal('KILL');
    // Before its turn: the start that it would wait for may take forever.
    if (action !== 'start') this.#interrupt.abort();
    const work = this.#last.then(async () => {
      if (action !== 'start') await this.#stop();
      if (action !== 'stop') this.#start();
    });
    this.#last = work.catch(() => undefined);
    return work;
  }

  /** Takes over what a former daemon has left, running or ended meanwhile. */
  async adopt(container: Container): Promise<void> {
    this.report = await readReport(this.#options.reportPath);
    this.#start(container);
  }

  #start(adopted?: Container): void {
    if (this.#running !== undefined) return;
    this.#interrupt = new AbortController();
    this.#running = this.#supervise(adopted).finally(() => {
      this.#running = undefined;
      this.#enter('stopped');
    });
  }

  async #stop(): Promise<void> {
    this.#interrupt.abort();
    const { stopSignal, stopTimeoutMs } = this.definition;
    let timer: NodeJS.Timeout | undefined;
    if (this.#container !== undefined) {
      this.#enter('stopping');
      await this.#signal(stopSignal);
      timer = setTimeout(() => void this.#signal('KILL'), stopTimeoutMs);
    }
    await this.#running;
    clearTimeout(timer);
  }

  get #isUnwanted(): boolean {
    return this.#interrupt.signal.aborted;
  }

  async #signal(signal: string): Promise<void> {
    try {
      await this.#container?.signal(signal);
    } catch (error) {
      // It has ended meanwhile, which is what was wanted.
      if (!(error instanceof ContainerError && error.code === 'ERR_CONTAINER_NOT_RUNNING')) this.#fail(error);
    }
  }

  async #supervise(adopted: Container | undefined): Promise<void> {
    let container = adopted;
    for (let failures = 0; ; failures += 1) {
      const began = Date.now();
      const exit = await this.#once(container).catch(error => this.#fail(error));
      container = undefined;
      if (this.#isUnwanted || !this.#isAgain(exit)) return;
      if (Date.now() - began >= stableMs) failures = 0;
      const pauseMs = Math.min(this.definition.backoffMs * 2 ** failures, longestPauseMs);
      this.#tell('waiting', `again in ${(pauseMs / 1000).toFixed(1)} s`);
      this.#enter('waiting');
      await delay(pauseMs, undefined, { signal: this.#interrupt.signal }).catch(() => undefined);
      if (this.#isUnwanted) return;
      this.restarts += 1;
    }
  }

  /** @param exit Undefined: it did not even start. */
  #isAgain(exit: ContainerExit | undefined): boolean {
    const { restart } = this.definition;
    const isGood = exit?.status.kind === 'exited' && exit.status.code === 0;
    return restart === 'always' || (restart === 'on-failure' && !isGood);
  }

  /** From a start, or from where a former daemon was, to the end. */
  async #once(adopted: Container | undefined): Promise<ContainerExit> {
    const container = adopted ?? (await this.#launch());
    try {
      // From here on a stop finds it; one that came before has not.
      this.#container = container;
      this.#interrupt.signal.throwIfAborted();
      const { init_process_pid: pid, created } = await container.state();
      this.pid = pid;
      this.startedAt = Date.parse(created);
      this.#tell(adopted === undefined ? 'started' : 'adopted', `pid ${pid}`);
      this.#enter('running');
      const exit = await this.#follow(container);
      this.lastExit = exit;
      if (exit.oomKilled) this.oomKills += 1;
      this.#tell('exited', howItEnded(exit));
      return exit;
    } finally {
      this.#container = undefined;
      this.pid = 0;
      await container.destroy({ force: true });
    }
  }

  async #launch(): Promise<Container> {
    this.#enter('starting');
    const { id, factory, definition, rootfs, log, reportPath } = this.#options;
    const annotations = { [nameAnnotation]: this.name, [definitionAnnotation]: JSON.stringify(definition) };
    const config = await containerConfig({ ...definition, rootfs, hostname: this.name, annotations });
    const process = new Process({ args: definition.args, stdout: log.fd, stderr: log.fd });
    const container = await factory.create(id, config);
    try {
      const { steps } = explainPlan(await container.plan(process));
      const began = performance.now();
      await container.run(process, { signal: this.#interrupt.signal });
      const durationMs = performance.now() - began;
      const durationsNs = steps.map((_, index) => process.durationsNs[index] ?? 0);
      this.report = {
        durationMs,
        steps: steps.map((step, at) => ({ ...step, durationNs: durationsNs[at] ?? 0 })),
      };
      await writeFile(reportPath, JSON.stringify(this.report));
      return container;
    } catch (error) {
      await container.destroy({ force: true });
      throw error;
    }
  }

  async #follow(container: Container): Promise<ContainerExit> {
    const ended = new AbortController();
    const watching = Promise.all([
      this.#watch(container, ended.signal),
      this.#sample(container, ended.signal),
    ]);
    try {
      return await container.wait();
    } finally {
      ended.abort();
      await watching;
    }
  }

  async #watch(container: Container, signal: AbortSignal): Promise<void> {
    try {
      for await (const event of container.events({ signal })) {
        const told = incidentOf(event);
        if (told !== undefined) this.#tell(...told);
      }
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  async #sample(container: Container, signal: AbortSignal): Promise<void> {
    try {
      for await (const sample of samples(container, this.#options.sampleMs, signal)) {
        this.history.push(sample);
        this.history.splice(0, Math.max(0, this.history.length - keptSamples));
        this.#options.listener.sampled(this, sample);
      }
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  #enter(phase: Phase): void {
    this.phase = phase;
    this.#options.listener.changed(this);
  }

  #tell(kind: Incident['kind'], text: string): void {
    this.#options.listener.happened({ service: this.name, at: Date.now(), kind, text });
  }

  #fail(error: unknown): undefined {
    // Who asked for a stop knows why the start did not come to its end.
    if (this.#isUnwanted && error === this.#interrupt.signal.reason) return undefined;
    this.#tell('error', error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

function incidentOf(event: ContainerEvent): [Incident['kind'], string] | undefined {
  switch (event.type) {
    case 'oom':
      return ['oom', `out of memory, ${event.kills} killed so far`];
    case 'pidsMax':
      return ['limit', `limit of processes reached, ${event.count} forks refused`];
    case 'frozen':
    case 'thawed':
      return [event.type, ''];
    default:
      return undefined;
  }
}

export function howItEnded({ status, oomKilled }: ContainerExit): string {
  const how =
    status.kind === 'exited'
      ? `status ${status.code}`
      : status.kind === 'signaled'
        ? `signal ${status.signal}`
        : 'nobody knows how';
  return oomKilled ? `${how}, out of memory` : how;
}
