/**
 * Entries of a tar stream, by tar-stream, held to what an image may have. Names, link targets and the values of extended
 * attributes are bytes, not text: here they are strings of one character per byte ("latin1").
 */
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import headers from 'tar-stream/headers.js';
import { LibcontainerError } from '../errors.ts';

export const wrongImage = (detail: string, cause?: unknown): LibcontainerError =>
  new LibcontainerError('ERR_IMAGE', { detail, cause });

/** For people: UTF-8, where the bytes are that. */
export const shown = (bytes: string): string => JSON.stringify(Buffer.from(bytes, 'latin1').toString());

// The reader's own decoder of pax records makes UTF-8 of all values, which a capability is not. Its other file calls it by
// its place in this module, which the bundler is told of (scripts/tar-stream.mjs). Records beyond 4 MiB the reader refuses.
headers.decodePax = bytes => decodePax(bytes.toString('latin1'));

/** `LENGTH KEYWORD=VALUE\n`, the length in decimal and of the whole: pax(1). A value may hold anything. */
function decodePax(text: string): { [keyword: string]: string } {
  const found: { [keyword: string]: string } = Object.create(null);
  for (let at = 0; at < text.length; ) {
    const length = /^[1-9][0-9]{0,6} /.exec(text.slice(at, at + 8));
    const end = at + Number.parseInt(length?.[0] ?? '', 10);
    const equals = text.indexOf('=', at);
    if (length === null || end > text.length || text[end - 1] !== '\n' || equals < 0 || equals >= end)
      throw wrongImage('a pax record is malformed');
    const [keyword, value] = [text.slice(at + length[0].length, equals), text.slice(equals + 1, end - 1)];
    if (keyword === 'size' && !/^[0-9]{1,15}$/.test(value)) throw wrongImage(`a size of ${shown(value)}`);
    found[keyword] = value;
    at = end;
  }
  return found;
}

export interface TarEntry {
  readonly header: {
    readonly name: string;
    readonly type: string | null;
    readonly linkname: string | null;
    readonly size: number;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly mtime: Date;
    readonly devmajor: number;
    readonly devminor: number;
    readonly pax: { readonly [keyword: string]: string } | null;
  };
  /** Where its content begins in the stream. */
  readonly offset: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * Calls `each` for every entry, one after the other; what it leaves of the content is skipped.
 * @param streams The source and what transforms it on the way; all are destroyed at the end.
 * @throws {LibcontainerError} ERR_IMAGE for what is no tar archive, or is cut off
 */
export async function readTar(
  streams: readonly [Readable, ...NodeJS.ReadWriteStream[]],
  each: (entry: TarEntry) => Promise<void> | void,
): Promise<void> {
  const reader = extract({ filenameEncoding: 'latin1', allowUnknownFormat: false });
  const fed = pipeline([...streams, reader]);
  // It is heard below, but may fail before.
  fed.catch(() => undefined);
  let ours: { readonly error: unknown } | undefined;
  try {
    for await (const entry of reader) {
      try {
        await each({ header: entry.header, offset: entry.header.byteOffset, content: entry });
      } catch (error) {
        ours = { error };
        throw error;
      }
      entry.resume();
    }
    await fed;
  } catch (error) {
    streams[0].destroy();
    const cause = await fed.then(
      () => error,
      (first: unknown) => first,
    );
    // A digest, say: what `each` has seen of it is only that the content ended.
    if (cause instanceof LibcontainerError) throw cause;
    if (ours !== undefined) throw ours.error;
    throw isSystemError(cause) ? cause : wrongImage('not a tar archive that can be read to its end', cause);
  }
}

/** A disk that cannot be read is not the archive's fault. */
const isSystemError = (error: unknown): boolean =>
  error instanceof Error && 'errno' in error && 'syscall' in error;
