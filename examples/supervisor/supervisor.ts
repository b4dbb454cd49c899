/**
 * All services of a directory. Containers live on when the daemon is killed; the next one finds them by their annotations and
 * takes them over. One daemon at a time.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { busyboxRootfs, LinuxFactory } from '../../lib/index.ts';
import type { Definition } from './definition.ts';
import { Log } from './log.ts';
import type { Sample } from './sample.ts';
import { definitionAnnotation, type Incident, nameAnnotation, Service } from './service.ts';

export type News =
  | { readonly type: 'service'; readonly service: Service }
  | { readonly type: 'sample'; readonly service: string; readonly sample: Sample }
  | { readonly type: 'incident'; readonly incident: Incident }
  | { readonly type: 'line'; readonly service: string; readonly line: string };

export interface SupervisorOptions {
  /** State of the containers, logs, root file system. On a file system whose programs may be executed. */
  readonly directory: string;
  /** Default 1000. */
  readonly sampleMs?: number;
}

const keptIncidents = 200;

export class Supervisor {
  readonly services = new Map<string, Service>();
  /** The last of them, oldest first. */
  readonly incidents: Incident[] = [];
  readonly #listeners = new Set<(news: News) => void>();
  readonly #factory: LinuxFactory;
  readonly #options: SupervisorOptions;
  readonly #lock: Server;

  private constructor(options: SupervisorOptions, lock: Server) {
    this.#options = options;
    this.#lock = lock;
    this.#factory = new LinuxFactory({ root: join(options.directory, 'state') });
  }

  /** Starts what is not running yet. */
  static async open(
    definitions: ReadonlyMap<string, Definition>,
    options: SupervisorOptions,
  ): Promise<Supervisor> {
    await mkdir(join(options.directory, 'logs'), { recursive: true, mode: 0o700 });
    const supervisor = new Supervisor(options, await lockDirectory(options.directory));
    for (const [name, definition] of definitions) await supervisor.#add(name, definition);
    const adopted = await supervisor.#adopt();
    for (const service of supervisor.services.values()) if (!adopted.has(service)) void service.act('start');
    return supervisor;
  }

  /** @returns Stops listening. */
  listen(listener: (news: News) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends every container; nothing of them is left but their logs. */
  async close(): Promise<void> {
    const services = [...this.services.values()];
    await Promise.all(services.map(service => service.act('stop')));
    await Promise.all(services.map(service => service.log.close()));
    this.#lock.close();
  }

  async #add(name: string, definition: Definition): Promise<void> {
    const { directory, sampleMs = 1000 } = this.#options;
    const log = await Log.open(join(directory, 'logs', `${name}.log`), line =>
      this.#tell({ type: 'line', service: name, line }),
    );
    const service = new Service(name, {
      // Cgroups have it as their name, on the whole machine: the services of another directory may be called the same.
      id: `${name}-${hashOf(directory).slice(0, 8)}`,
      definition,
      factory: this.#factory,
      rootfs: definition.rootfs ?? (await busyboxIn(directory)),
      log,
      reportPath: join(directory, 'logs', `${name}.start.json`),
      sampleMs,
      listener: {
        changed: changed => this.#tell({ type: 'service', service: changed }),
        sampled: (_, sample) => this.#tell({ type: 'sample', service: name, sample }),
        happened: incident => {
          this.incidents.push(incident);
          this.incidents.splice(0, Math.max(0, this.incidents.length - keptIncidents));
          this.#tell({ type: 'incident', incident });
        },
      },
    });
    this.services.set(name, service);
  }

  /** What a daemon before us has left: ours again, or removed when the file wants something else now. */
  async #adopt(): Promise<ReadonlySet<Service>> {
    const adopted = new Set<Service>();
    await this.#factory.reconcile();
    for (const { id, annotations } of await this.#factory.list()) {
      const service = this.services.get(annotations[nameAnnotation] ?? '');
      const isSame = annotations[definitionAnnotation] === JSON.stringify(service?.definition);
      if (service === undefined || !isSame) await this.#factory.destroy(id, { force: true });
      else {
        await service.adopt(await this.#factory.load(id));
        adopted.add(service);
      }
    }
    return adopted;
  }

  #tell(news: News): void {
    for (const listener of this.#listeners) listener(news);
  }
}

const hashOf = (directory: string): string => createHash('sha256').update(directory).digest('hex');

async function busyboxIn(directory: string): Promise<string> {
  const path = join(directory, 'rootfs');
  return existsSync(path) ? path : busyboxRootfs(path);
}

/** A name in the abstract namespace, unix(7): one process has it, and it is free as soon as that process is gone. */
async function lockDirectory(directory: string): Promise<Server> {
  const server = createServer();
  try {
    // The directory itself can be too long for such a name.
    server.listen(`\0supervisor:${hashOf(directory)}`);
    await once(server, 'listening');
  } catch (cause) {
    throw new Error(`another supervisor works in ${directory}`, { cause });
  }
  return server;
}
