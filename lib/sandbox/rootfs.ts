/**
 * The default root file system: the host's programs and libraries, read-only, over a tree of a few directories, links and
 * files of our own. The tree holds nothing that a sandbox could change, so all that look alike share one: it is made once
 * (in memory, some kilobytes), and its name is a hash of what is in it.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { LibcontainerError } from '../errors.ts';
import { ownDirectory, skeletonRoot } from './directories.ts';

/** A read-only bind of the host's, at the same place inside. */
export type HostTree = string;

export interface HostRootfs {
  /** Absolute, its own real path. */
  readonly path: string;
  readonly trees: readonly HostTree[];
}

export interface RootfsWish {
  readonly uid: number;
  readonly gid: number;
  readonly hostname: string;
  readonly home: string;
  /** Name resolution and certificates of the host. */
  readonly network: boolean;
  /** Further mount points: directories (ending with a slash) and files. */
  readonly mountPoints: readonly string[];
}

/** Of merged-usr distributions all but the first are links; on NixOS /usr holds next to nothing. */
const programs = [
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/nix/store',
  '/gnu/store',
  '/etc/alternatives',
];
const networkTrees = ['/etc/ssl', '/etc/pki', '/etc/ca-certificates'];
const copies = [
  '/etc/ld.so.cache',
  '/etc/localtime',
  '/etc/services',
  '/etc/protocols',
  '/etc/mime.types',
  '/etc/login.defs',
];
const directories = ['proc', 'dev', 'tmp', 'run', 'etc', 'var', 'mnt'];

type Entry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'file'; readonly path: string; readonly data: Buffer };

/** What the host has at a path, without following a link; undefined: nothing, or nothing that we may see. */
const kindOf = (path: string): 'directory' | 'link' | 'file' | undefined => {
  try {
    const stat = lstatSync(path);
    return stat.isSymbolicLink()
      ? 'link'
      : stat.isDirectory()
        ? 'directory'
        : stat.isFile()
          ? 'file'
          : undefined;
  } catch {
    return undefined;
  }
};

/** Undefined when it is not there or not for everybody's eyes: a copy must not show more than the host does. */
function publicFile(path: string): Buffer | undefined {
  try {
    return (statSync(path).mode & 0o004) === 0 ? undefined : readFileSync(path);
  } catch {
    return undefined;
  }
}

function accounts({ uid, gid, home }: RootfsWish): { readonly passwd: string; readonly group: string } {
  const users = new Map([[0, `root:x:0:0:root:${uid === 0 ? home : '/'}:/bin/sh`]]);
  if (!users.has(uid)) users.set(uid, `sandbox:x:${uid}:${gid}:sandbox:${home}:/bin/sh`);
  const groups = new Map([[0, 'root:x:0:']]);
  if (!groups.has(gid)) groups.set(gid, `sandbox:x:${gid}:`);
  if (!users.has(65534)) users.set(65534, 'nobody:x:65534:65534:nobody:/:/usr/sbin/nologin');
  if (!groups.has(65534)) groups.set(65534, 'nogroup:x:65534:');
  return { passwd: `${[...users.values()].join('\n')}\n`, group: `${[...groups.values()].join('\n')}\n` };
}

function ownFiles(wish: RootfsWish): Entry[] {
  const { passwd, group } = accounts(wish);
  const texts: { readonly [path: string]: string } = {
    'etc/passwd': passwd,
    'etc/group': group,
    'etc/hostname': `${wish.hostname}\n`,
    'etc/hosts': `127.0.0.1 localhost ${wish.hostname}\n::1 localhost ${wish.hostname}\n`,
    'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  };
  const files: Entry[] = Object.entries(texts).map(([path, text]) => ({
    kind: 'file',
    path,
    data: Buffer.from(text),
  }));
  for (const path of wish.network ? [...copies, '/etc/resolv.conf'] : copies) {
    const data = publicFile(path);
    if (data !== undefined) files.push({ kind: 'file', path: path.slice(1), data });
  }
  return files;
}

function plan(wish: RootfsWish): { readonly entries: readonly Entry[]; readonly trees: readonly HostTree[] } {
  const trees: HostTree[] = [];
  const entries: Entry[] = directories.map(path => ({ kind: 'directory', path }));
  entries.push({ kind: 'directory', path: wish.home.slice(1) });
  entries.push(
    { kind: 'link', path: 'var/tmp', target: '../tmp' },
    { kind: 'link', path: 'var/run', target: '../run' },
  );
  for (const path of wish.network ? [...programs, ...networkTrees] : programs) {
    const kind = kindOf(path);
    if (kind === 'link') entries.push({ kind, path: path.slice(1), target: readlinkSync(path) });
    if (kind !== 'directory') continue;
    entries.push({ kind, path: path.slice(1) });
    trees.push(path);
  }
  entries.push(...ownFiles(wish));
  for (const path of wish.mountPoints) {
    // Below a tree of the host's there is nothing to make: it must be there.
    if (trees.some(tree => path.startsWith(`${tree}/`))) continue;
    const inside = path.replace(/^\/+|\/+$/g, '');
    // One that is absolute on this host would lead out of the tree that is being made.
    const link = entries.find(entry => entry.kind === 'link' && `${inside}/`.startsWith(`${entry.path}/`));
    if (link !== undefined)
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail: `mounts: ${path} is below /${link.path}, which is a link in the sandbox`,
      });
    if (path.endsWith('/')) entries.push({ kind: 'directory', path: inside });
    else entries.push({ kind: 'file', path: inside, data: Buffer.alloc(0) });
  }
  return { entries, trees };
}

function write(root: string, entries: readonly Entry[]): void {
  for (const entry of entries) {
    const path = join(root, entry.path);
    mkdirSync(entry.kind === 'directory' ? path : dirname(path), { recursive: true, mode: 0o755 });
    if (entry.kind === 'link' && !existsSync(path)) symlinkSync(entry.target, path);
    if (entry.kind === 'file') writeFileSync(path, entry.data, { mode: 0o644 });
  }
  // The creation mask of this process is its own affair.
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink())
      chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  chmodSync(root, 0o755);
}

/**
 * Makes the tree unless it is there. Of processes that make it at the same time one wins; a tree is whole once it has its name.
 * @throws {LibcontainerError} ERR_STATE_ROOT
 */
export function hostRootfs(wish: RootfsWish): HostRootfs {
  const { entries, trees } = plan(wish);
  const hash = createHash('sha256')
    .update(JSON.stringify(entries.map(hashed)))
    .digest('hex')
    .slice(0, 20);
  const parent = skeletonRoot();
  const path = join(parent, hash);
  if (existsSync(path)) return { path: ownDirectory(path, 0o755), trees };
  const made = mkdtempSync(join(parent, '.new-'));
  try {
    write(made, entries);
    renameSync(made, path);
  } catch (error) {
    rmSync(made, { recursive: true, force: true });
    if (!existsSync(path)) throw error;
  }
  return { path, trees };
}

const hashed = (entry: Entry): unknown =>
  entry.kind === 'file'
    ? [entry.path, createHash('sha256').update(entry.data).digest('hex')]
    : [entry.kind, entry.path, entry.kind === 'link' ? entry.target : ''];
