/** A checkpoint: what CRIU is asked for, as runc asks it (criu_linux.go), and its notifications. */
import {
  closeSync,
  constants,
  openSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { CgroupManager } from '../cgroups/manager.ts';
import type { Config, NamespaceType } from '../config/config.ts';
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { CLONE } from '../plan/numbers.ts';
import { converse } from './conversation.ts';
import { type CriuJob, startCriu } from './job.ts';
import { readStatistics } from './log.ts';
import { externalMounts, mountRows } from './mounts.ts';
import {
  type CheckpointOptions,
  type CheckpointResult,
  type CheckpointStatistics,
  makeDirectories,
} from './options.ts';
import { type Program, requireCriu, requireFeature, requireVersion } from './program.ts';
import { CgroupMode, type Options, RequestType } from './rpc.ts';

export interface DumpRequest {
  readonly binding: Binding;
  readonly config: Config;
  readonly manager: CgroupManager;
  /** Of the container's init. */
  readonly pid: number;
  /** Of the state directory: pid and start time of CRIU, for who comes after a crash. */
  readonly criuFile: string;
  readonly options: CheckpointOptions;
}

const logFile = 'dump.log';
/** runc's: what init had as descriptors 0, 1, 2. */
export const descriptorsFile = 'descriptors.json';
export const statusFdSince = 31500;

export const cgroupModes = {
  soft: CgroupMode.SOFT,
  full: CgroupMode.FULL,
  strict: CgroupMode.STRICT,
  ignore: CgroupMode.IGNORE,
} as const;

/** @throws {CriuError} {LibcontainerError} the container goes on, unless CRIU was killed at its work */
export async function dump(request: DumpRequest): Promise<CheckpointResult> {
  const { binding, options } = request;
  const program = await requireCriu(binding);
  if (options.preDump === true) await requireFeature(binding, program, 'memTrack');
  if (options.lazyPages === true) await requireFeature(binding, program, 'lazyPages');
  options.signal?.throwIfAborted();
  makeDirectories(options);
  const directory = options.workPath ?? options.imagePath;
  const image = openSync(options.imagePath, constants.O_RDONLY | constants.O_DIRECTORY);
  const work = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  let job: CriuJob | undefined;
  try {
    const opts = dumpOptions(request, program, image, work);
    if (options.preDump !== true) {
      addMounts(opts, request);
      writeFileSync(join(options.imagePath, descriptorsFile), JSON.stringify(descriptors(request.pid)), {
        mode: 0o600,
      });
    }
    job = await startCriu({
      binding,
      program: program.path,
      stateFile: { path: request.criuFile, text: ['{"pid":', ',"start":', '}\n'], mode: 0o600, sync: false },
    });
    await converse({
      binding,
      job,
      program: program.path,
      operation: options.preDump === true ? 'pre-dump' : 'dump',
      request: { type: options.preDump === true ? RequestType.PRE_DUMP : RequestType.DUMP, opts },
      log: { directory, file: logFile },
      onNotification: async (script, _, fds) => {
        for (const fd of fds) binding.close(fd);
        if (script === 'status-ready') tellReady(options.statusFd);
      },
      onProgress: options.onProgress,
      signal: options.signal,
    });
  } finally {
    // After a pre-dump CRIU waits for the next request: the end of the socket is the answer, and its exit status says nothing.
    job?.session.close();
    await job?.ended;
    closeSync(image);
    closeSync(work);
  }
  const statistics = (await readStatistics(directory, 'dump'))?.dump;
  return {
    imagePath: options.imagePath,
    logPath: join(directory, logFile),
    statistics: statistics === undefined || statistics === null ? undefined : statisticsOf(statistics),
  };
}

function statisticsOf(found: {
  freezingTime: number;
  frozenTime: number;
  memdumpTime: number;
  memwriteTime: number;
  pagesScanned: unknown;
  pagesSkippedParent: unknown;
  pagesWritten: unknown;
}): CheckpointStatistics {
  return {
    freezingUs: found.freezingTime,
    frozenUs: found.frozenTime,
    memoryUs: found.memdumpTime,
    writeUs: found.memwriteTime,
    pagesScanned: Number(found.pagesScanned),
    pagesSkippedParent: Number(found.pagesSkippedParent),
    pagesWritten: Number(found.pagesWritten),
  };
}

/** Once: who waits for it waits for the end of the file too. */
function tellReady(fd: number | undefined): void {
  if (fd === undefined) return;
  writeSync(fd, Buffer.from([0]));
  closeSync(fd);
}

/** 2: errors, 4: all that CRIU does. runc's. */
export const logLevel = 4;

function dumpOptions(
  { config, manager, pid, options }: DumpRequest,
  program: Program,
  image: number,
  work: number,
): Options {
  const external: string[] = [];
  for (const type of ['network', 'pid'] as const) {
    const namespace = externalNamespace(config, pid, type, program);
    if (namespace !== undefined) external.push(namespace);
  }
  // The v2 freezer since 3.14; else CRIU stops the processes one by one, with ptrace.
  const freezer =
    manager.layout === 'v2'
      ? program.version >= 31400
        ? manager.paths['']
        : undefined
      : manager.paths.freezer;
  const { parentPath, pageServer, statusFd } = options;
  return {
    ...commonOptions(config, options),
    imagesDirFd: image,
    workDirFd: work,
    logFile,
    root: config.rootfs,
    pid,
    leaveRunning: options.leaveRunning ?? false,
    tcpSkipInFlight: options.tcpSkipInFlight ?? false,
    linkRemap: options.linkRemap ?? false,
    external,
    ...(freezer === undefined ? {} : { freezeCgroup: freezer }),
    ...(pageServer === undefined ? {} : { ps: pageServer }),
    ...(parentPath === undefined ? {} : { parentImg: parentPath, trackMem: true }),
    // Newer ones notify (`status-ready`).
    ...(statusFd !== undefined && program.version < statusFdSince ? { statusFd } : {}),
  };
}

/** What runc says in both directions. */
export function commonOptions(
  config: Config,
  options: Pick<
    CheckpointOptions,
    | 'tcpEstablished'
    | 'extUnixSk'
    | 'shellJob'
    | 'fileLocks'
    | 'manageCgroupsMode'
    | 'autoDedup'
    | 'lazyPages'
  >,
) {
  const { manageCgroupsMode: mode } = options;
  // 'org.criu.config' names a file that has the last word; empty: none (runc).
  const configFile = config.annotations['org.criu.config'] ?? '/etc/criu/runc.conf';
  return {
    logLevel,
    notifyScripts: true,
    manageCgroups: true,
    manageCgroupsMode: mode === undefined ? CgroupMode.DEFAULT : cgroupModes[mode],
    shellJob: options.shellJob ?? false,
    extUnixSk: options.extUnixSk ?? false,
    tcpEstablished: options.tcpEstablished ?? false,
    fileLocks: options.fileLocks ?? false,
    autoDedup: options.autoDedup ?? false,
    lazyPages: options.lazyPages ?? false,
    orphanPtsMaster: true,
    // Network devices are the engine's: it makes them anew, in its hooks.
    emptyNs: CLONE.NEWNET,
    ...(configFile === '' ? {} : { configFile }),
  };
}

/** CRIU's words for the kinds of namespaces, and since when it takes them from outside. */
const externalKinds = {
  network: { word: 'net', key: 'extRootNetNS', since: 31100 },
  pid: { word: 'pid', key: 'extRootPidNS', since: 31500 },
} as const;
export type ExternalKind = keyof typeof externalKinds;

export const externalKey = (type: ExternalKind): string => externalKinds[type].key;

/** Path of a namespace that the container has from outside, if CRIU is to leave it alone. */
export function joinedPath(config: Config, type: NamespaceType): string | undefined {
  return config.namespaces.find(namespace => namespace.type === type)?.path;
}

export function requireExternal(program: Program, type: ExternalKind): void {
  requireVersion(program, externalKinds[type].since, `a ${type} namespace that is joined by path`);
}

function externalNamespace(
  config: Config,
  pid: number,
  type: ExternalKind,
  program: Program,
): string | undefined {
  if (joinedPath(config, type) === undefined) return undefined;
  requireExternal(program, type);
  const { word, key } = externalKinds[type];
  // Of the process itself: the path may name another one by now.
  return `${word}[${statSync(`/proc/${pid}/ns/${word}`).ino}]:${key}`;
}

function addMounts(opts: Options, { config, manager, pid }: DumpRequest): void {
  const mounted = new Set(mountRows(pid).map(({ point }) => point));
  const mounts: { key: string; val: string }[] = [];
  const add = (key: string, val: string): void => {
    if (!mounts.some(mount => mount.key === key)) mounts.push({ key, val });
  };
  for (const { name } of externalMounts(config, manager.mountRows)) add(name, name);
  // A masked file is a bind of a null device; a masked directory is a tmpfs, which CRIU dumps.
  for (const path of config.maskedPaths) if (mounted.has(path) && isNull(pid, path)) add(path, '/dev/null');
  for (const { path } of config.devices) if (mounted.has(path)) add(path, path);
  opts.extMnt = mounts;
}

function isNull(pid: number, path: string): boolean {
  try {
    return statSync(`/proc/${pid}/root${path}`).isCharacterDevice();
  } catch {
    return false;
  }
}

/** As /proc shows them: a pipe has a name by which it is handed to CRIU again on restore. */
function descriptors(pid: number): string[] {
  return [0, 1, 2].map(fd => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
}

/** Never trusted: whoever wrote the image wrote it. @throws {LibcontainerError} ERR_CRIU_IMAGE */
export function readDescriptors(imagePath: string): string[] {
  const path = join(imagePath, descriptorsFile);
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (Array.isArray(value) && value.length <= 1024 && value.every(word => typeof word === 'string'))
      return value as string[];
  } catch (cause) {
    throw new LibcontainerError('ERR_CRIU_IMAGE', { detail: path, cause });
  }
  throw new LibcontainerError('ERR_CRIU_IMAGE', { detail: path });
}
