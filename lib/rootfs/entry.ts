/**
 * From an entry of a layer to what is made of it: its name, its kind, whom it belongs to, and what of it is left out. Nothing
 * here touches a file system.
 */
import type { IdMapping } from '../config/config.ts';
import type { TreeEntry } from '../native/binding.ts';
import { shown, type TarEntry, wrongImage } from './tar.ts';

/** Who owns what is unpacked. `archive`: the ids of the image, mapped when there are maps; `own`: this process's. */
export type Ownership =
  | { readonly kind: 'own' }
  | {
      readonly kind: 'archive';
      readonly uidMappings?: readonly IdMapping[];
      readonly gidMappings?: readonly IdMapping[];
    };

export interface Planned {
  /** As in the archive, without leading slashes and dots; one character per byte. */
  readonly path: string;
  readonly entry: TreeEntry;
  /** Why something of it is left out. */
  readonly left: readonly string[];
}

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/**
 * Absolute names are taken as below the root, as tar(1) does. The kernel would keep `..` inside as well, but no honest
 * archive has one.
 * @throws {LibcontainerError} ERR_IMAGE
 */
export function cleanName(name: string, of: string): string {
  const parts = name.split('/').filter(part => part !== '' && part !== '.');
  if (parts.includes('..')) throw wrongImage(`${shown(name)} of ${shown(of)} leads out of the image`);
  if (name.includes('\0')) throw wrongImage(`${shown(name)} has a null byte in it`);
  return parts.join('/');
}

export type Whiteout =
  | { readonly kind: 'file' | 'opaque'; readonly path: string }
  | { readonly kind: 'unknown'; readonly path: string };

/** layer.md "Whiteouts"; undefined: an ordinary entry. @param path clean */
export function whiteoutOf(path: string): Whiteout | undefined {
  const slash = path.lastIndexOf('/') + 1;
  const [parent, name] = [path.slice(0, Math.max(0, slash - 1)), path.slice(slash)];
  if (!name.startsWith('.wh.')) return undefined;
  if (name === '.wh..wh..opq') return { kind: 'opaque', path: parent };
  // Of aufs itself: lists of links, work files.
  if (name.startsWith('.wh..wh.')) return { kind: 'unknown', path };
  const hidden = name.slice('.wh.'.length);
  // `.wh...` would take the parent away.
  if (hidden === '' || hidden === '.' || hidden === '..') throw wrongImage(`${shown(path)} hides nothing`);
  return { kind: 'file', path: path.slice(0, slash) + hidden };
}

const kinds: { readonly [type: string]: TreeEntry['kind'] } = {
  file: 'file',
  'contiguous-file': 'file',
  directory: 'directory',
  symlink: 'symlink',
  link: 'link',
  fifo: 'fifo',
  'character-device': 'char',
  'block-device': 'block',
};

const mostId = 2 ** 32 - 2;

function idOf(given: string | undefined, header: number, what: string): number {
  const id = given === undefined ? header : /^[0-9]+$/.test(given) ? Number(given) : Number.NaN;
  if (!Number.isInteger(id) || id < 0 || id > mostId) throw wrongImage(`${what} is no id`);
  return id;
}

function mapped(id: number, rows: readonly IdMapping[] | undefined, what: string): number {
  if (rows === undefined) return id;
  const row = rows.find(({ containerID, size }) => id >= containerID && id < containerID + size);
  if (row === undefined) throw wrongImage(`${what} ${id} has no place in the mappings`);
  return row.hostID + id - row.containerID;
}

/** Seconds with a fraction, or what the header says; a clock that was wrong is no reason to refuse an image. */
function timeMs(given: string | undefined, header: Date): number {
  const time = given === undefined ? header.getTime() : Number(given) * 1000;
  return Number.isFinite(time) ? Math.trunc(Math.min(Math.max(time, 0), 8_640_000_000_000_000)) : 0;
}

const attribute = 'SCHILY.xattr.';

/**
 * What an image may say about a file. Marks of overlayfs would mean something when the tree is a layer; labels are those of
 * another host; trusted.* is for who made the image.
 */
const isWanted = (name: string): boolean =>
  name === 'security.capability' ||
  name.startsWith('system.posix_acl_') ||
  (name.startsWith('user.') && !name.startsWith('user.overlay.'));

function attributesOf(
  pax: { readonly [keyword: string]: string },
  kind: TreeEntry['kind'],
): { readonly attributes: TreeEntry['attributes']; readonly left: readonly string[] } {
  const attributes: [string, Buffer][] = [];
  const left: string[] = [];
  for (const [keyword, value] of Object.entries(pax)) {
    if (keyword.startsWith('LIBARCHIVE.xattr.') && pax[keyword.replace('LIBARCHIVE', 'SCHILY')] === undefined)
      left.push(`attribute ${shown(keyword)}`);
    if (!keyword.startsWith(attribute)) continue;
    const name = keyword.slice(attribute.length);
    const takes = kind === 'file' || kind === 'directory';
    if (takes && isWanted(name) && !name.includes('\0')) attributes.push([name, latin1(value)]);
    else left.push(`attribute ${shown(name)}`);
  }
  return { attributes, left };
}

/** @throws {LibcontainerError} ERR_IMAGE for what an image cannot have, or what would come out wrong */
export function planEntry({ header }: TarEntry, path: string, ownership: Ownership): Planned {
  const pax = header.pax ?? {};
  const kind = kinds[header.type ?? ''];
  if (kind === undefined || Object.keys(pax).some(keyword => keyword.startsWith('GNU.sparse.')))
    throw wrongImage(`${shown(header.name)} is a sparse file, or of another type that is not known`);
  if (path === '' && kind !== 'directory') throw wrongImage(`${shown(header.name)} would replace the root`);
  const { linkname } = header;
  const target = kind === 'link' ? cleanName(linkname ?? '', header.name) : (linkname ?? '');
  const isDevice = kind === 'char' || kind === 'block';
  const who =
    ownership.kind === 'own'
      ? { uid: -1, gid: -1 }
      : {
          uid: mapped(idOf(pax.uid, header.uid, 'uid'), ownership.uidMappings, 'uid'),
          gid: mapped(idOf(pax.gid, header.gid, 'gid'), ownership.gidMappings, 'gid'),
        };
  const { attributes, left } = attributesOf(pax, kind);
  return {
    path,
    left,
    entry: {
      ...who,
      path: latin1(path),
      kind,
      target: latin1(kind === 'link' || kind === 'symlink' ? target : ''),
      mode: header.mode & 0o7777,
      mtimeMs: timeMs(pax.mtime, header.mtime),
      major: isDevice ? header.devmajor : 0,
      minor: isDevice ? header.devminor : 0,
      attributes,
    },
  };
}
