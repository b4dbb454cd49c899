/**
 * From an OCI image layout (image-layout.md of the image specification) or a `docker save` archive to one image: its layers
 * and its configuration. Everything that a descriptor names is read in full and compared with its digest before it is used.
 */
import { createHash } from 'node:crypto';
import { parseJson, readWhole, type Source } from './source.ts';
import { shown, wrongImage } from './tar.ts';

export interface ImageChoice {
  /** Name of one of several images: `org.opencontainers.image.ref.name` of a layout, tag of a `docker save` archive. */
  readonly reference?: string;
  /** Of an image for more than one: `linux/amd64`, `linux/arm64/v8`. Default: linux and this machine's architecture. */
  readonly platform?: string;
}

export interface Layer {
  /** In the source. */
  readonly file: string;
  /** Undefined: whatever its first bytes say (`docker save`). */
  readonly mediaType: string | undefined;
  /** Of the file; undefined: only `diffId` says what it must be. */
  readonly digest: string | undefined;
  readonly size: number | undefined;
  /** Of the tar stream. */
  readonly diffId: string;
}

export interface Image {
  readonly layers: readonly Layer[];
  readonly config: { readonly [field: string]: unknown };
}

type Json = { readonly [name: string]: unknown };

const object = (value: unknown, what: string): Json => {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw wrongImage(`${what} is not an object`);
};
const array = (value: unknown, what: string): readonly unknown[] => {
  if (Array.isArray(value)) return value;
  throw wrongImage(`${what} is not a list`);
};
const text = (value: unknown, what: string): string => {
  if (typeof value === 'string') return value;
  throw wrongImage(`${what} is not a text`);
};

const digestPattern = /^(sha256):([0-9a-f]{64})$|^(sha512):([0-9a-f]{128})$/;

/** @throws {LibcontainerError} ERR_IMAGE */
export function algorithmOf(digest: string): 'sha256' | 'sha512' {
  const found = digestPattern.exec(digest);
  if (found === null) throw wrongImage(`${JSON.stringify(digest)} is not a digest by sha256 or sha512`);
  return found[1] === undefined ? 'sha512' : 'sha256';
}

const blobFile = (digest: string): string => {
  algorithmOf(digest);
  return `blobs/${digest.replace(':', '/')}`;
};

async function readBlob(source: Source, descriptor: Json, what: string): Promise<Json> {
  const digest = text(descriptor.digest, `digest of ${what}`);
  const file = blobFile(digest);
  const bytes = await readWhole(source, file);
  if (bytes.length !== descriptor.size)
    throw wrongImage(`${file} has ${bytes.length} bytes, not ${String(descriptor.size)}`);
  const algorithm = algorithmOf(digest);
  const found = `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
  if (found !== digest) throw wrongImage(`${file} has the digest ${found}`);
  return object(parseJson(bytes, file), file);
}

const indexType =
  /^application\/vnd\.(oci\.image\.index\.v1|docker\.distribution\.manifest\.list\.v2)\+json$/;
const manifestType =
  /^application\/vnd\.(oci\.image\.manifest\.v1|docker\.distribution\.manifest\.v2)\+json$/;

function thisPlatform(): string {
  return `linux/${{ x64: 'amd64' }[process.arch as string] ?? process.arch}`;
}

const referenceOf = (descriptor: Json): string | undefined => {
  const { annotations } = descriptor;
  if (annotations === undefined) return undefined;
  const name = object(annotations, 'annotations')['org.opencontainers.image.ref.name'];
  return typeof name === 'string' ? name : undefined;
};

function platformOf(descriptor: Json): string | undefined {
  if (descriptor.platform === undefined) return undefined;
  const { os, architecture, variant } = object(descriptor.platform, 'platform');
  return [os, architecture, variant].filter(part => typeof part === 'string' && part !== '').join('/');
}

/** `linux/arm64` is also what is for `linux/arm64/v8`. */
const suits = (found: string | undefined, wanted: string): boolean =>
  found === undefined || found === wanted || found.startsWith(`${wanted}/`);

function chosen(manifests: readonly Json[], { reference, platform }: ImageChoice, top: boolean): Json {
  const known = manifests.filter(({ mediaType }) => {
    const type = typeof mediaType === 'string' ? mediaType : '';
    return indexType.test(type) || manifestType.test(type);
  });
  const named = top && reference !== undefined ? known.filter(one => referenceOf(one) === reference) : known;
  const wanted = platform ?? thisPlatform();
  const suitable = named.filter(one => suits(platformOf(one), wanted));
  const [first, second] = suitable;
  if (first === undefined) {
    const there = known.map(one => `${referenceOf(one) ?? '-'} ${platformOf(one) ?? ''}`.trim()).join(', ');
    throw wrongImage(
      `no image ${top && reference !== undefined ? `${JSON.stringify(reference)} ` : ''}for ${wanted}; there is: ${there || 'none'}`,
    );
  }
  if (second !== undefined && top) {
    const names = suitable.map(one => referenceOf(one) ?? String(one.digest));
    throw wrongImage(`more than one image, name one of them: ${names.join(', ')}`);
  }
  return first;
}

/** An index may name another one; ever deeper ones are of somebody who wants us to be busy. */
const mostIndexes = 4;

async function ociImage(source: Source, choice: ImageChoice): Promise<Image> {
  const layout = object(parseJson(await readWhole(source, 'oci-layout'), 'oci-layout'), 'oci-layout');
  if (layout.imageLayoutVersion !== '1.0.0')
    throw wrongImage(`imageLayoutVersion is ${JSON.stringify(layout.imageLayoutVersion)}, not "1.0.0"`);
  let index = object(parseJson(await readWhole(source, 'index.json'), 'index.json'), 'index.json');
  for (let depth = 0; depth < mostIndexes; depth++) {
    const rows = array(index.manifests, 'manifests').map(row => object(row, 'a manifest'));
    const descriptor = chosen(rows, choice, depth === 0);
    const found = await readBlob(source, descriptor, 'a manifest');
    if (manifestType.test(String(descriptor.mediaType))) return imageOf(source, found);
    index = found;
  }
  throw wrongImage(`more than ${mostIndexes} indexes, one in the other`);
}

async function imageOf(source: Source, manifest: Json): Promise<Image> {
  const config = await readBlob(source, object(manifest.config, 'config'), 'config');
  const ids = diffIds(config);
  const rows = array(manifest.layers, 'layers').map(row => object(row, 'a layer'));
  if (ids.length !== rows.length)
    throw wrongImage(`${rows.length} layers, but the configuration knows ${ids.length}`);
  const layers = rows.map((row, index): Layer => {
    const digest = text(row.digest, 'digest of a layer');
    const { size } = row;
    if (!Number.isSafeInteger(size)) throw wrongImage(`size of ${digest} is ${String(size)}`);
    return {
      file: blobFile(digest),
      mediaType: text(row.mediaType, 'mediaType of a layer'),
      digest,
      size: size as number,
      diffId: ids[index] ?? '',
    };
  });
  return { layers, config };
}

function diffIds(config: Json): readonly string[] {
  const rootfs = object(config.rootfs, 'rootfs of the configuration');
  return array(rootfs.diff_ids, 'diff_ids').map(id => {
    const digest = text(id, 'a diff_id');
    algorithmOf(digest);
    return digest;
  });
}

async function dockerImage(source: Source, { reference }: ImageChoice): Promise<Image> {
  const rows = array(
    parseJson(await readWhole(source, 'manifest.json'), 'manifest.json'),
    'manifest.json',
  ).map(row => object(row, 'an image'));
  const tagsOf = (row: Json): readonly unknown[] => (Array.isArray(row.RepoTags) ? row.RepoTags : []);
  const named = reference === undefined ? rows : rows.filter(row => tagsOf(row).includes(reference));
  const [row, second] = named;
  if (row === undefined || second !== undefined) {
    const tags = rows.flatMap(tagsOf).map(tag => shown(String(tag)));
    const what = row === undefined ? `no image ${JSON.stringify(reference)}` : 'more than one image';
    throw wrongImage(`${what}; there is: ${tags.join(', ') || 'none'}`);
  }
  const file = text(row.Config, 'Config');
  const bytes = await readWhole(source, file);
  const [, digest] = /([0-9a-f]{64})(?:\.json)?$/.exec(file) ?? [];
  if (digest === undefined || createHash('sha256').update(bytes).digest('hex') !== digest)
    throw wrongImage(`${JSON.stringify(file)} is not named by its digest`);
  const config = object(parseJson(bytes, file), file);
  const ids = diffIds(config);
  const files = array(row.Layers, 'Layers').map(layer => text(layer, 'a layer'));
  if (files.length !== ids.length)
    throw wrongImage(`${files.length} layers, but the configuration knows ${ids.length}`);
  const layers = files.map((name, index) => ({
    file: name,
    mediaType: undefined,
    digest: undefined,
    size: undefined,
    diffId: ids[index] ?? '',
  }));
  return { layers, config };
}

/** @throws {LibcontainerError} ERR_IMAGE */
export async function readImage(source: Source, choice: ImageChoice): Promise<Image> {
  // What Docker 25 saves is both; a layout has more to compare.
  if (source.has('oci-layout')) return ociImage(source, choice);
  if (source.has('manifest.json')) return dockerImage(source, choice);
  throw wrongImage(
    'neither oci-layout nor manifest.json is in it: no OCI image layout, no docker save archive',
  );
}
