/** LinuxFactory: makes, finds and lists the containers of one state root. */
import type { Config } from './config/config.ts';
import type { Container } from './container.ts';
import type { Status } from './lifecycle.ts';

export interface FactoryOptions {
  /** State root. Default `/run/libcontainer`. */
  readonly root?: string;
  /** How long an operation waits for the container's lock, in milliseconds. Default 10000. */
  readonly lockTimeoutMs?: number;
}

export interface CreateOptions {
  readonly signal?: AbortSignal;
  /** Host socket (path or @abstract) of sd_notify: the container gets its own NOTIFY_SOCKET, whose messages are forwarded. */
  readonly notifySocket?: string;
}

/** A row of `list()`. A broken entry has `status: 'corrupt'` and the error. */
export interface ContainerSummary {
  readonly id: string;
  readonly status: Status | 'corrupt';
  readonly pid: number;
  readonly bundle: string;
  readonly rootfs: string;
  readonly created: string;
  readonly annotations: { readonly [name: string]: string };
  /** uid. */
  readonly owner: number;
  readonly error?: unknown;
}

const soon = (): never => {
  throw new Error('not built yet');
};

export class LinuxFactory {
  readonly root: string;
  constructor(options: FactoryOptions = {}) {
    this.root = options.root ?? '/run/libcontainer';
  }
  /**
   * A container without a process: nothing is made on disk before `start` or `run`.
   * @throws {ContainerError} `ERR_ID_INVALID`, `ERR_CONTAINER_EXISTS`
   */
  async create(_id: string, _config: Config, _options?: CreateOptions): Promise<Container> {
    return soon();
  }
  /** @throws {ContainerError} `ERR_CONTAINER_NOT_EXIST`, `ERR_STATE_CORRUPT` */
  async load(_id: string): Promise<Container> {
    return soon();
  }
  async list(): Promise<ContainerSummary[]> {
    return soon();
  }
}
