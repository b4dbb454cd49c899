/**
 * A restore: mount points in the rootfs, CRIU in the container's cgroup and a mount namespace of its own, its
 * notifications. Nothing of it is seen in the host's mount table, and everything that it made dies with the cgroup.
 */
import { closeSync, constants, openSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupManager, CgroupStart } from '../cgroups/manager.ts';
import type { Config, NamespaceType } from '../config/config.ts';
import { CriuError, LibcontainerError } from '../errors.ts';
import type { Binding, FileOperation } from '../native/binding.ts';
import { moveNetDevices } from '../parent/net-devices.ts';
import { StartFailure } from '../parent/parent-process.ts';
import { hasNamespace, hasNewNamespace } from '../plan/namespaces.ts';
import { CLONE, MS, namespaceFlags } from '../plan/numbers.ts';
import type { MountStep, Step } from '../plan/steps.ts';
import { ownerOutside } from '../plan/user-namespace.ts';
import { converse } from './conversation.ts';
import { commonOptions, externalKey, joinedPath, readDescriptors, requireExternal } from './dump.ts';
import { type CriuJob, runSteps, socketFd, startCriu } from './job.ts';
import { lendImages } from './lend.ts';
import { type ExternalMount, externalMounts, nullName, verifyMounts } from './mounts.ts';
import { makeDirectories, type RestoreOptions } from './options.ts';
import { type Program, requireCriu, requireFeature, requireVersion } from './program.ts';
import { type Options, RequestType } from './rpc.ts';
import { unlockNetwork } from './unlock.ts';

export interface RestoreRequest {
  readonly binding: Binding;
  readonly config: Config;
  readonly manager: CgroupManager;
  readonly cgroup: CgroupStart;
  /** What makes the state directory, done before the cgroups. */
  readonly before: readonly FileOperation[];
  /** Descriptors 0, 1, 2 for CRIU, and for the pipes that the container had there. */
  readonly stdio: readonly [number, number, number];
  readonly options: RestoreOptions;
  /** From now on there is something to take back: the state directory, the cgroups, processes in them. */
  readonly onMade: () => void;
  /** The namespaces are there, with the root task as their only process. Its pid; called once. */
  readonly onBorn: (pid: number) => Promise<void>;
  /** All is restored; no process has gone on yet. */
  readonly onRestored: (pid: number) => Promise<void>;
  /** The other end of the container's terminal, the receiver's. */
  readonly onTerminal: (fd: number) => Promise<void>;
}

const logFile = 'restore.log';

/** @throws {CriuError} {StartFailure} {LibcontainerError} the caller takes back what is left: processes, cgroups, state */
export async function restore(request: RestoreRequest): Promise<void> {
  const { binding, config, options } = request;
  const program = await requireCriu(binding);
  if (options.lazyPages === true) await requireFeature(binding, program, 'lazyPages');
  for (const [name, value] of [
    ['lsmProfile', options.lsmProfile],
    ['lsmMountContext', options.lsmMountContext],
  ] as const)
    if (value !== undefined) requireVersion(program, 31600, name);
  refuseJoined(config);
  const mounts = externalMounts(config, request.manager.mountRows);
  const pipes = readDescriptors(options.imagePath);
  options.signal?.throwIfAborted();
  makeDirectories(options);
  await makeMountPoints(binding, config);
  const opened: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags);
    opened.push(fd);
    return fd;
  };
  let job: CriuJob | undefined;
  let restored = false;
  let network: number | undefined;
  let takeBack: (() => void) | undefined;
  const abort = (): void => job?.kill();
  try {
    const directory = options.workPath ?? options.imagePath;
    const inherited = joinedNamespaces(config, program, open);
    network = inherited.find(({ type }) => type === 'network')?.fd;
    const owner = ownerOutside(config);
    if (owner !== undefined) takeBack = lendImages(options.imagePath, owner.gid);
    const opts: Options = {
      ...commonOptions(config, options),
      imagesDirFd: -1,
      logFile,
      root: config.rootfs,
      rstSibling: true,
      evasiveDevices: true,
      extMnt: mountNames(config, mounts),
      joinNs: joinedOthers(config),
      inheritFd: [
        ...inherited.map(({ type }, index) => ({ key: externalKey(type), fd: socketFd + 1 + index })),
        ...pipeDescriptors(pipes),
      ],
      ...(options.lsmProfile === undefined ? {} : { lsmProfile: options.lsmProfile }),
      ...(options.lsmMountContext === undefined ? {} : { lsmMountContext: options.lsmMountContext }),
    };
    job = await start(request, program, inherited);
    request.onMade();
    opts.cgRoot = ownCgroups(job.pid);
    // It opens them as descriptors of ours and then mounts below them: they must be of its own mount namespace.
    const inside = (path: string): string => `/proc/${job?.pid}/root${realpathSync(path)}`;
    opts.imagesDirFd = open(inside(options.imagePath), constants.O_RDONLY | constants.O_DIRECTORY);
    opts.workDirFd = open(inside(directory), constants.O_RDONLY | constants.O_DIRECTORY);
    options.signal?.addEventListener('abort', abort, { once: true });
    options.signal?.throwIfAborted();
    await converse({
      binding,
      job,
      program: program.path,
      operation: 'restore',
      request: { type: RequestType.RESTORE, opts },
      log: { directory, file: logFile },
      onNotification: notifications(request, mounts),
      onProgress: options.onProgress,
      signal: options.signal,
    });
    job.session.close();
    const { good, how } = await job.ended;
    if (!good)
      throw new CriuError(
        'ERR_CRIU',
        { operation: 'restore', logPath: join(directory, logFile) },
        { detail: `restore: criu ended badly: ${how}` },
      );
    restored = true;
  } catch (error) {
    job?.kill();
    // That is what has killed it.
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', abort);
    job?.session.close();
    await job?.ended;
    takeBack?.();
    // Closed by the checkpoint, and once more by the restore; after a failure the other ends of connections wait on.
    if (network !== undefined && job !== undefined && (restored || options.tcpEstablished !== true))
      await unlockNetwork(network);
    for (const fd of opened) closeSync(fd);
  }
}

type Inherited = readonly { readonly type: 'network' | 'pid'; readonly fd: number }[];

async function start(request: RestoreRequest, program: Program, inherited: Inherited): Promise<CriuJob> {
  try {
    return await startCriu({
      binding: request.binding,
      program: program.path,
      stdio: request.stdio,
      inherited: inherited.map(({ fd }) => fd),
      placement: placement(request),
    });
  } catch (error) {
    const stage = error instanceof StartFailure ? error.event?.stage : undefined;
    // Before there was a child the spawner has taken back its own operations.
    if (stage !== 'prepare' && stage !== 'spawn') request.onMade();
    throw error;
  }
}

/** Which descriptors of whom a notification brings, and what is done in it. */
function notifications(request: RestoreRequest, mounts: readonly ExternalMount[]) {
  const { binding, config } = request;
  let born = false;
  const bear = async (pid: number): Promise<void> => {
    if (born) return;
    born = true;
    await request.onBorn(pid);
  };
  return async (script: string, pid: number, fds: readonly number[]): Promise<void> => {
    const [fd, ...more] = fds;
    for (const other of more) binding.close(other);
    if (script === 'orphan-pts-master' && fd !== undefined) {
      await request.onTerminal(fd);
      return;
    }
    if (fd !== undefined) binding.close(fd);
    if (script === 'setup-namespaces') {
      await bear(pid);
      await setUpNetwork(binding, config, pid);
    }
    if (script === 'post-restore') {
      // Without a namespace of its own there is no earlier word of it.
      await bear(pid);
      verifyMounts(pid, mounts);
      await request.onRestored(pid);
    }
  };
}

/** As a start leaves it: the devices of the configuration in it, the loopback up. CRIU makes the namespace empty (emptyNs). */
async function setUpNetwork(binding: Binding, config: Config, pid: number): Promise<void> {
  if (!hasNewNamespace(config, 'network')) return;
  const path = `/proc/${pid}/ns/net`;
  await runSteps(binding, 0, [{ kind: 'setns', type: namespaceFlags.network, path }, { kind: 'loopback' }]);
  const startTime = binding.startTime(pid);
  if (config.netDevices !== undefined && startTime !== null)
    await moveNetDevices(binding, { name: 'netDevices', pid, startTime }, config.netDevices);
}

/** Born in the container's cgroups, since what it restores shall be there from its first moment. */
function placement({ config, cgroup, before }: RestoreRequest) {
  return {
    before: [...before, ...cgroup.operations],
    cloneFlags: CLONE.NEWNS,
    ...(cgroup.cloneInto === undefined ? {} : { cgroup: cgroup.cloneInto }),
    steps: [
      ...(cgroup.place === undefined ? [] : [{ kind: 'sync', name: 'cgroup' } as const]),
      ...cgroup.joinFiles.map(file => ({ kind: 'joinCgroup', file }) as const),
      ...rootSteps(config),
    ],
    onSync: async (pid: number): Promise<void> => {
      await cgroup.place?.(pid);
    },
  };
}

/** CRIU wants the root to be a mount point; ours alone, so that nothing is left to be unmounted. */
const rootSteps = (config: Config): Step[] => [
  { kind: 'propagation', path: '/', flags: MS.SLAVE | MS.REC },
  { kind: 'openRootfs', path: config.rootfs, bind: true, parentPropagation: MS.PRIVATE },
];

/** A tmpfs for every file system but the two that may stand nowhere else than in their own place. */
const standIn = (type: string): string => (type === 'proc' || type === 'sysfs' ? type : 'tmpfs');

/**
 * What a start makes in the rootfs, for a rootfs that never saw one. In a mount namespace that goes at once: binds are made
 * for what lies below them, with their restrictions.
 */
async function makeMountPoints(binding: Binding, config: Config): Promise<void> {
  if (!hasNamespace(config, 'mount')) return;
  const steps = config.mounts.flatMap((mount): MountStep[] => {
    // Its place appears with the sysfs below it.
    if (mount.type === 'cgroup' || (mount.flags & MS.REMOUNT) !== 0) return [];
    const bind = mount.type === 'bind' || (mount.flags & MS.BIND) !== 0;
    return [
      {
        kind: 'mount',
        type: bind ? 'bind' : standIn(mount.type),
        source: bind ? mount.source : standIn(mount.type),
        target: mount.destination,
        flags: bind ? mount.flags : 0,
        clearedFlags: bind ? mount.clearedFlags : 0,
        propagation: [],
        data: '',
        recursiveSet: bind ? mount.recursiveSet : 0,
        recursiveClear: bind ? mount.recursiveClear : 0,
        copyUp: false,
        optional: false,
        lateReadonly: false,
      },
    ];
  });
  await runSteps(binding, CLONE.NEWNS, [...rootSteps(config), ...steps]);
}

function mountNames(config: Config, mounts: readonly ExternalMount[]): { key: string; val: string }[] {
  const names = new Map(mounts.map(({ name, source }) => [name, source]));
  for (const { path } of config.devices) if (!names.has(path)) names.set(path, path);
  if (config.maskedPaths.length > 0 && !names.has(nullName)) names.set(nullName, nullName);
  return [...names].map(([key, val]) => ({ key, val }));
}

/** CRIU's words. */
const namespaceWords: { readonly [type in NamespaceType]: string } = {
  pid: 'pid',
  network: 'net',
  ipc: 'ipc',
  mount: 'mnt',
  uts: 'uts',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
};

function refuseJoined(config: Config): void {
  if (joinedPath(config, 'cgroup') === undefined) return;
  throw new LibcontainerError('ERR_UNSUPPORTED', {
    detail: 'restore into a cgroup namespace that is joined by path',
    hint: 'CRIU cannot enter one',
  });
}

function joinedNamespaces(
  config: Config,
  program: Program,
  open: (path: string, flags: number) => number,
): Inherited {
  return (['network', 'pid'] as const).flatMap(type => {
    const path = joinedPath(config, type);
    if (path === undefined) return [];
    requireExternal(program, type);
    return [{ type, fd: open(path, constants.O_RDONLY) }];
  });
}

const joinedOthers = (config: Config): { ns: string; nsFile: string }[] =>
  config.namespaces.flatMap(({ type, path }) =>
    path === undefined || type === 'network' || type === 'pid'
      ? []
      : [{ ns: namespaceWords[type], nsFile: path }],
  );

/** Of two descriptors on one pipe the first counts. */
function pipeDescriptors(names: readonly string[]): { key: string; fd: number }[] {
  const seen = new Set<string>();
  return names.slice(0, 3).flatMap((key, fd) => {
    if (!/^pipe:\[\d+\]$/.test(key) || seen.has(key)) return [];
    seen.add(key);
    return [{ key, fd }];
  });
}

/** Where CRIU is, hierarchy by hierarchy: there it puts the cgroups of the image. cgroups(7), /proc/PID/cgroup */
function ownCgroups(pid: number): { ctrl: string; path: string }[] {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trimEnd().split('\n');
  return lines.flatMap(line => {
    const [, controllers = '', ...rest] = line.split(':');
    const path = rest.join(':');
    return controllers.split(',').map(ctrl => ({ ctrl, path }));
  });
}
