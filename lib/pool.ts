/**
 * A warm pool: containers whose init has done everything but the execve and waits for its command. What a start costs is
 * paid before anybody waits for it.
 */
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import type { Config } from './config/config.ts';
import type { Command, Container, PreparedProcess } from './container.ts';
import { LibcontainerError } from './errors.ts';
import { Process } from './process.ts';

export interface PoolOptions {
  /** How many containers wait. */
  readonly size: number;
  /** Of each; as in CreateOptions. Default `'owner'`: those that wait must not outlive this process. */
  readonly lifetime?: 'container' | 'owner';
  /** Beginning of the IDs. Default `pool-`. */
  readonly idPrefix?: string;
}

/** One container of a pool, which its taker has to itself. Disposing of it destroys it. */
export interface TakenContainer extends AsyncDisposable {
  readonly container: Container;
  /** All three streams are pipes; they exist already. */
  readonly process: Process;
  /**
   * Executes the command; resolves when it runs. Once.
   * @throws as `Container.run()`; the container is then of no more use
   */
  run(command: Command): Promise<Process>;
}

interface Ready {
  readonly container: Container;
  readonly prepared: PreparedProcess;
  /** It was killed while it waited. */
  ended: boolean;
}

type Create = (id: string, lifetime: 'container' | 'owner') => Promise<Container>;

/** More at the same time are not quicker: the kernel's locks of cgroups and mounts are taken one by one. */
const mostAtOnce = 2;

/** Made by `LinuxFactory.pool()`. */
export class Pool implements AsyncDisposable {
  readonly #create: Create;
  readonly #config: Config;
  readonly #options: Required<PoolOptions>;
  readonly #ready: Ready[] = [];
  readonly #takers: { readonly give: (ready: Ready) => void; readonly fail: (error: unknown) => void }[] = [];
  readonly #making = new Set<Promise<void>>();
  #closed = false;

  /** @internal */
  constructor(create: Create, config: Config, { size, lifetime = 'owner', idPrefix = 'pool-' }: PoolOptions) {
    if (!Number.isSafeInteger(size) || size < 1)
      throw new LibcontainerError('ERR_ARGUMENT', { detail: `size is ${size}, not an integer from 1 on` });
    this.#create = create;
    this.#config = config;
    this.#options = { size, lifetime, idPrefix };
    this.#fill();
  }

  /** How many containers wait now. */
  get ready(): number {
    return this.#ready.filter(({ ended }) => !ended).length;
  }

  /** Resolves when the pool is full. @throws what making a container threw */
  async full(): Promise<void> {
    while (!this.#closed && this.#ready.length < this.#options.size) {
      this.#fill();
      await Promise.race(this.#making);
    }
  }

  /**
   * A container of the pool: at once when one waits, else as soon as one is made.
   * @throws {LibcontainerError} ERR_POOL_CLOSED; what making a container threw
   */
  async take(): Promise<TakenContainer> {
    if (this.#closed) throw new LibcontainerError('ERR_POOL_CLOSED');
    let ready = this.#ready.shift();
    while (ready?.ended === true) {
      void discarded(ready).catch(() => undefined);
      ready = this.#ready.shift();
    }
    const taken = ready ?? (await this.#next());
    // Not in this turn: who has taken one wants to use it.
    setImmediate(() => this.#fill());
    holdsLoop(taken.prepared.process, true);
    return new Taken(taken);
  }

  /** Destroys the containers that wait; those that were taken belong to their takers. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { fail } of this.#takers.splice(0)) fail(new LibcontainerError('ERR_POOL_CLOSED'));
    await Promise.allSettled(this.#making);
    const left = this.#ready.splice(0).map(ready => discarded(ready));
    const failed = (await Promise.allSettled(left)).filter(result => result.status === 'rejected');
    if (failed[0] !== undefined) throw failed[0].reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #next(): Promise<Ready> {
    return new Promise((give, fail) => {
      this.#takers.push({ give, fail });
      this.#fill();
    });
  }

  #fill(): void {
    while (
      !this.#closed &&
      this.#making.size < mostAtOnce &&
      this.#ready.length + this.#making.size < this.#options.size + this.#takers.length
    ) {
      const making: Promise<void> = this.#make().finally(() => this.#making.delete(making));
      this.#making.add(making);
      making.then(
        () => this.#fill(),
        // Not tried again by itself: what failed once would fail for ever. The next take() or full() tries.
        error => this.#takers.shift()?.fail(error),
      );
    }
  }

  async #make(): Promise<void> {
    const { lifetime, idPrefix } = this.#options;
    const container = await this.#create(`${idPrefix}${randomBytes(8).toString('hex')}`, lifetime);
    const pipes = { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' } as const;
    const process = new Process({ ...this.#config.process, ...pipes, args: [], program: 'late' });
    const ready: Ready = { container, prepared: await container.prepare(process), ended: false };
    // One that waits must not keep this process alive.
    holdsLoop(process, false);
    void process.wait().then(() => {
      ready.ended = true;
    });
    if (this.#closed) return discarded(ready);
    const taker = this.#takers.shift();
    if (taker === undefined) this.#ready.push(ready);
    else taker.give(ready);
  }
}

/** The process, and its pipes: a socket that could be read from is waited for as well. */
function holdsLoop(first: Process, held: boolean): void {
  for (const one of [first, first.stdin, first.stdout, first.stderr])
    if (one instanceof Process || one instanceof Socket) held ? one.ref() : one.unref();
}

/** Who destroys it waits for its end. */
function discarded({ container, prepared }: Ready): Promise<void> {
  holdsLoop(prepared.process, true);
  return destroyed(container);
}

async function destroyed(container: Container): Promise<void> {
  await container.destroy({ force: true });
  await container[Symbol.asyncDispose]();
}

class Taken implements TakenContainer {
  readonly container: Container;
  readonly process: Process;
  readonly #prepared: PreparedProcess;

  constructor({ container, prepared }: Ready) {
    this.container = container;
    this.process = prepared.process;
    this.#prepared = prepared;
  }

  async run(command: Command): Promise<Process> {
    await this.#prepared.release(command);
    return this.process;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await destroyed(this.container);
  }
}
