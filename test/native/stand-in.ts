/** The addon with a scripted init (stand-in.c): a test says which frames the spawner gets and sees which events come. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type Binding,
  binding,
  type JobEvent,
  type SpawnHandle,
  type SpawnJob,
} from '../../lib/native/binding.ts';
import { within } from '../harness/deadline.ts';

function repository(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** The scripted init, compiled when its source is newer. */
export function standInPath(): string {
  const source = join(repository(), 'test/native/stand-in.c');
  const output = join(repository(), 'build/test/stand-in');
  if (existsSync(output) && statSync(output).mtimeMs > statSync(source).mtimeMs) return output;
  mkdirSync(dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}`;
  execFileSync('gcc', ['-static', '-O1', '-Wall', '-o', fresh, source], { stdio: 'inherit' });
  renameSync(fresh, output);
  return output;
}

let configured: Binding | undefined;
export function addon(): Binding {
  if (configured === undefined) {
    configured = binding();
    configured.configure({ init: standInPath() });
  }
  return configured;
}

export type EventType = JobEvent['type'];
export type EventOf<T extends EventType> = Extract<JobEvent, { type: T }>;

/** One job and what became of it. */
export class Run {
  readonly events: JobEvent[] = [];
  readonly handle: SpawnHandle;
  readonly #waiting = new Map<EventType, (event: JobEvent) => void>();
  readonly #output: number;
  readonly done: Promise<JobEvent[]>;

  constructor(script: readonly string[], job: Partial<SpawnJob> = {}) {
    const [read, write] = addon().pipe();
    this.#output = read;
    let finish: (events: JobEvent[]) => void = () => undefined;
    this.done = new Promise(resolve => {
      finish = resolve;
    });
    try {
      this.handle = addon().spawn(
        {
          before: [],
          plan: Buffer.from(script.join('\n')),
          cloneFlags: 0,
          stdio: [0, write, 2],
          preserved: [],
          slots: [],
          askReady: false,
          faults: false,
          ...job,
        },
        event => {
          this.events.push(event);
          this.#waiting.get(event.type)?.(event);
          const last = event.type === 'failed' && (event.stage === 'prepare' || event.stage === 'spawn');
          if (event.type === 'exit' || last) finish(this.events);
        },
      );
    } finally {
      addon().close(write);
    }
  }

  event<T extends EventType>(type: T): Promise<EventOf<T>> {
    const known = this.events.find(event => event.type === type);
    const coming = new Promise<JobEvent>(resolve => {
      if (known !== undefined) resolve(known);
      else this.#waiting.set(type, resolve);
    });
    return within(coming, `event ${type}`) as Promise<EventOf<T>>;
  }

  /** All events, once the child is gone; the types in order are what most tests look at. */
  async end(): Promise<JobEvent[]> {
    return within(this.done, 'end of the job');
  }

  async types(): Promise<EventType[]> {
    return (await this.end()).map(event => event.type);
  }

  /** Everything the child wrote to its stdout; after the end only. */
  async output(): Promise<string> {
    await this.end();
    try {
      return readFileSync(this.#output, 'utf8');
    } finally {
      addon().close(this.#output);
    }
  }

  /** For those who do not look at the output. */
  async close(): Promise<void> {
    await this.end();
    addon().close(this.#output);
  }
}

/** Descriptors of this process: number → what it is. */
export function descriptors(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      found.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch (error) {
      // The one that reads the directory is gone by now.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}
