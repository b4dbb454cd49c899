/**
 * Config: a bundle's config.json after validation and resolution; everything downstream reads only this. Made by
 * config/convert.ts from a Spec; plain, readonly, JSON-serialisable (it is stored in state.json). Field names follow
 * the OCI runtime-spec; what we resolved is said in the comment. Paths are absolute.
 */
import type { Landlock } from './landlock.ts';
import type { Overlay } from './overlay.ts';

export type NamespaceType = 'pid' | 'network' | 'ipc' | 'mount' | 'uts' | 'user' | 'cgroup' | 'time';

export interface Namespace {
  readonly type: NamespaceType;
  /** Join the namespace at this path instead of making a new one. */
  readonly path?: string;
}

/** A row of uid_map or gid_map. */
export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface Mount {
  readonly destination: string;
  readonly source: string;
  /** File system type; `bind` for a bind mount, `cgroup` for the container's own cgroups (any layout). */
  readonly type: string;
  /** MS_* that the options set (MS_BIND and MS_REC too). */
  readonly flags: number;
  /** MS_* that the options cleared by name (rw, suid, dev, exec, atime, …). */
  readonly clearedFlags: number;
  /** MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE (with MS_REC), in the order of the options. */
  readonly propagation: readonly number[];
  /** MOUNT_ATTR_* for mount_setattr(AT_RECURSIVE): the r… options. */
  readonly recursiveSet: number;
  readonly recursiveClear: number;
  /** What is left for the file system, comma separated. */
  readonly data: string;
  readonly copyUp: boolean;
  readonly idmap?: Idmap;
}

export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/** An idmapped mount: by these maps, or by those of a user namespace. */
export interface Idmap {
  /** The mounts below it are mapped too (`ridmap`). */
  readonly recursive: boolean;
  readonly userNamespace?: string;
  readonly uidMappings: readonly IdMapping[];
  readonly gidMappings: readonly IdMapping[];
}

export interface Device {
  readonly path: string;
  readonly type: 'b' | 'c' | 'p';
  readonly major: number;
  readonly minor: number;
  /** Permission bits, 0666 by default. */
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface Rlimit {
  readonly type: string;
  /** RLIM_INFINITY is 18446744073709551615n; in JSON a decimal string. */
  readonly soft: string;
  readonly hard: string;
}

export interface Capabilities {
  readonly bounding: readonly string[];
  readonly effective: readonly string[];
  readonly permitted: readonly string[];
  readonly inheritable: readonly string[];
  readonly ambient: readonly string[];
}

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  /** File mode creation mask; undefined: 0022. */
  readonly umask?: number;
}

export interface Scheduler {
  readonly policy: string;
  readonly nice?: number;
  readonly priority?: number;
  readonly flags?: readonly string[];
  readonly runtime?: number;
  readonly deadline?: number;
  readonly period?: number;
}

/** The container's process or one to be exec'd: spec.process, resolved. */
export interface ProcessConfig {
  readonly args: readonly string[];
  /** `NAME=value`; of duplicates the last one wins. */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: User;
  readonly terminal: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  /**
   * The terminal leaves \n as it is instead of writing \r\n (ONLCR, termios(3)): for output that goes on to another terminal
   * or into a file. Default false. Not in the specification; the program can set it anew.
   */
  readonly plainNewlines?: boolean;
  /**
   * For a container's first process, instead of `args`. `none`: there is no program; the init stays as process 1, holds
   * the namespaces and reaps. `late`: `PreparedProcess.release()` tells the program. Not in the specification.
   */
  readonly program?: 'none' | 'late';
  readonly capabilities?: Capabilities;
  readonly rlimits: readonly Rlimit[];
  readonly noNewPrivileges: boolean;
  readonly oomScoreAdj?: number;
  readonly scheduler?: Scheduler;
  readonly ioPriority?: { readonly class: string; readonly priority: number };
  readonly execCPUAffinity?: { readonly initial?: string; readonly final?: string };
  readonly apparmorProfile?: string;
  readonly selinuxLabel?: string;
}

export interface Hook {
  readonly path: string;
  /** args[0] is given as is; empty: [path]. */
  readonly args: readonly string[];
  /** Undefined: none (startContainer: the container's). */
  readonly env?: readonly string[];
  /** Seconds; undefined: no limit of the config's own. */
  readonly timeout?: number;
}
export type HookName =
  | 'prestart'
  | 'createRuntime'
  | 'createContainer'
  | 'startContainer'
  | 'poststart'
  | 'poststop';
export type Hooks = { readonly [name in HookName]: readonly Hook[] };

export interface DeviceRule {
  readonly allow: boolean;
  readonly type: 'a' | 'b' | 'c';
  /** -1: any. */
  readonly major: number;
  readonly minor: number;
  /** Of `r`, `w`, `m`. */
  readonly access: string;
}

/** linux.resources; numbers that may pass 2^53 are bigint in memory, decimal strings in JSON (see state.ts). */
export interface Resources {
  readonly devices?: readonly DeviceRule[];
  readonly memory?: {
    readonly limit?: number;
    readonly reservation?: number;
    /** memory + swap, as in cgroup v1 and the spec. */
    readonly swap?: number;
    readonly swappiness?: number;
    readonly disableOOMKiller?: boolean;
    readonly checkBeforeUpdate?: boolean;
  };
  readonly cpu?: {
    readonly shares?: number;
    readonly quota?: number;
    readonly burst?: number;
    readonly period?: number;
    readonly realtimeRuntime?: number;
    readonly realtimePeriod?: number;
    readonly idle?: number;
    readonly cpus?: string;
    readonly mems?: string;
  };
  readonly pids?: { readonly limit?: number };
  readonly blockIO?: {
    readonly weight?: number;
    readonly leafWeight?: number;
    readonly weightDevice?: readonly {
      readonly major: number;
      readonly minor: number;
      readonly weight?: number;
      readonly leafWeight?: number;
    }[];
    readonly throttleReadBpsDevice?: readonly ThrottleDevice[];
    readonly throttleWriteBpsDevice?: readonly ThrottleDevice[];
    readonly throttleReadIOPSDevice?: readonly ThrottleDevice[];
    readonly throttleWriteIOPSDevice?: readonly ThrottleDevice[];
  };
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[];
  readonly network?: {
    readonly classID?: number;
    readonly priorities?: readonly { readonly name: string; readonly priority: number }[];
  };
  readonly rdma?: {
    readonly [device: string]: { readonly hcaHandles?: number; readonly hcaObjects?: number };
  };
  readonly unified?: { readonly [file: string]: string };
}
export interface ThrottleDevice {
  readonly major: number;
  readonly minor: number;
  readonly rate: number;
}

/** linux.intelRdt, as given. */
export interface IntelRdt {
  /** Class of service; `/` is the root group. Undefined: one of the container's own, named by its ID. */
  readonly closID?: string;
  readonly schemata?: readonly string[];
  readonly l3CacheSchema?: string;
  readonly memBwSchema?: string;
  /** A monitoring group of the container's own. */
  readonly enableMonitoring?: boolean;
  readonly enableCMT?: boolean;
  readonly enableMBM?: boolean;
}

/** A compiled-later seccomp section: the spec's, verbatim and validated. */
export interface Seccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly {
      readonly index: number;
      readonly value: number | string;
      readonly valueTwo?: number | string;
      readonly op: string;
    }[];
  }[];
}

export interface Config {
  readonly ociVersion: string;
  /** The bundle directory. */
  readonly bundle: string;
  /** Absolute and free of links. */
  readonly rootfs: string;
  readonly readonlyRootfs: boolean;
  /** MS_* (with MS_REC); 0: not given (then slave for the parent, private inside). */
  readonly rootfsPropagation: number;
  /** spec.process; undefined when the bundle has none (a container may be created without: start(process) gives it). */
  readonly process?: ProcessConfig;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly namespaces: readonly Namespace[];
  /** Of the user namespace; undefined: it has none. Of one that is joined the container's own `Config` has its real maps. */
  readonly uidMappings?: readonly IdMapping[];
  readonly gidMappings?: readonly IdMapping[];
  /** The caller was not root: what only root may do is done by the container's own root, or not at all. */
  readonly rootlessEuid?: boolean;
  /** Cgroups that the caller may not make are left out, when no limit needs them. */
  readonly rootlessCgroups?: boolean;
  readonly mounts: readonly Mount[];
  /** The default devices (null zero full random urandom tty) and the configured ones. */
  readonly devices: readonly Device[];
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Names as given; both spellings (`.` and `/`) are legal. */
  readonly sysctl: { readonly [name: string]: string };
  readonly mountLabel?: string;
  /** Of a new time namespace: clock → offset from the host's. */
  readonly timeOffsets?: { readonly [clock: string]: { readonly secs: number; readonly nanosecs: number } };
  /** nodes: a list such as `0-3,7`, or ''. */
  readonly memoryPolicy?: {
    readonly mode: string;
    readonly nodes: string;
    readonly flags: readonly string[];
  };
  /** Host devices that move into the container's network namespace: name outside, name inside. */
  readonly netDevices?: readonly (readonly [string, string])[];
  readonly personality?: { readonly domain: string; readonly flags?: readonly string[] };
  readonly seccomp?: Seccomp;
  /** Not of the specification: config/landlock.ts. */
  readonly landlock?: Landlock;
  /** Not of the specification: config/overlay.ts. */
  readonly overlay?: Overlay;
  /** As given (cgroupsPath); undefined: `/<id>`. */
  readonly cgroupsPath?: string;
  /** The device rules here already end with the default ones. */
  readonly resources: Resources;
  readonly intelRdt?: IntelRdt;
  readonly hooks: Hooks;
  readonly annotations: { readonly [name: string]: string };
  /** Options of the caller, not of the spec. */
  readonly noPivotRoot: boolean;
  readonly noNewKeyring: boolean;
  /** True: the systemd cgroup driver (`slice:prefix:name`). */
  readonly systemdCgroup: boolean;
}
