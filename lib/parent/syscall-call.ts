/**
 * One system call that a handler decides about: its arguments, and what may safely be asked of, and done for, the thread
 * that waits in it. seccomp_unotify(2).
 *
 * What a pointer points to can be changed by another thread of the container at any time, also after it was read. So a
 * handler may do the call itself with what it has read, or refuse it; to look at memory and then let the kernel do the
 * call ('continue') is no check of it.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { basename, dirname, posix } from 'node:path';
import { LibcontainerError, SyscallError } from '../errors.ts';
import type { Binding, SeccompNotification } from '../native/binding.ts';
import { errnoName } from './failure.ts';
import { type InnerMount, mountInside } from './inner-mount.ts';
import { namedArguments, type SyscallArguments, type SyscallName } from './syscall-table.ts';

/** Of the thread's process, from /proc/PID/status; ids are those of this process's user namespace. */
export interface CallerFacts {
  /** Thread group: what getpid(2) is about. */
  readonly pid: number;
  /** File-system ids, which decide about files (credentials(7)). */
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly umask: number;
  readonly name: string;
  /** CapEff as a bit mask. */
  readonly capabilities: bigint;
}

export interface NodeOptions {
  readonly type: 'c' | 'b' | 'p';
  readonly major: number;
  readonly minor: number;
  /** Permission bits; the caller's umask is taken off. */
  readonly mode: number;
}

const pageBytes = 4096n;
const typeBits = { c: 0o020000, b: 0o060000, p: 0o010000 } as const;
/** AT_FDCWD as the 32 bits that count. */
const currentDirectory = -100;

/** The listener of a call: when it is closed, its number may be another descriptor's. @internal */
export interface ListenerDoor {
  readonly fd: number;
  readonly open: boolean;
}

export class SyscallCall<N extends SyscallName = SyscallName> {
  readonly name: N;
  /** Thread id in this process's pid namespace; 0 when it is not to be seen from here. */
  readonly tid: number;
  /** AUDIT_ARCH_* of the call (audit.h). */
  readonly arch: number;
  readonly args: SyscallArguments<N>;
  readonly #binding: Binding;
  readonly #door: ListenerDoor;
  readonly #id: bigint;

  /** @internal */
  constructor(binding: Binding, door: ListenerDoor, name: N, notification: SeccompNotification) {
    this.#binding = binding;
    this.#door = door;
    this.#id = notification.id;
    this.name = name;
    this.tid = notification.pid;
    this.arch = notification.arch;
    this.args = namedArguments(name, notification.args);
  }

  #listener(): number {
    if (!this.#door.open) throw gone();
    return this.#door.fd;
  }

  /** The caller still waits. False: it was killed or interrupted, and its thread id may be another's. */
  get isWaiting(): boolean {
    return this.#door.open && this.#binding.seccompValid(this.#door.fd, this.#id);
  }

  /**
   * The caller's memory; shorter than `size` where a page is missing.
   * @param size Bytes, at most 1 MiB.
   * @throws {LibcontainerError} `ERR_CALLER_GONE`
   * @throws an error with `code: 'EFAULT'` for an address that is not mapped
   */
  readMemory(address: bigint, size: number): Buffer {
    const bytes = this.#binding.seccompReadMemory(this.#listener(), this.#id, this.tid, address, size);
    if (bytes === null) throw gone();
    return bytes;
  }

  /** Text that ends with a NUL byte. @param maxBytes Default 4096, PATH_MAX. @throws as `readMemory()`; SyscallError ENAMETOOLONG */
  readString(address: bigint, maxBytes = 4096): string {
    const parts: Buffer[] = [];
    for (let read = 0; read < maxBytes; ) {
      const at = address + BigInt(read);
      // Page by page: the next one need not be there.
      const size = Math.min(maxBytes - read, Number(pageBytes - (at % pageBytes)));
      const part = this.readMemory(at, size);
      const end = part.indexOf(0);
      parts.push(end < 0 ? part : part.subarray(0, end));
      if (end >= 0) return Buffer.concat(parts).toString();
      read += part.length;
      if (part.length < size) break;
    }
    throw failed('readString', `0x${address.toString(16)}, ${maxBytes}`, 36);
  }

  /** Writes to the caller's memory: an answer of the call. @returns bytes written. @throws as `readMemory()` */
  writeMemory(address: bigint, bytes: Uint8Array): number {
    const done = this.#binding.seccompWriteMemory(this.#listener(), this.#id, this.tid, address, bytes);
    if (done < 0) throw gone();
    return done;
  }

  /**
   * A duplicate of this process's descriptor in the caller.
   * @param options `at`: this number, closing what is there; `closeOnExec` default true.
   * @returns its number in the caller. @throws {LibcontainerError} `ERR_CALLER_GONE`
   */
  addFd(fd: number, options: { readonly at?: number; readonly closeOnExec?: boolean } = {}): number {
    const { at = -1, closeOnExec = true } = options;
    const number = this.#binding.seccompAddFd(this.#listener(), this.#id, fd, at, closeOnExec, false);
    if (number < 0) throw gone();
    return number;
  }

  /** @throws {LibcontainerError} `ERR_CALLER_GONE` */
  caller(): CallerFacts {
    const text = this.#ofProc('status', path => readFileSync(path, 'latin1'));
    const words = (key: string): string[] =>
      (new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '').split(/\s+/).filter(word => word !== '');
    return {
      pid: Number(words('Tgid')[0]),
      uid: Number(words('Uid')[3]),
      gid: Number(words('Gid')[3]),
      groups: words('Groups').map(Number),
      umask: Number.parseInt(words('Umask')[0] ?? '', 8),
      name: words('Name').join(' '),
      capabilities: BigInt(`0x${words('CapEff')[0] ?? '0'}`),
    };
  }

  /**
   * A path argument as an absolute path in the caller's root; no link is followed.
   * @param dirfd For the …at calls. Default: the working directory.
   * @throws as `readString()`
   */
  path(address: bigint, dirfd?: bigint): string {
    const text = this.readString(address);
    if (text === '') throw failed(this.name, '""', 2);
    if (text.startsWith('/')) return posix.normalize(text);
    const number = dirfd === undefined ? currentDirectory : Number(BigInt.asIntN(32, dirfd));
    const base = this.#ofProc(number === currentDirectory ? 'cwd' : `fd/${number}`, path =>
      readlinkSync(path),
    );
    const root = this.#ofProc('root', path => readlinkSync(path));
    const inside = root === '/' ? base : base === root ? '/' : base.slice(root.length);
    // A directory that was removed, or lies outside of a changed root, has no such path.
    if (!inside.startsWith('/') || !base.startsWith(root) || base.endsWith(' (deleted)'))
      throw failed(this.name, JSON.stringify(text), 2);
    return posix.join(inside, text);
  }

  /**
   * mknod(2) for a caller that may not: the kernel looks at the caller's rights to the directory, its device cgroup and
   * yours decide who may open it. Owner and group are the caller's. Links are resolved in its root.
   * @param path Absolute, in the caller's root.
   * @throws {SyscallError} with the errno of mknod; {LibcontainerError} `ERR_CALLER_GONE`
   */
  makeNode(path: string, { type, major, minor, mode }: NodeOptions): void {
    const { uid, gid, groups, umask } = this.caller();
    const identity = new Uint8Array(Uint32Array.of(uid, gid, ...groups).buffer);
    const clean = posix.resolve('/', path);
    const [directory, name, bits] = [
      dirname(clean),
      basename(clean),
      typeBits[type] | (mode & 0o777 & ~umask),
    ];
    if (name === '') throw failed('mknodat', '"/"', 17);
    const error = this.#binding.seccompMakeNode(
      this.#listener(),
      this.#id,
      this.tid,
      directory,
      name,
      bits,
      major,
      minor,
      identity,
    );
    if (error < 0) throw gone();
    if (error > 0) throw failed('mknodat', JSON.stringify(clean), error);
  }

  /**
   * mount(2) of a new file system in the caller's mount namespace, done by the init executable with all rights: which
   * type, target and options the caller may ask for is for the handler to decide. Links are resolved in its root.
   * @throws {SyscallError} with the errno of what failed; {LibcontainerError} `ERR_CALLER_GONE`, `ERR_ARGUMENT` for a bind mount
   */
  async mount(mount: InnerMount): Promise<void> {
    const namespace = this.#binding.open(`/proc/${this.tid}/ns/mnt`, 0, 0);
    try {
      if (!this.isWaiting) throw gone();
      await mountInside(this.#binding, namespace, mount);
    } finally {
      this.#binding.close(namespace);
    }
  }

  /** What /proc says of the caller, between two looks at the cookie: the thread id may be somebody else's by then. */
  #ofProc<T>(file: string, read: (path: string) => T): T {
    if (this.tid <= 0 || !this.isWaiting) throw gone();
    try {
      return read(`/proc/${this.tid}/${file}`);
    } finally {
      // biome-ignore lint/correctness/noUnsafeFinally: an answer of a thread that is gone is none, and neither is its error
      if (!this.isWaiting) throw gone();
    }
  }
}

const gone = (): LibcontainerError => new LibcontainerError('ERR_CALLER_GONE');

function failed(syscall: string, args: string, errno: number): SyscallError {
  return new SyscallError({ syscall, args, errno, errnoName: errnoName(errno) });
}
