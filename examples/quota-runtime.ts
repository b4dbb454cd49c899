/**
 * A higher-level runtime: a factory with a rule of its own. Each tenant has a budget of memory and processes; a container gets
 * its share of it or is refused, carries its tenant as an annotation, and gives its share back when it is destroyed.
 *
 * In a program of yours the import is from 'libcontainer'.
 */
import {
  type Config,
  type Container,
  type CreateOptions,
  type FactoryOptions,
  LinuxFactory,
} from '../lib/index.ts';

export interface Quota {
  readonly memoryBytes: number;
  readonly pids: number;
}

const annotation = 'org.example.tenant';

export class QuotaFactory extends LinuxFactory {
  readonly #quotas: ReadonlyMap<string, Quota>;
  readonly #used = new Map<string, Quota>();

  constructor(quotas: ReadonlyMap<string, Quota>, options: FactoryOptions = {}) {
    super(options);
    this.#quotas = quotas;
  }

  /** What the tenant's containers have together. */
  used(tenant: string): Quota {
    return this.#used.get(tenant) ?? { memoryBytes: 0, pids: 0 };
  }

  /** @param share Of the tenant's quota; the limits of the configuration count for nothing. */
  async createFor(
    tenant: string,
    id: string,
    config: Config,
    share: Quota,
    options: CreateOptions = {},
  ): Promise<Container> {
    // Before anything is awaited: of two that come at the same time one may be refused.
    this.#take(tenant, share);
    try {
      const { resources, annotations } = config;
      const limited: Config = {
        ...config,
        annotations: { ...annotations, [annotation]: tenant },
        resources: { ...resources, memory: { limit: share.memoryBytes }, pids: { limit: share.pids } },
      };
      const container = await this.create(id, limited, options);
      container.once('destroyed', () => this.#give(tenant, share));
      return container;
    } catch (error) {
      this.#give(tenant, share);
      throw error;
    }
  }

  /** The tenant's containers, also those of a former run of this program. */
  async tenants(tenant: string): Promise<string[]> {
    const rows = await this.list();
    return rows.filter(row => row.annotations[annotation] === tenant).map(row => row.id);
  }

  #take(tenant: string, { memoryBytes, pids }: Quota): void {
    const quota = this.#quotas.get(tenant);
    const used = this.used(tenant);
    if (quota === undefined) throw new Error(`${tenant} has no quota`);
    if (used.memoryBytes + memoryBytes > quota.memoryBytes || used.pids + pids > quota.pids)
      throw new Error(`${tenant} has not so much left`);
    this.#used.set(tenant, { memoryBytes: used.memoryBytes + memoryBytes, pids: used.pids + pids });
  }

  #give(tenant: string, { memoryBytes, pids }: Quota): void {
    const used = this.used(tenant);
    this.#used.set(tenant, { memoryBytes: used.memoryBytes - memoryBytes, pids: used.pids - pids });
  }
}
