/**
 * The files of an image as it lies on a disk: of a directory, or of a tar archive of one (`docker save`, or an OCI layout
 * packed by tar(1)). Files are named by somebody else: none is read outside of the directory.
 */
import { constants, fstatSync, read } from 'node:fs';
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { binding } from '../index.ts';
import { readTar, shown, wrongImage } from './tar.ts';

export interface Source extends Disposable {
  has(name: string): boolean;
  /** @throws {LibcontainerError} ERR_IMAGE when there is no such file */
  open(name: string): { readonly stream: Readable; readonly size: number };
}

/** index.json, manifests and configurations; the largest of real images has some hundred kB. */
const mostJsonBytes = 8 << 20;

export async function readWhole(source: Source, name: string): Promise<Buffer> {
  const { stream, size } = source.open(name);
  if (size > mostJsonBytes) {
    stream.destroy();
    throw wrongImage(`${name} has ${size} bytes`);
  }
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

export function parseJson(bytes: Buffer, name: string): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch (cause) {
    throw wrongImage(`${name} is not JSON`, cause);
  }
}

// Neither a FIFO nor a terminal shall hold us up.
const readOnly = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** @throws {LibcontainerError} ERR_IMAGE */
export async function openSource(path: string): Promise<Source> {
  let fd: number;
  try {
    fd = binding().open(path, readOnly, 0);
  } catch (cause) {
    throw wrongImage(`${path} cannot be opened`, cause);
  }
  const stat = fstatSync(fd);
  if (stat.isDirectory()) return new Directory(fd);
  try {
    if (!stat.isFile()) throw wrongImage(`${path} is neither a directory nor a file`);
    return await Archive.open(fd, path, stat.size);
  } catch (error) {
    binding().close(fd);
    throw error;
  }
}

const readFile = promisify(read);
const chunkBytes = 1 << 16;

/** Not a stream of node:fs, which closes a descriptor that is not its own when it is destroyed. */
async function* chunks(fd: number, start: number, size: number): AsyncGenerator<Buffer> {
  const end = start + size;
  for (let at = start; at < end; ) {
    const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, end - at));
    const { bytesRead } = await readFile(fd, buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw wrongImage('a file became shorter while it was read');
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

const streamOf = (fd: number, start: number, size: number): Readable =>
  Readable.from(chunks(fd, start, size), { objectMode: false });

class Directory implements Source {
  readonly #fd: number;
  /** Of streams: closed with the directory. */
  readonly #open: number[] = [];
  constructor(fd: number) {
    this.#fd = fd;
  }

  #file(name: string): number {
    const fd = binding().openBeneath(this.#fd, name, readOnly);
    if (fstatSync(fd).isFile()) return fd;
    binding().close(fd);
    throw wrongImage(`${name} is not a file`);
  }

  has(name: string): boolean {
    try {
      binding().close(this.#file(name));
      return true;
    } catch {
      return false;
    }
  }

  open(name: string): { readonly stream: Readable; readonly size: number } {
    let fd: number;
    try {
      fd = this.#file(name);
    } catch (cause) {
      throw wrongImage(`no file ${name}`, cause);
    }
    this.#open.push(fd);
    const { size } = fstatSync(fd);
    return { stream: streamOf(fd, 0, size), size };
  }

  [Symbol.dispose](): void {
    for (const fd of [...this.#open, this.#fd]) binding().close(fd);
  }
}

interface Member {
  readonly start: number;
  readonly size: number;
}

class Archive implements Source {
  readonly #fd: number;
  readonly #members: ReadonlyMap<string, Member | string>;
  private constructor(fd: number, members: ReadonlyMap<string, Member | string>) {
    this.#fd = fd;
    this.#members = members;
  }

  static async open(fd: number, path: string, size: number): Promise<Archive> {
    const members = new Map<string, Member | string>();
    const head = await firstBytes(fd, size);
    if (isGzip(head) || isZstd(head))
      throw wrongImage(`${path} is compressed as a whole: decompress it first (gunzip, unzstd)`);
    await readTar([streamOf(fd, 0, size)], ({ header, offset }) => {
      const name = posix.normalize(header.name).replace(/^(\.?\/)+/, '');
      const isLink = header.type === 'symlink' || header.type === 'link';
      if (header.type !== 'file' && header.type !== 'contiguous-file' && !isLink) return;
      if (members.has(name)) throw wrongImage(`${shown(header.name)} is there twice`);
      if (members.size > 100_000) throw wrongImage('more than 100000 files');
      const { linkname } = header;
      const target = header.type === 'symlink' ? posix.join(posix.dirname(name), linkname ?? '') : linkname;
      members.set(name, isLink ? (target ?? '') : { start: offset, size: header.size });
    });
    return new Archive(fd, members);
  }

  /** Older versions of Docker link a layer that an image has twice. */
  #member(name: string): Member | undefined {
    let found = this.#members.get(name);
    for (let links = 0; typeof found === 'string' && links < 8; links++) found = this.#members.get(found);
    return typeof found === 'string' ? undefined : found;
  }

  has(name: string): boolean {
    return this.#member(name) !== undefined;
  }

  open(name: string): { readonly stream: Readable; readonly size: number } {
    const member = this.#member(name);
    if (member === undefined) throw wrongImage(`no file ${name}`);
    return { stream: streamOf(this.#fd, member.start, member.size), size: member.size };
  }

  [Symbol.dispose](): void {
    binding().close(this.#fd);
  }
}

export const isGzip = (head: Uint8Array): boolean => head[0] === 0x1f && head[1] === 0x8b;
export const isZstd = (head: Uint8Array): boolean =>
  head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd;

async function firstBytes(fd: number, size: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of streamOf(fd, 0, Math.min(size, 4))) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}
