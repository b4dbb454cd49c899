/**
 * libcontainer/rootfs: a root file system from an image that lies on the disk: an OCI image layout or a `docker save`
 * archive, as a directory or a tar file. No registry, no network. What an archive says cannot reach anything but the new
 * directory (docs/security.md).
 */
import { constants, write } from 'node:fs';
import { chmod, mkdir, readdir, rename, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { IdMapping } from '../config/config.ts';
import { LibcontainerError } from '../errors.ts';
import { binding } from '../index.ts';
import { cleanName, type Ownership, type Planned, planEntry, whiteoutOf } from './entry.ts';
import { type ImageChoice, type Layer, readImage } from './image.ts';
import { readLayer } from './layer.ts';
import { openSource, type Source } from './source.ts';
import { shown, type TarEntry, wrongImage } from './tar.ts';

export { busyboxRootfs } from '../index.ts';
export type { ImageChoice } from './image.ts';

export interface UnpackOptions extends ImageChoice {
  /**
   * For a container with a user namespace: the ids of the image are those inside, and files get the ids outside. For root only.
   * Default: the ids of the image as they are; for others than root everything belongs to the caller.
   */
  readonly uidMappings?: readonly IdMapping[];
  readonly gidMappings?: readonly IdMapping[];
  /** Most bytes of all layers, decompressed. Default 32 GiB. */
  readonly maxBytes?: number;
  /** Most files, directories and links of all layers. Default 2 million. */
  readonly maxEntries?: number;
  readonly signal?: AbortSignal;
}

/** What the image says about how it is meant to be run. For the caller to use, or not. */
export interface ImageConfig {
  /** `entrypoint`, then `cmd`: process.args. */
  readonly args: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** `NAME=value`. */
  readonly env: readonly string[];
  /** Default `/`. */
  readonly cwd: string;
  /** `user`, `uid`, `user:group`, …; names are those of the image's /etc/passwd. Empty: root. */
  readonly user: string;
  readonly labels: { readonly [name: string]: string };
  readonly stopSignal?: string;
}

export interface UnpackedImage {
  /** Absolute path of the root file system. */
  readonly path: string;
  readonly config: ImageConfig;
  /** What was left out: device nodes without the right to make them, attributes that mean nothing here. */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[];
}

const defaultBytes = 32 * 2 ** 30;
const defaultEntries = 2_000_000;
const failed = (detail: string, cause?: unknown): LibcontainerError =>
  new LibcontainerError('ERR_ROOTFS_MAKE', { detail, cause, hint: 'the directory must be empty or absent' });

/**
 * Unpacks an image. The directory gets its name when it is whole; a failure leaves nothing.
 * @param image OCI image layout, or what `docker save` writes: a directory or a tar file.
 * @param directory Absent or empty.
 * @throws {LibcontainerError} ERR_IMAGE: it is not an image, is damaged, or has what an image must not have; ERR_UNSUPPORTED:
 *   a media type, or mappings without root; ERR_ROOTFS_MAKE: the directory, or a file in it, could not be made
 * @example
 * const { path, config } = await unpackImage('alpine.tar', 'rootfs');
 * const result = await sandbox(['cat', '/etc/os-release'], { rootfs: path, env: { HOME: '/' } });
 */
export async function unpackImage(
  image: string,
  directory: string,
  options: UnpackOptions = {},
): Promise<UnpackedImage> {
  const ownership = ownershipOf(options);
  const path = resolve(directory);
  if ((await readdir(path).catch(() => [])).length > 0) throw failed(`${path} is not empty`);
  using source = await openSource(resolve(image));
  const { layers, config } = await readImage(source, options);
  const fresh = join(dirname(path), `.${basename(path)}.${process.pid}.new`);
  try {
    await mkdir(fresh, { mode: 0o700 });
  } catch (error) {
    throw failed(fresh, error);
  }
  const root = binding().open(fresh, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW, 0);
  try {
    const unpacking = new Unpacking(root, source, ownership, options);
    for (const layer of layers) await unpacking.layer(layer);
    // Of an image whose layers do not say anything about the root itself.
    await chmod(fresh, 0o755);
    await unpacking.finish();
    // rename(2) replaces an empty directory, but nothing else.
    await rmdir(path).catch(() => undefined);
    await rename(fresh, path);
    return { path, config: hintOf(config), skipped: unpacking.skipped };
  } catch (error) {
    // What has failed is what the caller must hear of.
    await binding()
      .treeRemove(root, Buffer.alloc(0), true)
      .then(() => rmdir(fresh))
      .catch(() => undefined);
    throw error instanceof LibcontainerError || options.signal?.aborted === true
      ? error
      : failed(path, error);
  } finally {
    binding().close(root);
  }
}

function ownershipOf({ uidMappings, gidMappings }: UnpackOptions): Ownership {
  if (process.geteuid?.() === 0)
    return {
      kind: 'archive',
      ...(uidMappings === undefined ? {} : { uidMappings }),
      ...(gidMappings === undefined ? {} : { gidMappings }),
    };
  if (uidMappings !== undefined || gidMappings !== undefined)
    throw new LibcontainerError('ERR_UNSUPPORTED', {
      detail: 'uidMappings and gidMappings without being root, who alone can give files away',
    });
  return { kind: 'own' };
}

const writeFile = promisify(write);
const isErrno = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

interface MadeDirectory {
  readonly planned: Planned;
  readonly inode: bigint;
}

class Unpacking {
  readonly skipped: { readonly path: string; readonly reason: string }[] = [];
  readonly #root: number;
  readonly #source: Source;
  readonly #ownership: Ownership;
  readonly #signal: AbortSignal | undefined;
  readonly #entries: { left: number };
  readonly #bytes: { left: number };
  /** Their modes and times are set when nothing more is made in them. */
  readonly #directories = new Map<string, MadeDirectory>();
  /** Device nodes that could not be made: hard links to them cannot be made either. */
  readonly #absent = new Set<string>();

  constructor(root: number, source: Source, ownership: Ownership, options: UnpackOptions) {
    this.#root = root;
    this.#source = source;
    this.#ownership = ownership;
    this.#signal = options.signal;
    this.#entries = { left: options.maxEntries ?? defaultEntries };
    this.#bytes = { left: options.maxBytes ?? defaultBytes };
  }

  /**
   * Twice over: whiteouts hide what lower layers have, wherever in the archive they stand (layer.md), so they come first; and
   * nothing is written of a layer that is damaged, too large or has what we refuse.
   */
  async layer(layer: Layer): Promise<void> {
    const hidden: { readonly path: string; readonly keep: boolean }[] = [];
    const again = { left: this.#bytes.left };
    await readLayer(this.#source, layer, this.#bytes, tar => {
      this.#signal?.throwIfAborted();
      this.#entries.left -= 1;
      if (this.#entries.left < 0) throw wrongImage('more entries than maxEntries');
      const path = cleanName(tar.header.name, tar.header.name);
      const whiteout = whiteoutOf(path);
      if (whiteout === undefined) planEntry(tar, path, this.#ownership);
      else if (whiteout.kind === 'unknown') this.#skip(path, 'a file of aufs');
      else hidden.push({ path: whiteout.path, keep: whiteout.kind === 'opaque' });
    });
    for (const { path, keep } of hidden)
      await this.#do(path, () => binding().treeRemove(this.#root, Buffer.from(path, 'latin1'), keep));
    await readLayer(this.#source, layer, again, async tar => {
      this.#signal?.throwIfAborted();
      const path = cleanName(tar.header.name, tar.header.name);
      if (whiteoutOf(path) !== undefined) return;
      const planned = planEntry(tar, path, this.#ownership);
      await this.#do(path, () => this.#make(planned, tar));
    });
  }

  async finish(): Promise<void> {
    // The deepest first: one that is closed to its owner closes those below it.
    const depth = (path: string): number => path.split('/').length;
    const all = [...this.#directories.values()].sort((a, b) => depth(b.planned.path) - depth(a.planned.path));
    const root = all.findIndex(({ planned }) => planned.path === '');
    if (root >= 0) all.push(...all.splice(root, 1));
    for (const { planned, inode } of all)
      await this.#do(planned.path, async () =>
        this.#told(planned, await binding().treeFinish(this.#root, planned.entry, null, inode)),
      );
  }

  async #make(planned: Planned, { content }: TarEntry): Promise<void> {
    const { path, entry, left } = planned;
    for (const what of left) this.#skip(path, what);
    if (this.#isLeftOut(planned)) return;
    const { fd, inode } = await binding().treeMake(this.#root, entry);
    if (entry.kind === 'directory') this.#directories.set(path, { planned, inode });
    if (fd < 0) return;
    try {
      for await (const chunk of content)
        for (let at = 0; at < chunk.length; )
          at += (await writeFile(fd, chunk, at, chunk.length - at)).bytesWritten;
      this.#told(planned, await binding().treeFinish(this.#root, entry, fd, inode));
    } finally {
      binding().close(fd);
    }
  }

  #isLeftOut({ path, entry }: Planned): boolean {
    const { kind, major, minor, target } = entry;
    if (kind === 'link' && this.#absent.has(target.toString())) {
      this.#skip(path, 'a link to a device node that was left out');
      return true;
    }
    if (kind !== 'char' && kind !== 'block') return false;
    const why =
      process.geteuid?.() !== 0
        ? 'a device node: only root can make one'
        : kind === 'char' && major === 0 && minor === 0
          ? 'a whiteout of overlayfs'
          : undefined;
    if (why === undefined) return false;
    this.#absent.add(Buffer.from(path, 'latin1').toString());
    this.#skip(path, why);
    return true;
  }

  #told({ path }: Planned, refused: readonly string[]): void {
    for (const name of refused)
      this.#skip(path, `attribute ${name}: this file system or this user cannot have it`);
  }

  #skip(path: string, reason: string): void {
    this.skipped.push({ path: Buffer.from(path, 'latin1').toString(), reason });
  }

  /** What the kernel refuses is told with the name of the entry. */
  async #do(path: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof LibcontainerError || !(error instanceof Error && 'syscall' in error)) throw error;
      // In a user namespace root makes no device nodes either.
      if (isErrno(error, 'EPERM') && error.syscall === 'mknodat') {
        this.#absent.add(Buffer.from(path, 'latin1').toString());
        this.#skip(path, 'a device node: refused by the kernel');
      } else throw failed(shown(path), error);
    }
  }
}

const texts = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter(one => typeof one === 'string') : [];

/** config.md of the image specification; what has another form is as if it were not there. */
function hintOf(image: { readonly [field: string]: unknown }): ImageConfig {
  const given = image.config;
  const config = (typeof given === 'object' && given !== null ? given : {}) as {
    readonly [name: string]: unknown;
  };
  const [entrypoint, cmd] = [texts(config.Entrypoint), texts(config.Cmd)];
  const { WorkingDir: cwd, User: user, Labels: labels, StopSignal: stopSignal } = config;
  return {
    args: [...entrypoint, ...cmd],
    entrypoint,
    cmd,
    env: texts(config.Env),
    cwd: typeof cwd === 'string' && cwd !== '' ? cwd : '/',
    user: typeof user === 'string' ? user : '',
    labels: Object.fromEntries(
      Object.entries(typeof labels === 'object' && labels !== null ? labels : {}).filter(
        ([, value]) => typeof value === 'string',
      ),
    ),
    ...(typeof stopSignal === 'string' ? { stopSignal } : {}),
  };
}
