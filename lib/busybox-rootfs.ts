/** A root file system of one program: the host's static busybox. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import {
  access,
  chmod,
  copyFile,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { LibcontainerError } from './errors.ts';

const places = ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox.static', '/usr/bin/busybox-static'];
const directories = [
  'bin',
  'dev',
  'etc',
  'home',
  'mnt',
  'proc',
  'root',
  'run',
  'sys',
  'tmp',
  'usr/bin',
  'var/tmp',
];
const files: { readonly [path: string]: string } = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  'etc/group': 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n',
  'etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
  'etc/resolv.conf': '',
};

const failed = (detail: string, cause?: unknown): LibcontainerError =>
  new LibcontainerError('ERR_ROOTFS_MAKE', { detail, cause });

/**
 * Makes a root file system of the host's static busybox. It is made beside the directory and gets its name when it is whole.
 * @param directory Absent or empty.
 * @returns Its absolute path.
 * @throws {LibcontainerError} ERR_ROOTFS_MAKE
 */
export async function busyboxRootfs(directory: string): Promise<string> {
  const path = resolve(directory);
  const busybox = await staticBusybox();
  const fresh = join(dirname(path), `.${basename(path)}.${process.pid}.new`);
  try {
    const present = await readdir(path).catch(() => []);
    if (present.length > 0) throw failed(`${path} is not empty`);
    await mkdir(fresh);
    await fill(fresh, busybox);
    // rename(2) replaces an empty directory, but nothing else.
    await rmdir(path).catch(() => undefined);
    await rename(fresh, path);
    return path;
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw error instanceof LibcontainerError ? error : failed(path, error);
  }
}

async function fill(root: string, busybox: string): Promise<void> {
  for (const name of directories) await mkdir(join(root, name), { recursive: true });
  await copyFile(busybox, join(root, 'bin/busybox'));
  for (const applet of await applets(busybox))
    if (applet !== 'busybox' && !applet.includes('/')) await symlink('busybox', join(root, 'bin', applet));
  for (const [name, text] of Object.entries(files)) await writeFile(join(root, name), text);
  // The creation mask of this process is its own affair.
  for (const name of ['.', 'bin/busybox', ...directories, 'usr', 'var']) await chmod(join(root, name), 0o755);
  for (const name of Object.keys(files)) await chmod(join(root, name), 0o644);
  for (const name of ['tmp', 'var/tmp']) await chmod(join(root, name), 0o1777);
}

function applets(busybox: string): Promise<string[]> {
  return new Promise((give, fail) => {
    execFile(busybox, ['--list'], (error, stdout) =>
      error === null ? give(stdout.trim().split('\n')) : fail(error),
    );
  });
}

async function staticBusybox(): Promise<string> {
  for (const path of places) {
    try {
      await access(path, constants.X_OK);
    } catch {
      // Not here.
      continue;
    }
    if (await isStatic(path)) return path;
  }
  throw failed(`no static busybox at ${places.join(', ')}`);
}

const programInterpreter = 3;

/** elf(5): no PT_INTERP among the program headers, of a 64-bit little-endian file. */
async function isStatic(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    if (bytesRead < 64 || buffer.readUInt32BE(0) !== 0x7f45_4c46) return false;
    const [offset, size, count] = [
      Number(buffer.readBigUInt64LE(32)),
      buffer.readUInt16LE(54),
      buffer.readUInt16LE(56),
    ];
    if (offset + size * count > bytesRead) return false;
    return Array.from({ length: count }, (_, at) => buffer.readUInt32LE(offset + at * size)).every(
      type => type !== programInterpreter,
    );
  } finally {
    await file.close();
  }
}
