/** LinuxFactory: makes, finds and lists the containers of one state root. */
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newCgroups, ownerOf, withIntelRdt } from './cgroups/open.ts';
import { newSystemdCgroups, recordedCgroups } from './cgroups/systemd/open.ts';
import type { Config } from './config/config.ts';
import { withHandlers } from './config/seccomp-handled.ts';
import { Container, type DestroyOptions } from './container.ts';
import { cgroupKeeper, Handle, type Root } from './container-handle.ts';
import { isHalfDestroyed, needsRecovery } from './container-recover.ts';
import { restoreFirst } from './container-restore.ts';
import type { RestoreOptions } from './criu/options.ts';
import { ContainerError, LibcontainerError } from './errors.ts';
import type { Status } from './lifecycle.ts';
import { binding } from './native/binding.ts';
import { type Logger, observed } from './observe.ts';
import { type Lifetime, leftoverRemoval } from './parent/init-process.ts';
import { joinsUserNamespace, withJoinedIds } from './parent/joined-ids.ts';
import type { SeccompHandlerOptions } from './parent/syscall-listener.ts';
import { Pool, type PoolOptions } from './pool.ts';
import type { Process } from './process.ts';
import { readRecord, statePath } from './state.ts';

export interface FactoryOptions {
  /** State root, made on the first start, mode 0711. Default `/run/libcontainer`; for others than root `$XDG_RUNTIME_DIR/libcontainer`. */
  readonly root?: string;
  /** How long an operation waits for the container's lock, in milliseconds. Default 10000. */
  readonly lockTimeoutMs?: number;
  /** Directory of the resctrl file system, for containers with linux.intelRdt. Default: where it is mounted. */
  readonly resctrlRoot?: string;
  /**
   * Whether a monitor process (one for all containers of this Node process, a few hundred kB) is the parent of the containers
   * that are started, so that their exit status outlives this process. Default true. False: they are this process's children,
   * for who is a subreaper and waits for them by itself; `oomKilled` is then not known of a unit that systemd has removed.
   */
  readonly monitor?: boolean;
  /** Hears of each operation and how long it took (`debug`), and of those that failed (`warn`). Default: nobody. */
  readonly logger?: Logger;
}

export interface CreateOptions {
  readonly signal?: AbortSignal;
  /** Host socket (path or @abstract) of sd_notify: the container gets its own NOTIFY_SOCKET, whose messages are forwarded. */
  readonly notifySocket?: string;
  /**
   * Functions that decide about system calls of the container's processes: of those that this object starts. Nobody else
   * can then execute a process in it (`nrunc exec` is refused), unless it loads the container with handlers of its own.
   */
  readonly seccompHandler?: SeccompHandlerOptions;
  /**
   * `'container'` (default): it lives on when this process ends. `'owner'`: it is killed and removed (processes, cgroups,
   * state) as soon as this process has ended, however that came; needs the factory's monitor, and no poststop hooks, which
   * nobody would run.
   */
  readonly lifetime?: 'container' | 'owner';
}

export interface LoadOptions {
  /** For processes that this object executes in the container. */
  readonly seccompHandler?: SeccompHandlerOptions;
  /** As in CreateOptions, for who executes a created container: the host's socket is not recorded. */
  readonly notifySocket?: string;
}

/** A row of `list()`. A broken entry has `status: 'corrupt'` and the error. */
export interface ContainerSummary {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: Status | 'corrupt';
  /** 0 when stopped. */
  readonly pid: number;
  readonly bundle: string;
  readonly rootfs: string;
  /** RFC 3339. */
  readonly created: string;
  readonly annotations: { readonly [name: string]: string };
  /** uid. */
  readonly owner: number;
  readonly error?: unknown;
}

/** Beside the other run-time files of someone who is not root, as runc has it. */
function defaultRoot(): string {
  const { XDG_RUNTIME_DIR: own = '' } = process.env;
  return process.geteuid?.() !== 0 && own !== '' ? resolve(own, 'libcontainer') : '/run/libcontainer';
}

const defaultLockTimeoutMs = 10_000;

/** runc's grammar, with the length that a file name may have. */
const idPattern = /^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,254}$/;

/** @throws {ContainerError} ERR_ID_INVALID, before any path is made of it (`..` as an ID erased a state root once: crun 1.8). */
function checkId(id: string): void {
  if (typeof id !== 'string' || !idPattern.test(id) || id === '.' || id === '..')
    throw new ContainerError('ERR_ID_INVALID', String(id), { detail: JSON.stringify(id) });
}

/** IDs that an object of this process stands for, whose directory is not made yet: root → id → handle. */
const reserved = new Map<string, Map<string, WeakRef<Handle>>>();

export class LinuxFactory {
  /** Absolute path of the state root. */
  readonly root: string;
  readonly #root: Root;
  readonly #monitor: boolean;

  /** @throws {LibcontainerError} `ERR_STATE_ROOT` for `/` or an empty path */
  constructor(options: FactoryOptions = {}) {
    const { root = defaultRoot(), lockTimeoutMs = defaultLockTimeoutMs } = options;
    this.root = isAbsolute(root) ? resolve(root) : resolve(process.cwd(), root);
    if (root === '' || this.root === '/')
      throw new LibcontainerError('ERR_STATE_ROOT', { detail: JSON.stringify(root) });
    this.#monitor = options.monitor ?? true;
    this.#root = makeRoot(this.root, lockTimeoutMs, options.resctrlRoot, options.logger);
  }

  /**
   * A container without a process. Nothing is made on disk before `start` or `run`; this object reserves the ID in this
   * process, the first start reserves it for all.
   * @throws {ContainerError} `ERR_ID_INVALID`, `ERR_CONTAINER_EXISTS`
   * @throws {LibcontainerError} `ERR_ID_MAP`, and {ConfigError} `ERR_SPEC_INVALID`: the maps of a user namespace that is joined
   * @throws {CgroupError} for a cgroupsPath or driver that cannot be used
   */
  async create(id: string, config: Config, options: CreateOptions = {}): Promise<Container> {
    return new Container(await this.#reserve(id, config, options));
  }

  /**
   * A container whose processes come out of a checkpoint (`Container.checkpoint()`, `runc checkpoint`). It has the mounts,
   * limits, hooks and namespaces of `config`, which must be those of the checkpointed one; prestart and createRuntime
   * hooks run when its namespaces are there. Resolves when it runs.
   * @param process Streams for the pipes that the container had as its stdio, a terminal or console socket for its terminal;
   *   what was executed and as whom comes out of the image.
   * @throws {CriuError} as `Container.checkpoint()`; `ERR_CRIU_IMAGE`: the mounts of the image are not those of `config`
   * @throws {ContainerError} as `create()` and `Container.start()`. Nothing is left behind.
   */
  async restore(id: string, config: Config, process: Process, options: RestoreOptions): Promise<Container> {
    const handle = await this.#reserve(id, config, {});
    try {
      await observed('restore', id, this.#root.logger, () => restoreFirst(handle, process, options));
    } catch (error) {
      this.#root.release(handle);
      throw error;
    }
    return new Container(handle);
  }

  /** An ID of this process's, until something is on disk. */
  async #reserve(id: string, config: Config, options: CreateOptions): Promise<Handle> {
    checkId(id);
    options.signal?.throwIfAborted();
    return observed('create', id, this.#root.logger, () => this.#create(id, config, options));
  }

  async #create(id: string, asked: Config, options: CreateOptions): Promise<Handle> {
    const config = joinsUserNamespace(asked) ? await withJoinedIds(this.#root.binding, asked) : asked;
    const lifetime = this.#lifetime(config, options);
    const directory = join(this.root, id);
    // Before the look at the ID: from there to its reservation there must be no turn.
    const unit = config.systemdCgroup ? await newSystemdCgroups(this.#root.binding, id, config) : undefined;
    const ids = reserved.get(this.root) ?? new Map<string, WeakRef<Handle>>();
    const taken = (): boolean => {
      const holder = ids.get(id)?.deref();
      // From its first start on the directory speaks for a container: another process may have destroyed it.
      return (holder !== undefined && holder.record === undefined) || existsSync(directory);
    };
    // What a crashed start of this ID has left must not hold the ID.
    if (taken() && (!(await this.#removeHalfMade(id)) || taken()))
      throw new ContainerError('ERR_CONTAINER_EXISTS', id);
    const { notifySocket, seccompHandler } = options;
    const wanted =
      seccompHandler === undefined ? config : withHandlers(config, Object.keys(seccompHandler.syscalls));
    const { binding: native, resctrl } = this.#root;
    const cgroups = unit ?? newCgroups(native, id, wanted, undefined, ownerOf(wanted));
    const manager = withIntelRdt(cgroups, id, wanted, { root: resctrl });
    const handle = new Handle(this.#root, id, directory, wanted, manager, {
      notifySocket,
      seccompHandler,
      lifetime,
    });
    reserved.set(this.root, ids.set(id, new WeakRef(handle)));
    return handle;
  }

  /**
   * Containers of one configuration that are ready but for their program: taking one and running it costs little more than
   * its execve. Filled in the background, from now on.
   * @throws {LibcontainerError} ERR_ARGUMENT
   * @example
   * await using pool = factory.pool(config, { size: 8 });
   * await using taken = await pool.take();
   * const process = await taken.run({ args: ['python3', '-c', code] });
   */
  pool(config: Config, options: PoolOptions): Pool {
    return new Pool((id, lifetime) => this.create(id, config, { lifetime }), config, options);
  }

  /** @throws {LibcontainerError} ERR_ARGUMENT, ERR_UNSUPPORTED */
  #lifetime(config: Config, { lifetime = 'container' }: CreateOptions): Lifetime {
    if (lifetime !== 'container' && lifetime !== 'owner')
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail: `lifetime is ${String(lifetime)}, not 'container' or 'owner'`,
      });
    if (lifetime === 'container') return this.#monitor ? 'container' : 'child';
    if (!this.#monitor)
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail: "lifetime 'owner' needs a factory with a monitor",
      });
    if (config.hooks.poststop.length > 0)
      throw new LibcontainerError('ERR_UNSUPPORTED', {
        detail: "hooks.poststop with lifetime 'owner': nobody is left to run them",
      });
    return lifetime;
  }

  /**
   * A container that this or another process made.
   * @throws {ContainerError} `ERR_ID_INVALID`, `ERR_CONTAINER_NOT_EXIST`, `ERR_STATE_CORRUPT`
   */
  async load(id: string, options: LoadOptions = {}): Promise<Container> {
    checkId(id);
    return new Container(this.#handle(id, options));
  }

  /**
   * `Container.destroy()` by ID. With `force` an ID that does not exist is no error, and a directory whose record is
   * missing or cannot be read is removed too (what it named cannot be known any more).
   * @throws as `load()` and `Container.destroy()`
   */
  async destroy(id: string, options: DestroyOptions = {}): Promise<void> {
    checkId(id);
    let handle: Handle;
    try {
      handle = this.#handle(id);
    } catch (error) {
      if (!(error instanceof ContainerError) || options.force !== true) throw error;
      const directory = join(this.root, id);
      if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() === true)
        rmSync(directory, { recursive: true });
      return;
    }
    await using container = new Container(handle);
    await container.destroy(options);
  }

  /**
   * Removes what starts have left whose process was killed meanwhile: half-made containers with their cgroups and
   * processes. A destroy that was begun is finished. In other containers that were made it finishes or takes back what was interrupted: limits, pausing, a signal.
   * `create` and `destroy` do it for their own ID.
   * @returns the IDs that were removed
   */
  async reconcile(): Promise<string[]> {
    const removed: string[] = [];
    for (const id of this.#ids()) {
      if (await this.#removeHalfMade(id)) removed.push(id);
      else await this.#recover(id);
    }
    if (existsSync(cgroupKeeper(this.#root).file)) {
      const { recoverCgroupOptions } = await import('./container-checkpoint.ts');
      await recoverCgroupOptions(this.#root);
    }
    return removed;
  }

  /** Finishes or takes back an operation on a container that was made. */
  async #recover(id: string): Promise<void> {
    try {
      const handle = this.#handle(id);
      // The lock does it. One that stays held says that its holder lives.
      if (needsRecovery(handle)) await handle.locked(async () => undefined, undefined, cloneMs);
    } catch (error) {
      const expected = ['ERR_CONTAINER_NOT_EXIST', 'ERR_CONTAINER_BUSY', 'ERR_STATE_CORRUPT'];
      if (!(error instanceof ContainerError && expected.includes(error.code))) throw error;
    }
  }

  async #removeHalfMade(id: string): Promise<boolean> {
    let handle: Handle;
    try {
      handle = this.#handle(id);
    } catch (error) {
      if (error instanceof ContainerError && error.code === 'ERR_CONTAINER_NOT_EXIST')
        return this.#removeAbandoned(id);
      // Corrupt: only who asks for force may decide that.
      return false;
    }
    const isHalfMade = handle.record?.init_process_pid === 0 && (await handle.live()).status === 'stopped';
    if (!isHalfMade && !isHalfDestroyed(handle) && !isOrphan(handle)) return false;
    await new Container(handle).destroy({ force: true });
    return true;
  }

  /**
   * A directory without a record. If its start lives after all and is only slow, it finds no directory for its record and
   * fails before it has made anything else; one whose record has come meanwhile is not empty, and stays.
   */
  async #removeAbandoned(id: string): Promise<boolean> {
    const directory = join(this.root, id);
    for (;;) {
      const stat = lstatSync(directory, { throwIfNoEntry: false });
      if (stat?.isDirectory() !== true || existsSync(statePath(directory))) return false;
      const leftMs = stat.ctimeMs + abandonedAfterMs - Date.now();
      if (leftMs <= 0) break;
      await delay(Math.min(leftMs, abandonedAfterMs));
    }
    try {
      await this.#root.binding.files(leftoverRemoval(directory), false);
      return true;
    } catch {
      return false;
    }
  }

  /** All containers of the root, by ID. A broken entry is a row of its own; it never hides the others. */
  async list(): Promise<ContainerSummary[]> {
    const rows: ContainerSummary[] = [];
    for (const id of this.#ids()) {
      try {
        rows.push(await summary(this.#handle(id)));
      } catch (error) {
        // Destroyed while we looked.
        if (
          error instanceof ContainerError &&
          error.code === 'ERR_CONTAINER_NOT_EXIST' &&
          !existsSync(join(this.root, id))
        )
          continue;
        rows.push(brokenRow(id, error));
      }
    }
    return rows;
  }

  #handle(id: string, options: LoadOptions = {}): Handle {
    const directory = join(this.root, id);
    const record = readRecord(id, directory);
    const manager = withIntelRdt(recordedCgroups(this.#root.binding, record), id, record.config, {
      root: this.#root.resctrl,
      made: record.intel_rdt_made ?? false,
    });
    return new Handle(this.#root, id, directory, record.config, manager, {
      record,
      notifySocket: options.notifySocket,
      seccompHandler: options.seccompHandler,
    });
  }

  #ids(): string[] {
    try {
      return readdirSync(this.root, { withFileTypes: true })
        .filter(entry => entry.isDirectory() && idPattern.test(entry.name))
        .map(entry => entry.name)
        .sort();
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw new LibcontainerError('ERR_STATE_ROOT', { detail: this.root, cause: error });
    }
  }
}

/** Its monitor should have removed it, but was killed too. */
function isOrphan({ record, binding }: Handle): boolean {
  if (record?.lifetime !== 'owner') return false;
  return binding.startTime(record.creator.pid) !== BigInt(record.creator.start);
}

/** Between its mkdir and its first record a start takes microseconds; a crash there, or late in a destroy, leaves this. */
const abandonedAfterMs = 300;

/** A child that the dead holder of a lock had just cloned has the lock's descriptor, too, until its execve. */
const cloneMs = 300;

function makeRoot(
  path: string,
  lockTimeoutMs: number,
  resctrl: string | undefined,
  logger: Logger | undefined,
): Root {
  let checked = false;
  return {
    path,
    get binding() {
      return binding();
    },
    lockTimeoutMs,
    resctrl,
    logger,
    prepare: () => {
      // Once, and again when somebody has removed the root under a daemon.
      if (checked && existsSync(path)) return;
      prepareRoot(path);
      checked = true;
    },
    release: handle => {
      const ids = reserved.get(path);
      if (ids?.get(handle.id)?.deref() === handle) ids.delete(handle.id);
    },
  };
}

/** Whoever can write to the root can aim a privileged delete: it must be ours alone. */
function prepareRoot(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o711 });
    const stat = lstatSync(path).isSymbolicLink() ? statSync(path) : lstatSync(path);
    const uid = process.geteuid?.() ?? 0;
    if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o022) !== 0)
      throw new LibcontainerError('ERR_STATE_ROOT', { detail: path });
  } catch (cause) {
    if (cause instanceof LibcontainerError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    const reason = code === 'EACCES' || code === 'EPERM' ? 'ERR_PRIVILEGE' : 'ERR_STATE_ROOT';
    throw new LibcontainerError(reason, { detail: path, cause });
  }
}

async function summary(handle: Handle): Promise<ContainerSummary> {
  const { status, pid } = await handle.live();
  const { record } = handle;
  return {
    ociVersion: handle.config.ociVersion,
    id: handle.id,
    status,
    pid: status === 'stopped' ? 0 : pid,
    bundle: handle.config.bundle,
    rootfs: handle.config.rootfs,
    created: record?.created ?? '',
    annotations: handle.config.annotations,
    owner: record?.owner ?? 0,
  };
}

const brokenRow = (id: string, error: unknown): ContainerSummary => ({
  ociVersion: '',
  id,
  status: 'corrupt',
  pid: 0,
  bundle: '',
  rootfs: '',
  created: '',
  annotations: {},
  owner: 0,
  error,
});
