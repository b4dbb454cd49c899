/** A layer as a stream of tar: decompressed, with both digests compared at its end. layer.md of the image specification. */
import { createHash } from 'node:crypto';
import { PassThrough, type Readable, Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { LibcontainerError } from '../errors.ts';
import { algorithmOf, type Layer } from './image.ts';
import { isGzip, isZstd, type Source } from './source.ts';
import { readTar, type TarEntry, wrongImage } from './tar.ts';

type Compression = 'none' | 'gzip' | 'zstd';

const mediaTypes =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[+.](gzip|zstd))?$/;

function compressionOf(mediaType: string): Compression {
  const found = mediaTypes.exec(mediaType);
  if (found === null)
    throw new LibcontainerError('ERR_UNSUPPORTED', { detail: `a layer of media type ${mediaType}` });
  return (found[1] as Compression | undefined) ?? 'none';
}

/** @throws {LibcontainerError} ERR_UNSUPPORTED */
function decompressor(compression: Compression, mediaType: string): NodeJS.ReadWriteStream {
  if (compression === 'none') return new PassThrough();
  if (compression === 'gzip') return zlib.createGunzip();
  // Node.js 22.15, 23.8.
  const { createZstdDecompress: zstd } = zlib as { createZstdDecompress?: () => NodeJS.ReadWriteStream };
  if (zstd !== undefined) return zstd();
  throw new LibcontainerError('ERR_UNSUPPORTED', {
    detail: `a layer of media type ${mediaType}`,
    hint: `zstd needs Node.js 22.15, this is ${process.version}`,
  });
}

/** Passes on what it gets; at the end it must have been that. */
function comparing(digest: string, size: number | undefined, what: string): Transform {
  const algorithm = algorithmOf(digest);
  const hash = createHash(algorithm);
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(undefined, chunk);
    },
    flush(done) {
      const found = `${algorithm}:${hash.digest('hex')}`;
      if (size !== undefined && bytes !== size)
        return done(wrongImage(`${what} has ${bytes} bytes, not ${size}`));
      done(found === digest ? undefined : wrongImage(`${what} has the digest ${found}, not ${digest}`));
    },
  });
}

/** Ends with an error as soon as more comes out than may: what a few bytes can be decompressed to has no bound. */
function bounded(budget: { left: number }): Transform {
  return new Transform({
    transform(chunk: Buffer, _, done) {
      budget.left -= chunk.length;
      done(budget.left < 0 ? wrongImage('the layers are larger than maxBytes') : undefined, chunk);
    },
  });
}

/**
 * @param budget Bytes that the stream may have.
 * @throws {LibcontainerError} ERR_IMAGE, ERR_UNSUPPORTED
 */
export async function readLayer(
  source: Source,
  layer: Layer,
  budget: { left: number },
  each: (entry: TarEntry) => Promise<void> | void,
): Promise<void> {
  const streams: NodeJS.ReadWriteStream[] = [];
  let compression: Compression;
  if (layer.mediaType === undefined) compression = await sniffed(source.open(layer.file).stream);
  else compression = compressionOf(layer.mediaType);
  streams.push(decompressor(compression, layer.mediaType ?? compression));
  if (layer.digest !== undefined) streams.unshift(comparing(layer.digest, layer.size, layer.file));
  streams.push(bounded(budget), comparing(layer.diffId, undefined, `what is in ${layer.file}`));
  await readTar([source.open(layer.file).stream, ...streams], each);
}

async function sniffed(stream: Readable): Promise<Compression> {
  for await (const chunk of stream) {
    const head = chunk as Buffer;
    return isGzip(head) ? 'gzip' : isZstd(head) ? 'zstd' : 'none';
  }
  return 'none';
}
