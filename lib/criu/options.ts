/** What callers say about a checkpoint or a restore, and its check. Names are runc's, without their dashes. */
import { lstatSync, mkdirSync, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { LibcontainerError } from '../errors.ts';

/** How CRIU treats cgroups that are there already; default `soft`. */
export type CgroupsMode = 'soft' | 'full' | 'strict' | 'ignore';

export interface CriuProgress {
  /** A notification of CRIU's (`pre-dump`, `network-lock`, `setup-namespaces`, …), or `done`. */
  readonly stage: string;
  /** Milliseconds since the operation began. */
  readonly elapsedMs: number;
}

/** What both directions have. */
interface CommonOptions {
  /** Absolute directory of the image files. */
  readonly imagePath: string;
  /** Absolute directory of log and statistics; made when absent. Default: `imagePath`. */
  readonly workPath?: string;
  /** Established TCP connections. Default false: one is an error. */
  readonly tcpEstablished?: boolean;
  /** UNIX sockets whose other end is outside. Default false. */
  readonly extUnixSk?: boolean;
  /** A session whose leader is outside. Default false. */
  readonly shellJob?: boolean;
  /** File locks. Default false: one is an error. */
  readonly fileLocks?: boolean;
  readonly manageCgroupsMode?: CgroupsMode;
  /** Pages that an image and its parents both have are taken out of the parents. Default false. */
  readonly autoDedup?: boolean;
  /** Memory goes or comes when it is asked for (userfaultfd(2)), by `criu lazy-pages`. Default false. */
  readonly lazyPages?: boolean;
  readonly onProgress?: (progress: CriuProgress) => void;
  /** Abort rejects with `signal.reason`. A dump is given up at CRIU's next notification: the container then goes on. */
  readonly signal?: AbortSignal;
}

export interface CheckpointOptions extends CommonOptions {
  /** The container goes on afterwards. Default false: it is stopped. */
  readonly leaveRunning?: boolean;
  /** Memory only, the container goes on: a round before the checkpoint that names it as its parent. Default false. */
  readonly preDump?: boolean;
  /** Directory of the image before this one, relative to `imagePath`. */
  readonly parentPath?: string;
  /** Connections that are not established yet are left out. Default false: one is an error. */
  readonly tcpSkipInFlight?: boolean;
  /** Files that were unlinked while open get a name again, beside the place where they were. Default false. */
  readonly linkRemap?: boolean;
  /** Memory goes there instead of into the image. */
  readonly pageServer?: { readonly address: string; readonly port: number };
  /** Gets one NUL byte, and is closed, as soon as the server of lazy pages is ready. Needs `lazyPages`. */
  readonly statusFd?: number;
}

export interface RestoreOptions extends CommonOptions {
  /** `TYPE:NAME`, as `apparmor:profile`: instead of the one of the image (CRIU 3.16). */
  readonly lsmProfile?: string;
  /** SELinux context of mounts instead of that of the image (CRIU 3.16). */
  readonly lsmMountContext?: string;
}

/** Times in microseconds; `undefined` in place of all this when CRIU left no statistics. */
export interface CheckpointStatistics {
  readonly freezingUs: number;
  readonly frozenUs: number;
  readonly memoryUs: number;
  readonly writeUs: number;
  readonly pagesScanned: number;
  readonly pagesSkippedParent: number;
  readonly pagesWritten: number;
}

export interface CheckpointResult {
  readonly imagePath: string;
  /** Absolute. */
  readonly logPath: string;
  readonly statistics: CheckpointStatistics | undefined;
}

const wrong = (detail: string): never => {
  throw new LibcontainerError('ERR_ARGUMENT', { detail });
};

const modes: readonly string[] = ['soft', 'full', 'strict', 'ignore'];

function checkCommon({ imagePath, workPath, manageCgroupsMode }: CommonOptions): void {
  if (typeof imagePath !== 'string' || !isAbsolute(imagePath))
    wrong(`imagePath: ${String(imagePath)} is not an absolute path`);
  if (workPath !== undefined && !isAbsolute(workPath)) wrong(`workPath: ${workPath} is not an absolute path`);
  if (manageCgroupsMode !== undefined && !modes.includes(manageCgroupsMode))
    wrong(`manageCgroupsMode: ${String(manageCgroupsMode)} is not one of ${modes.join(', ')}`);
}

/** @throws {LibcontainerError} ERR_ARGUMENT, before any effect */
export function checkCheckpoint(options: CheckpointOptions): void {
  checkCommon(options);
  const { imagePath, parentPath, pageServer, statusFd } = options;
  if (parentPath !== undefined) {
    if (isAbsolute(parentPath)) wrong('parentPath must be relative to imagePath');
    const directory = join(imagePath, parentPath);
    if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true)
      wrong(`parentPath: ${directory} is not a directory`);
  }
  if (pageServer !== undefined) {
    const { address, port } = pageServer;
    if (address === '' || !(Number.isInteger(port) && port > 0 && port < 65536))
      wrong(`pageServer: ${address}:${port} is not ADDRESS:PORT`);
  }
  if (statusFd !== undefined && options.lazyPages !== true) wrong('statusFd needs lazyPages');
  if (options.preDump === true && options.lazyPages === true) wrong('preDump cannot be lazy');
}

/** @throws {LibcontainerError} ERR_ARGUMENT, before any effect */
export function checkRestore(options: RestoreOptions): void {
  checkCommon(options);
  const { imagePath, lsmProfile } = options;
  if (lstatSync(imagePath, { throwIfNoEntry: false })?.isDirectory() !== true)
    wrong(`imagePath: ${imagePath} is not a directory`);
  if (lsmProfile !== undefined && !/^(apparmor|selinux):./.test(lsmProfile))
    wrong(`lsmProfile: ${lsmProfile} is not TYPE:NAME`);
}

/** The image has all memory of the container: ours alone when it is made here. */
export function makeDirectories({ imagePath, workPath }: CommonOptions): void {
  for (const path of [imagePath, workPath])
    if (path !== undefined) mkdirSync(path, { recursive: true, mode: 0o700 });
}
