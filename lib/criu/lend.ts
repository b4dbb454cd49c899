/**
 * CRIU restores a container in a user namespace as that container's root, who on the host is nobody in particular, while
 * images are the host root's alone. For the time of a restore they are lent to that root's group: to be read, not to be
 * changed. It is the container's own memory; no path of its own leads to it.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { LibcontainerError } from '../errors.ts';

/** Name of the link to the image before this one: CRIU's. */
const parentLink = 'parent';
const mostImages = 1000;
const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
// A FIFO that somebody has put there must not block us.
const fileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const search = 0o010;
const readAndSearch = 0o050;
const read = 0o040;

/** @returns takes it back; to be called in any case. @throws {LibcontainerError} ERR_CRIU_IMAGE; nothing is lent then */
export function lendImages(directory: string, gid: number): () => void {
  const loans: (() => void)[] = [];
  const takeBack = (): void => {
    for (const loan of loans.reverse()) loan();
    loans.length = 0;
  };
  try {
    const images = chain(realpathSync(directory));
    for (const image of images) lendDirectory(image, gid, loans);
    for (const path of between(images)) lend(openSync(path, directoryFlags), gid, search, loans);
    return takeBack;
  } catch (cause) {
    takeBack();
    throw new LibcontainerError('ERR_CRIU_IMAGE', {
      detail: `${directory}: cannot be given to the container's root to be read`,
      cause,
    });
  }
}

/** The image and those before it. */
function chain(first: string): string[] {
  const found = [first];
  for (let at = first; found.length < mostImages; ) {
    try {
      const link = readlinkSync(join(at, parentLink));
      at = realpathSync(join(at, link));
    } catch {
      return found;
    }
    if (found.includes(at)) return found;
    found.push(at);
  }
  return found;
}

/** Directories that lead from one of the images to the next, since links between them are relative. */
function between(images: readonly string[]): Set<string> {
  const ways = new Set<string>();
  for (const [at, image] of images.entries()) {
    const next = images[at + 1];
    if (next === undefined) break;
    for (const path of [image, next])
      for (let above = dirname(path); !isAbove(above, image, next); above = dirname(above)) ways.add(above);
    let common = dirname(next);
    while (!isAbove(common, image, next)) common = dirname(common);
    ways.add(common);
  }
  return ways;
}

const isAbove = (path: string, ...below: readonly string[]): boolean =>
  path === '/' || below.every(one => one.startsWith(`${path}/`));

function lendDirectory(path: string, gid: number, loans: (() => void)[]): void {
  const directory = openSync(path, directoryFlags);
  lend(directory, gid, readAndSearch, loans);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    lend(openSync(`/proc/self/fd/${directory}/${entry.name}`, fileFlags), gid, read, loans);
  }
}

/** Takes the descriptor over. */
function lend(fd: number, gid: number, bits: number, loans: (() => void)[]): void {
  loans.push(() => closeSync(fd));
  const stat = fstatSync(fd);
  // Another name of it may be somebody's who put it here, to have a file of root's opened.
  if (stat.isFile() && stat.nlink !== 1) return;
  const mode = stat.mode & 0o7777;
  const others = bits >> 3;
  if ((mode & others) === others || (stat.gid === gid && (mode & bits) === bits)) return;
  loans.push(() => {
    fchmodSync(fd, mode);
    fchownSync(fd, -1, stat.gid);
  });
  // What its group could do is not the new group's.
  fchmodSync(fd, (mode & ~0o070) | bits);
  fchownSync(fd, -1, gid);
}
