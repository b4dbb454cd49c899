/**
 * The only loader of the native addon, and the one interface of what it exports (a native test compares the keys).
 * JavaScript validates and names; the addon does the work on its own spawner thread and answers through one uv_async.
 *
 * Every fd that the addon returns is CLOEXEC and belongs to the caller; an fd given to it is borrowed (it duplicates
 * what it must keep before the call returns).
 */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LibcontainerError } from '../errors.ts';

/** One file-system operation of a job, done in order on a native thread. Paths are host paths of ours, never in a rootfs. */
export type FileOperation =
  /** mkdir; `existing: 'ok'` accepts a directory that is there (and is then not undone). Undone by rmdir. */
  | { readonly op: 'mkdir'; readonly path: string; readonly mode: number; readonly existing: 'ok' | 'error' }
  /** open(O_WRONLY) and one write; an errno name in `tolerate` is no error. For cgroup and proc files. */
  | {
      readonly op: 'write';
      readonly path: string;
      readonly data: string;
      readonly tolerate?: readonly string[];
    }
  /** lchown; the group stays. An errno name in `tolerate` is no error. Not undone: what is given away is removed as a whole. */
  | {
      readonly op: 'chown';
      readonly path: string;
      readonly uid: number;
      readonly tolerate?: readonly string[];
    }
  /** A new file with this content: temporary file `path.tmp`, write, (fsync unless tmpfs when `sync`), rename. Undone by unlink. */
  | {
      readonly op: 'put';
      readonly path: string;
      readonly data: string;
      readonly mode: number;
      readonly sync: boolean;
    }
  /** mkfifo + chown. Undone by unlink. */
  | {
      readonly op: 'mkfifo';
      readonly path: string;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    }
  /** unlink; absent is no error. Not undone. */
  | { readonly op: 'unlink'; readonly path: string }
  /** rmdir; absent is no error; EBUSY is tried again for some ms. Not undone. */
  | { readonly op: 'rmdir'; readonly path: string }
  /** Loads the BPF_PROG_TYPE_CGROUP_DEVICE program and attaches it to the cgroup directory, replacing ours. */
  | { readonly op: 'deviceProgram'; readonly path: string; readonly program: Uint8Array }
  /**
   * flock(LOCK_EX|LOCK_NB) on this state directory until the last operation is done, and a look at who it belongs to: its
   * state.json must begin with `record`, else ESTALE. The same lock as `lock(path + '/')`.
   */
  | { readonly op: 'lock'; readonly path: string; readonly record: string };

/** How the spawner learns pid and start time of the state file: `text[0] + pid + text[1] + startTime + text[2]`. */
export interface StateFile {
  readonly path: string;
  readonly text: readonly [string, string, string];
  readonly mode: number;
  readonly sync: boolean;
}

/** A slot that the spawner fills with a detached, idmapped bind mount; the fields are those of plan/steps.ts. */
export interface MappedTree {
  readonly source: string;
  readonly recursive: boolean;
  readonly mapRecursive: boolean;
  readonly userNamespace?: string;
  readonly uidMap: string;
  readonly gidMap: string;
}

export interface SpawnJob {
  /** Done first, undone in reverse order when one of them or the clone fails. */
  readonly before: readonly FileOperation[];
  /** Encoded Plan (proto/init.proto). */
  readonly plan: Uint8Array;
  /** CLONE_NEW*. */
  readonly cloneFlags: number;
  /** cgroup v2 directory for CLONE_INTO_CGROUP. */
  readonly cgroup?: string;
  /** Enter this pid namespace for children (an nsfs path) before the clone. */
  readonly pidNamespace?: string;
  /** The plan has a forkInto or firstInside step: whose pid, signals and exit are reported is the second stage. */
  readonly forks?: boolean;
  /** Namespaces that the spawner's thread enters for the clone and leaves again; net, ipc, uts, cgroup. */
  readonly entered?: readonly { readonly type: number; readonly path: string }[];
  /**
   * The parent's part of a start in a user namespace: files below /proc/PID (written when init asks, step userNamespace),
   * paths to open in init's mount namespace (step hostView), limits (when init is ready). Without files JavaScript hears
   * the sync `userNamespace`.
   */
  readonly userNamespace?: {
    readonly files: readonly { readonly name: string; readonly data: string }[];
    readonly views: readonly { readonly path: string; readonly tree: boolean; readonly recursive: boolean }[];
    readonly limits: readonly { readonly resource: number; readonly soft: bigint; readonly hard: bigint }[];
  };
  /** Descriptors 0, 1, 2 of the child. */
  readonly stdio: readonly [number, number, number];
  /** Host descriptors that the container keeps as 3, 4, …. */
  readonly preserved: readonly number[];
  /** What plan steps name by slot: a descriptor, or a path that the spawner opens (after `before`) with these flags. */
  readonly slots: readonly (number | { readonly path: string; readonly flags: number } | MappedTree)[];
  /** Written (temporary file, rename) when init says ready, before the answer: a `start` from elsewhere may race. */
  readonly stateFile?: StateFile;
  /** True: JavaScript answers 'ready' itself with `answer()` (poststart hooks, rollback); false: the spawner does, after stateFile. */
  readonly askReady: boolean;
  /** The spawner sends this with its own answer to ready (the OCI state for startContainer hooks). May hold "@PID@". */
  readonly readyState?: string;
  /** Use the fault-injecting build of init (test builds). */
  readonly faults: boolean;
  /**
   * Once it waits or executes, its end is told but it stays a zombie: whoever inherits our children reads the status.
   * Default false.
   */
  readonly unreaped?: boolean;
  /**
   * The monitor process is the parent of the child: it writes to `exitFile`, made by the spawner after `before`, how the child
   * ended. `orders` (parent/monitor-orders.ts): what it does at the end of the child and of this process; '': no more.
   */
  readonly monitor?: { readonly exitFile: string; readonly orders: string };
  /** Instead of `monitor`: a socket to the front (addon/front) that is to be the parent. Its `exit` is of kind `unknown`. */
  readonly front?: number;
}

/** Calls in order: (sync* | fd)* ready? waiting? running exit — or failed at any point; `exit` always comes last if a child existed. */
export type JobEvent =
  | { readonly type: 'sync'; readonly name: string; readonly pid: number; readonly startTime: bigint }
  | { readonly type: 'ready'; readonly pid: number; readonly startTime: bigint }
  /** init stands at waitStart. */
  | {
      readonly type: 'waiting';
      readonly pid: number;
      readonly startTime: bigint;
      readonly durationsNs: readonly number[];
    }
  /** execve has happened. */
  | {
      readonly type: 'running';
      readonly pid: number;
      readonly startTime: bigint;
      readonly durationsNs: readonly number[];
    }
  /** init sent a descriptor (`console`: the ptmx). The receiver owns it. */
  | { readonly type: 'fd'; readonly name: string; readonly fd: number }
  /**
   * The start failed in init (stage 'init'; also a state file that cannot be written: step 'stateFile', index -1), in a file
   * operation ('prepare'), in clone or execveat ('spawn'), or init died silently ('died'). After 'prepare' and 'spawn' no exit
   * follows, since there was no child.
   */
  | {
      readonly type: 'failed';
      readonly stage: 'prepare' | 'spawn' | 'init' | 'died';
      /** Index of the file operation or of the step. */
      readonly index: number;
      /** `op` of the file operation or name of the step. */
      readonly step: string;
      readonly syscall: string;
      readonly args: string;
      /** Positive; 0 when no system call failed. */
      readonly errno: number;
      readonly reason: string;
      readonly detail: string;
    }
  /**
   * The child is reaped; the job is over. `status` is the exit code or the signal number. `unknown`: its monitor was killed,
   * or somebody in this process has waited for it, and the kernel (before 6.15) does not tell.
   */
  | {
      readonly type: 'exit';
      readonly kind: 'exited' | 'signaled' | 'unknown';
      readonly status: number;
      readonly coreDumped: boolean;
    };

/** `status`: exit code, or signal number. */
export interface KernelExit {
  readonly kind: 'exited' | 'signaled';
  readonly status: number;
  readonly coreDumped: boolean;
}

export interface SpawnHandle {
  /** Answers 'sync' and (if asked) 'ready'; `state` is the OCI state that init hands to its own hooks. */
  answer(state: string): void;
  /** Leaves waitStart via pipe (a prepared exec), or waitCommand with what to execute. False: the command is too large. */
  release(command?: Buffer): boolean;
  /** Kills init with SIGKILL and drops the pipe; the exit event follows. No error when it is gone. */
  abort(): void;
  /** pidfd_send_signal; returns false when the process is gone. Throws on a bad signal number. */
  kill(signal: number): boolean;
  /** A duplicate of the pidfd; the caller owns it. -1 when the child is gone. */
  pidfd(): number;
  /** Whether this child keeps the event loop alive (default true until exit). */
  ref(): void;
  unref(): void;
}

export interface Binding {
  /** The paths of the init executables (release, faults); sealed into a memfd on first use. */
  configure(paths: { readonly init: string; readonly initFaults?: string }): void;
  /** Starts a job on the spawner thread. Throws a TypeError on a malformed job; everything else comes as an event. */
  spawn(job: SpawnJob, onEvent: (event: JobEvent) => void): SpawnHandle;
  /** Does the operations on a native thread. Rejects with errno, code, syscall, path, `index`; done ones are undone when `undo`. */
  files(operations: readonly FileOperation[], undo: boolean): Promise<void>;

  /** pidfd_open of a process that is verified by its start time (clock ticks, /proc/pid/stat field 22). -1: gone. */
  pidfdOpen(pid: number, startTime: bigint): number;
  /** pidfd_send_signal; false: gone (ESRCH). */
  pidfdSendSignal(pidfd: number, signal: number): boolean;
  /** How the process behind the pidfd has ended (Linux 6.15). null: it is not reaped yet; undefined: the kernel does not tell. */
  pidfdExit(pidfd: number): KernelExit | null | undefined;
  /** Reaps a child of this process that no job has made. null: it has not ended; undefined: it is no child of ours, or was reaped. */
  pidfdReap(pidfd: number): KernelExit | null | undefined;
  /** Calls back once when the process behind the pidfd has ended (not its status: it may be nobody's child here). Borrowed fd. */
  pidfdWatch(pidfd: number, onExit: () => void): Watch;
  /** Watches fd for epoll events (EPOLLIN | EPOLLPRI …) and calls back with the ready mask each time. Borrowed fd. */
  watch(fd: number, events: number, onReady: (events: number) => void): Watch;

  /**
   * Moves devices, pairs of host name and name inside (which may hold `%d`), into the network namespace of this process,
   * gives them their permanent global addresses again and brings them up. All are looked at before the first is moved.
   * Rejects with errno, code, syscall, args and `index` of the pair.
   */
  moveNetDevices(
    pid: number,
    startTime: bigint,
    devices: readonly (readonly [string, string])[],
  ): Promise<void>;

  pipe(): [read: number, write: number];
  socketpair(): [number, number];
  /** AF_UNIX, SOCK_SEQPACKET. */
  packetPair(): [number, number];
  /** One message, without waiting; false: the other side is gone. Throws EAGAIN when its queue is full. */
  packetSend(fd: number, data: Uint8Array): boolean;
  /** The next message (256 KiB at most) with its descriptors, which are the caller's; `ended`: the other side is gone. Never blocks. */
  packetReceive(fd: number): { readonly data: Buffer; readonly fds: readonly number[] } | 'none' | 'ended';
  /** A listening AF_UNIX SOCK_SEQPACKET socket, mode 0600, non-blocking. Throws EADDRINUSE when something is at the path. */
  packetListen(path: string): number;
  /**
   * Who has connected, by SO_PEERCRED; null: nobody now. Never blocks. The pidfd is the caller's to close; -1 before Linux
   * 6.5. A process that is reaped already has pid 0.
   */
  packetAccept(fd: number): {
    readonly fd: number;
    readonly pid: number;
    readonly pidfd: number;
    readonly uid: number;
  } | null;
  /** open(2) with O_CLOEXEC added; synchronous, for /proc, /dev/null and state files only. */
  open(path: string, flags: number, mode: number): number;
  /**
   * For every descriptor that comes from the addon. Node counts those of a Worker (`trackUnmanagedFds`): fs.close() of one
   * that fs.open() has not made is a warning, and what only the addon has closed is closed again when the Worker ends.
   */
  close(fd: number): void;
  /** flock(LOCK_EX) on a file, which is made when absent, or (`path` ends with a slash) on a directory; resolves to the fd that holds it. Rejects with EAGAIN after timeoutMs. */
  lock(path: string, timeoutMs: number): Promise<number>;
  /** Whether somebody holds an flock on this file; false when there is no such file. */
  isLocked(path: string): boolean;
  /** statfs f_type, e.g. 0x01021994 for tmpfs, 0x63677270 for cgroup2. */
  fsType(path: string): number;
  eventfd(): number;
  inotify(path: string, mask: number): number;

  ptyResize(fd: number, columns: number, rows: number): void;
  /** Sends data and the fd over the UNIX stream socket at this path (the --console-socket protocol). */
  sendFd(socketPath: string, data: string, fd: number): Promise<void>;
  /** A bound UNIX datagram socket, non-blocking, for `watch` and read(2); `mode` of the socket file. */
  datagramListen(path: string, mode: number): number;
  /** One datagram to a UNIX socket (a path or `@abstract`). Throws EAGAIN when its queue is full. */
  datagramSend(path: string, data: string): void;
  /** O_NONBLOCK for a descriptor that somebody else opened: a ptmx from init. */
  setNonBlocking(fd: number): void;
  /** The start time of a process (clock ticks); null when it is gone or a zombie. */
  startTime(pid: number): bigint | null;
  /** Linux kernel capabilities and limits that a plan needs: last capability number. */
  lastCapability(): number;
  /** libseccomp: compiled program for a seccomp section as JSON (config.Seccomp); throws with the offending field. */
  seccompCompile(json: string): { readonly program: Uint8Array; readonly flags: number };
  seccompVersion(): string;
  /** The next notification of a listener: `none` now, or `ended`: no process uses the filter any more. Never blocks. */
  seccompReceive(listener: number): SeccompNotification | 'none' | 'ended';
  /** Answers; `proceed` lets the kernel do the call. False: the caller is gone or was interrupted. */
  seccompRespond(listener: number, id: bigint, errno: number, value: number, proceed: boolean): boolean;
  /** SECCOMP_IOCTL_NOTIF_ID_VALID: the caller still waits for the answer to this notification. */
  seccompValid(listener: number, id: bigint): boolean;
  /** Puts a descriptor into the caller (`at` -1: any number); `send` answers with it. -1: the caller is gone. */
  seccompAddFd(
    listener: number,
    id: bigint,
    fd: number,
    at: number,
    closeOnExec: boolean,
    send: boolean,
  ): number;
  /** process_vm_readv between two looks at the cookie; may be shorter. null: the caller is gone. */
  seccompReadMemory(listener: number, id: bigint, pid: number, address: bigint, size: number): Buffer | null;
  /** Number of bytes; -1: the caller is gone. */
  seccompWriteMemory(listener: number, id: bigint, pid: number, address: bigint, bytes: Uint8Array): number;
  /** mknod in the caller's root with its rights to the directory; `identity`: uid, gid, groups. 0, errno, -1: gone. */
  seccompMakeNode(
    listener: number,
    id: bigint,
    pid: number,
    directory: string,
    name: string,
    mode: number,
    major: number,
    minor: number,
    identity: Uint8Array,
  ): number;
  /** Of AUDIT_ARCH_* and a number; null: not known to libseccomp. */
  syscallName(arch: number, number: number): string | null;
  /** Version of Landlock's interface; 0: this kernel has none. */
  landlockAbi(): number;
  /** Newer system calls, made so that they do nothing → their errno. ENOSYS (38): not there; EPERM (1): filtered. */
  kernelCalls(): { readonly [name: string]: number };

  /**
   * Makes an entry of somebody else's archive below `root`, where every link stays (addon/sys/tree.h). Of a file `fd` (else
   * -1) takes the content; it and a directory then need treeFinish.
   */
  treeMake(root: number, entry: TreeEntry): Promise<{ readonly fd: number; readonly inode: bigint }>;
  /** Owner, mode, attributes, time: of the file `fd`, which stays open, or (null) of the directory `inode`. Gives attributes that were refused. */
  treeFinish(root: number, entry: TreeEntry, fd: number | null, inode: bigint): Promise<readonly string[]>;
  /** Removes what is there with all that is in it; `keep`: only what is in it. */
  treeRemove(root: number, path: Uint8Array, keep: boolean): Promise<void>;
  /** open(2) of a path below a directory that others may have made (RESOLVE_BENEATH); synchronous. */
  openBeneath(directory: number, path: string, flags: number): number;
}

/** An entry of an archive. `path`: components with one slash between them, without `.` and `..`; empty: the root. */
export interface TreeEntry {
  readonly path: Uint8Array;
  readonly kind: 'file' | 'directory' | 'symlink' | 'link' | 'fifo' | 'char' | 'block';
  /** Of a symbolic link the text, of a hard link a path as above; else empty. */
  readonly target: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** -1: this process's. */
  readonly uid: number;
  readonly gid: number;
  readonly mtimeMs: number;
  readonly major: number;
  readonly minor: number;
  readonly attributes: readonly (readonly [name: string, value: Uint8Array])[];
}

/** struct seccomp_notif, seccomp_unotify(2). */
export interface SeccompNotification {
  readonly id: bigint;
  /** Of the thread, in this process's pid namespace. */
  readonly pid: number;
  readonly number: number;
  /** AUDIT_ARCH_*. */
  readonly arch: number;
  readonly instructionPointer: bigint;
  /** Six. */
  readonly args: readonly bigint[];
}

export interface Watch {
  close(): void;
  ref(): void;
  unref(): void;
}

/** Where the native parts of this copy of the library are. */
interface NativeFiles {
  readonly addon: string;
  readonly init: string;
  /** Only in a checkout: the fault-injecting build is never in a package. */
  readonly initFaults?: string;
}

// In the CommonJS bundle there is no import.meta.url, in the ES module no __filename.
declare const __filename: string | undefined;

function directoryOfThisFile(): string {
  return dirname(typeof __filename === 'string' ? __filename : fileURLToPath(import.meta.url));
}

/** A package has them beside its bundle; a checkout in build/, some directories up from the source or a test bundle. */
function nativeFiles(): NativeFiles {
  const here = directoryOfThisFile();
  const packaged = join(here, 'native', `${process.platform}-${process.arch}`);
  if (existsSync(join(packaged, 'libcontainer.node')))
    return { addon: join(packaged, 'libcontainer.node'), init: join(packaged, 'init') };
  for (let directory = here; ; directory = dirname(directory)) {
    const addon = join(directory, 'build', 'Release', 'libcontainer.node');
    if (existsSync(addon)) {
      const initFaults = join(directory, 'build', 'init', 'init-faults');
      return {
        addon,
        init: join(directory, 'build', 'init', 'init'),
        ...(existsSync(initFaults) ? { initFaults } : {}),
      };
    }
    // No further than our own package: a build/ of somebody else must not be loaded.
    if (existsSync(join(directory, 'package.json')) || dirname(directory) === directory) break;
  }
  throw new LibcontainerError('ERR_ADDON', { detail: `no libcontainer.node beside ${here}` });
}

function checkPlatform(): void {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64'))
    throw new LibcontainerError('ERR_PLATFORM', { detail: `${process.platform} ${process.arch}` });
  const kernel = release();
  const [major = 0, minor = 0] = kernel.split('.').map(part => Number.parseInt(part, 10));
  if (major < 5 || (major === 5 && minor < 12))
    throw new LibcontainerError('ERR_PLATFORM', { detail: `kernel ${kernel}` });
}

let loaded: Binding | undefined;
let faultsAvailable = false;

/**
 * The addon, loaded on first use. Loading starts no thread: the first spawn does.
 *
 * @throws {LibcontainerError} `ERR_PLATFORM` when this is no Linux 5.12 or later on x86-64 or arm64; `ERR_ADDON` when the
 *   addon is missing or cannot be loaded (the cause is the loader's error).
 */
export function binding(): Binding {
  if (loaded !== undefined) return loaded;
  checkPlatform();
  const files = nativeFiles();
  const module: { exports: Partial<Binding> } = { exports: {} };
  try {
    process.dlopen(module, files.addon);
  } catch (cause) {
    throw new LibcontainerError('ERR_ADDON', { detail: files.addon, cause });
  }
  const addon = module.exports as Binding;
  addon.configure({
    init: files.init,
    ...(files.initFaults === undefined ? {} : { initFaults: files.initFaults }),
  });
  faultsAvailable = files.initFaults !== undefined;
  loaded = addon;
  return addon;
}

/** Whether the fault-injecting build of init is there (checkouts only). */
export function hasFaultInit(): boolean {
  binding();
  return faultsAvailable;
}
