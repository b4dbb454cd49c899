/** Images and their archives, written byte by byte, so that they can be as wrong as somebody wants them to be. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { LibcontainerError } from '../../lib/index.ts';
import { type UnpackedImage, type UnpackOptions, unpackImage } from '../../lib/rootfs/unpack.ts';
import { makeDirectory, rootfs } from '../harness/bundle.ts';
import type { TestContext } from '../harness/test.ts';

export interface TarMember {
  readonly name: string;
  /** ustar's: 0 file, 1 hard link, 2 symbolic link, 3 and 4 devices, 5 directory, 6 FIFO. Default 0. */
  readonly type?: string;
  readonly data?: string | Buffer;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly major?: number;
  readonly minor?: number;
  /** What the header says, if not the truth. */
  readonly size?: number;
  readonly pax?: { readonly [keyword: string]: string | Buffer };
}

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

/** base-256, as GNU tar writes what octal digits have no room for. */
function number(value: number, width: number): Buffer {
  if (value < 8 ** (width - 1)) return Buffer.from(octal(value, width));
  const bytes = Buffer.alloc(width);
  bytes[0] = 0x80;
  bytes.writeBigUInt64BE(BigInt(value), width - 8);
  return bytes;
}

function header(member: TarMember, size: number): Buffer {
  const block = Buffer.alloc(512);
  const put = (text: string | Buffer, at: number, room: number) =>
    Buffer.from(text as string).copy(block, at, 0, Math.min(text.length, room));
  put(Buffer.from(member.name), 0, 100);
  put(octal(member.mode ?? (member.type === '5' ? 0o755 : 0o644), 8), 100, 8);
  put(number(member.uid ?? 0, 8), 108, 8);
  put(number(member.gid ?? 0, 8), 116, 8);
  put(number(member.size ?? size, 12), 124, 12);
  put(octal(member.mtime ?? 1_000_000_000, 12), 136, 12);
  put('        ', 148, 8);
  put(member.type ?? '0', 156, 1);
  put(Buffer.from(member.link ?? ''), 157, 100);
  put('ustar\x0000', 257, 8);
  put(octal(member.major ?? 0, 8), 329, 8);
  put(octal(member.minor ?? 0, 8), 337, 8);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8);
  return block;
}

const padded = (data: Buffer): Buffer =>
  Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);

function record(keyword: string, value: string | Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${keyword}=`), Buffer.from(value as string), Buffer.from('\n')]);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

export function tarOf(members: readonly TarMember[]): Buffer {
  const parts: Buffer[] = [];
  for (const member of members) {
    if (member.pax !== undefined) {
      const data = Buffer.concat(
        Object.entries(member.pax).map(([keyword, value]) => record(keyword, value)),
      );
      parts.push(header({ name: 'PaxHeader', type: 'x' }, data.length), padded(data));
    }
    const data = Buffer.from((member.data ?? '') as string);
    parts.push(header(member, data.length), padded(data));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

export const digestOf = (data: Buffer, algorithm = 'sha256'): string =>
  `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;

export type Layer =
  | readonly TarMember[]
  | { readonly bytes: Buffer; readonly mediaType: string; readonly tar: Buffer };

export interface ImageOptions {
  readonly config?: { readonly [name: string]: unknown };
  /** Default: gzip for every other layer. */
  readonly gzip?: boolean;
  readonly reference?: string;
  readonly platform?: { readonly [name: string]: string };
}

const files = (directory: string, members: readonly TarMember[]): void => {
  for (const { name, data = '', type } of members) {
    if (type === '5') continue;
    mkdirSync(join(directory, dirname(name)), { recursive: true });
    writeFileSync(join(directory, name), data);
  }
};

interface Blobs {
  readonly members: TarMember[];
  put(data: Buffer | object, mediaType: string): { mediaType: string; digest: string; size: number };
}

function blobs(): Blobs {
  const members: TarMember[] = [];
  return {
    members,
    put: (content, mediaType) => {
      const data = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
      const digest = digestOf(data);
      const name = `blobs/${digest.replace(':', '/')}`;
      if (!members.some(member => member.name === name)) members.push({ name, data });
      return { mediaType, digest, size: data.length };
    },
  };
}

const layerType = 'application/vnd.oci.image.layer.v1.tar';

function addImage(store: Blobs, layers: readonly Layer[], options: ImageOptions): object {
  const tars = layers.map(layer => ('tar' in layer ? layer.tar : tarOf(layer)));
  const rows = layers.map((layer, index) => {
    if ('bytes' in layer) return store.put(layer.bytes, layer.mediaType);
    const tar = tars[index] ?? Buffer.alloc(0);
    return (options.gzip ?? index % 2 === 1)
      ? store.put(gzipSync(tar), `${layerType}+gzip`)
      : store.put(tar, layerType);
  });
  const config = store.put(
    {
      architecture: 'amd64',
      os: 'linux',
      config: options.config ?? {},
      rootfs: { type: 'layers', diff_ids: tars.map(tar => digestOf(tar)) },
    },
    'application/vnd.oci.image.config.v1+json',
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = store.put({ schemaVersion: 2, mediaType, config, layers: rows }, mediaType);
  const { reference, platform } = options;
  return {
    ...manifest,
    ...(platform === undefined ? {} : { platform }),
    ...(reference === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': reference } }),
  };
}

/** The files of an OCI layout with these images. */
export function layoutOf(
  ...images: readonly (readonly [layers: readonly Layer[], options?: ImageOptions])[]
): TarMember[] {
  const store = blobs();
  const manifests = images.map(([layers, options = {}]) => addImage(store, layers, options));
  return [
    { name: 'oci-layout', data: JSON.stringify({ imageLayoutVersion: '1.0.0' }) },
    { name: 'index.json', data: JSON.stringify({ schemaVersion: 2, manifests }) },
    ...store.members,
  ];
}

export function writeLayout(directory: string, members: readonly TarMember[]): string {
  mkdirSync(directory, { recursive: true });
  files(directory, members);
  return directory;
}

/** What `docker save` writes (before Docker 25): a directory per layer, one that an image has twice as a link. */
export function dockerArchive(
  layers: readonly (readonly TarMember[])[],
  tag: string,
  config: object,
): Buffer {
  const tars = layers.map(layer => tarOf(layer));
  const diffIds = tars.map(tar => digestOf(tar));
  const description = Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: diffIds },
    }),
  );
  const file = `${digestOf(description).slice('sha256:'.length)}.json`;
  const names = diffIds.map((id, index) => `${index}${id.slice(8, 20)}/layer.tar`);
  const members = tars.flatMap((data, index): TarMember[] => {
    const name = names[index] ?? '';
    const first = diffIds.indexOf(diffIds[index] ?? '');
    const directory: TarMember = { name: `${dirname(name)}/`, type: '5' };
    return first === index
      ? [directory, { name, data }]
      : [directory, { name, type: '2', link: `../${names[first]}` }];
  });
  const manifest = [{ Config: file, RepoTags: [tag], Layers: names }];
  return tarOf([
    ...members,
    { name: file, data: description },
    { name: 'manifest.json', data: JSON.stringify(manifest) },
  ]);
}

/** A shell, and the places that a sandbox mounts on. */
export const busyboxLayer = (): TarMember[] => [
  ...['./', 'bin', 'dev', 'dev/pts', 'dev/shm', 'proc', 'tmp', 'etc'].map(
    (name): TarMember => ({ name, type: '5' }),
  ),
  { name: 'bin/busybox', data: readFileSync(join(rootfs, 'bin/busybox')), mode: 0o755 },
  { name: 'bin/sh', type: '2', link: 'busybox' },
  { name: 'bin/cat', type: '2', link: 'busybox' },
];

export const withCode = (code: string, words: RegExp) => (error: unknown) =>
  error instanceof Error && (error as LibcontainerError).code === code && words.test(error.message)
    ? true
    : assert.fail(`not ${code} ${words}: ${String(error)}`);

export async function unpacked(
  t: TestContext,
  layers: readonly Layer[],
  options: UnpackOptions = {},
): Promise<UnpackedImage> {
  const directory = makeDirectory(t);
  const layout = writeLayout(join(directory, 'layout'), layoutOf([layers]));
  return unpackImage(layout, join(directory, 'rootfs'), options);
}

export const file = (name: string, data = name, more: Partial<TarMember> = {}): TarMember => ({
  name,
  data,
  ...more,
});
export const directory = (name: string, more: Partial<TarMember> = {}): TarMember => ({
  name,
  type: '5',
  ...more,
});
export const link = (name: string, target: string): TarMember => ({ name, type: '2', link: target });
export const hard = (name: string, target: string): TarMember => ({ name, type: '1', link: target });
/** What is below, without following links (which readdir with `recursive` does on Node 20). */
export const tree = (path: string, below = ''): string[] =>
  readdirSync(join(path, below), { withFileTypes: true })
    .flatMap(entry => {
      const name = join(below, entry.name);
      return entry.isDirectory() ? [name, ...tree(path, name)] : [name];
    })
    .sort();
