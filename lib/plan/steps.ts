/**
 * The vocabulary of a start plan: one type per kind of step that init can do, in the words of proto/init.proto
 * (same names, camelCase). Pure data: a plan can be printed, compared and encoded. TypeScript decides the order and
 * the arguments; addon/init/steps/ has one small function per kind.
 *
 * Numbers are kernel values (MS_*, CLONE_NEW*, MOUNT_ATTR_*) from plan/numbers.ts. Slots are indexes of
 * `SpawnJob.slots` (native/binding.ts).
 */
export interface HookCommand {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** True when the spec gives no env for a startContainer hook: it gets the container's. */
  readonly inheritEnv: boolean;
  /** 0 means no limit of the config's own. */
  readonly timeoutMs: number;
}

export type Step =
  /** First in a new user namespace: the parent writes the maps. */
  | {
      readonly kind: 'userNamespace';
      /** Until then: a parent without privileges can only reach the files of a dumpable process. */
      readonly dumpable: boolean;
    }
  /** The parent opens StartPlan.views in init's mount namespace; `view` of other steps is an index into them. */
  | { readonly kind: 'hostView'; readonly count: number }
  /** With a slot the parent has opened the file. */
  | { readonly kind: 'joinCgroup'; readonly file: string; readonly slot?: number }
  | { readonly kind: 'oomScoreAdj'; readonly value: number }
  | { readonly kind: 'setns'; readonly type: number; readonly path?: string; readonly slot?: number }
  | { readonly kind: 'unshare'; readonly flags: number }
  /** A child goes on with the plan: the first process of the pid namespace that `unshare` has made for children. */
  | { readonly kind: 'firstInside' }
  | {
      readonly kind: 'sessionKeyring';
      readonly name: string;
      readonly label?: string;
      /** Not only by its owner: in a user namespace processes of the container may be others to the kernel. */
      readonly foundByOthers?: boolean;
    }
  | { readonly kind: 'loopback' }
  | { readonly kind: 'propagation'; readonly path: string; readonly flags: number }
  | {
      readonly kind: 'openRootfs';
      readonly path: string;
      readonly bind: boolean;
      readonly parentPropagation: number;
      readonly view?: number;
    }
  /** Layers on top of the rootfs. */
  | {
      readonly kind: 'overlay';
      /** Of the rootfs. */
      readonly path: string;
      /** The topmost first. */
      readonly lower: readonly string[];
      readonly upper?: string;
      readonly work?: string;
      /** Further options of overlayfs. */
      readonly data: string;
      /** Options of the tmpfs that holds the upper layer when none is given. */
      readonly memory: string;
      readonly views?: readonly number[];
    }
  | MountStep
  | {
      readonly kind: 'device';
      readonly path: string;
      readonly type: 'b' | 'c' | 'p';
      readonly major: number;
      readonly minor: number;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
      readonly bind: boolean;
    }
  | { readonly kind: 'symlink'; readonly target: string; readonly path: string; readonly replace: boolean }
  | {
      readonly kind: 'sync';
      readonly name: 'cgroup' | 'netDevices' | 'createRuntime' | 'createContainer' | 'idMaps';
    }
  | {
      readonly kind: 'hooks';
      readonly phase: 'createContainer' | 'startContainer';
      readonly hooks: readonly HookCommand[];
    }
  | { readonly kind: 'pivotRoot' }
  | { readonly kind: 'moveRoot' }
  | { readonly kind: 'chroot' }
  | { readonly kind: 'reopenNull' }
  | { readonly kind: 'makeCwd'; readonly path: string; readonly uid: number; readonly gid: number }
  | {
      readonly kind: 'console';
      readonly rows: number;
      readonly columns: number;
      readonly uid: number;
      readonly gid: number;
      /** Bind the terminal on /dev/console (init of a container, not exec). */
      readonly mount: boolean;
      /** Clear ONLCR: \n stays \n. */
      readonly plainNewlines: boolean;
    }
  | {
      readonly kind: 'remountReadonly';
      readonly path: string;
      readonly flags: number;
      readonly recursive: boolean;
      /** The n-th mount with `lateReadonly`, by the descriptor that init kept; absent: what lies on `path`. */
      readonly mount?: number;
    }
  | { readonly kind: 'hostname'; readonly name: string }
  | { readonly kind: 'domainname'; readonly name: string }
  | { readonly kind: 'sysctl'; readonly name: string; readonly value: string }
  | { readonly kind: 'readonlyPath'; readonly path: string }
  | { readonly kind: 'maskPath'; readonly path: string; readonly label: string }
  | { readonly kind: 'apparmor'; readonly label: string }
  | { readonly kind: 'selinux'; readonly label: string }
  | { readonly kind: 'noNewPrivileges' }
  | {
      readonly kind: 'scheduler';
      readonly policy: number;
      readonly nice: number;
      readonly priority: number;
      readonly flags: number;
      readonly runtime: number;
      readonly deadline: number;
      readonly period: number;
    }
  | { readonly kind: 'ioPriority'; readonly value: number }
  | { readonly kind: 'personality'; readonly domain: number }
  | { readonly kind: 'memoryPolicy'; readonly mode: number; readonly nodeMask: readonly number[] }
  | {
      readonly kind: 'rlimit';
      readonly resource: number;
      readonly name: string;
      readonly soft: bigint;
      readonly hard: bigint;
    }
  | { readonly kind: 'ready' }
  | {
      readonly kind: 'seccomp';
      readonly program: Uint8Array;
      readonly flags: number;
      readonly notify: boolean;
      /** init goes on only when its parent says that the listener has arrived where it was to go. */
      readonly wait?: boolean;
      /** The parent takes the listener; the filter may not let init send it. */
      readonly take?: boolean;
    }
  | {
      readonly kind: 'landlock';
      readonly read: readonly string[];
      readonly write: readonly string[];
      readonly execute: readonly string[];
    }
  /** The end of a plan without a program. */
  | { readonly kind: 'finish' }
  | { readonly kind: 'bounding'; readonly mask: bigint }
  | {
      readonly kind: 'user';
      readonly uid: number;
      readonly gid: number;
      readonly groups: readonly number[];
      readonly skipSetgroups: boolean;
      /** True: stdin, stdout and stderr keep their owner (else non-null ones are given to uid, as runc does). */
      readonly keepStdioOwner: boolean;
      /** In a user namespace: no error when there are no groups to set. */
      readonly setgroupsMayBeDenied?: boolean;
    }
  | { readonly kind: 'umask'; readonly mask: number }
  | { readonly kind: 'cwd'; readonly path: string; readonly beforeUser: boolean }
  | {
      readonly kind: 'capabilities';
      readonly effective: bigint;
      readonly permitted: bigint;
      readonly inheritable: bigint;
      readonly ambient: bigint;
    }
  | {
      readonly kind: 'findExecutable';
      readonly name: string;
      readonly searchPath: string;
      /** Of the command that came with the release. */
      readonly late?: boolean;
    }
  /** Waits for the release by the parent, which brings the command. */
  | { readonly kind: 'waitCommand' }
  /** Process 1 of a container without a program. */
  | { readonly kind: 'idle' }
  | { readonly kind: 'waitStart'; readonly fifoSlot?: number }
  | {
      readonly kind: 'exec';
      readonly args: readonly string[];
      readonly env: readonly string[];
      /** HOME is absent or empty in env: init fills it from the container's passwd file, `/` otherwise. */
      readonly setHome: boolean;
      readonly preservedFds: number;
      /** Arguments and environment are those of the command that came with the release. */
      readonly late?: boolean;
    }
  | { readonly kind: 'affinity'; readonly mask: Uint8Array }
  /** A new time namespace, with the lines for /proc/PID/timens_offsets. */
  | { readonly kind: 'timeNamespace'; readonly offsets: string }
  | { readonly kind: 'forkInto' };

/** A detached copy of the mounts at a path, or (not `tree`) the directory. */
export interface HostView {
  readonly path: string;
  readonly tree: boolean;
  readonly recursive: boolean;
}

export interface MountStep {
  readonly kind: 'mount';
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly flags: number;
  readonly clearedFlags: number;
  readonly propagation: readonly number[];
  readonly data: string;
  readonly recursiveSet: number;
  readonly recursiveClear: number;
  readonly copyUp: boolean;
  readonly optional: boolean;
  readonly lateReadonly: boolean;
  /** Slot of the source, a detached idmapped mount (StartPlan.trees). */
  readonly treeSlot?: number;
  /** SELinux context that the root of the new file system gets by setxattr. */
  readonly label?: string;
  /** A bind whose source the parent has opened. */
  readonly view?: number;
}

/** A bind source whose ids are mapped (mount_setattr(2), "ID-mapped mounts"). */
export interface TreeRequest {
  readonly source: string;
  /** With the mounts below it. */
  readonly recursive: boolean;
  /** … which are mapped too. */
  readonly mapRecursive: boolean;
  /** Whose maps are taken; undefined: those of uidMap and gidMap. */
  readonly userNamespace?: string;
  /** Lines as in /proc/PID/uid_map: inside, outside, count. */
  readonly uidMap: string;
  readonly gidMap: string;
}

export type StepKind = Step['kind'];
export type StepOf<K extends StepKind> = Extract<Step, { kind: K }>;

export interface EnteredNamespace {
  readonly type: number;
  readonly path: string;
}

/** What a start does inside the child, and what the spawner must know about it. */
export interface StartPlan {
  readonly steps: readonly Step[];
  /** CLONE_NEW* that clone3 itself carries (all namespaces that are new and need no earlier join). */
  readonly cloneFlags: number;
  /** Path of a pid namespace to enter for children before the clone (pid namespace joined by path). */
  readonly pidNamespacePath?: string;
  /** Detached mounts that the spawner makes: their slots come after the exec fifo's, in this order. */
  readonly trees?: readonly TreeRequest[];
  /** Namespaces of others that the spawner enters for the clone: from a new user namespace they could not be joined. */
  readonly entered?: readonly EnteredNamespace[];
  /** Of the hostView step. */
  readonly views?: readonly HostView[];
  /** There is a forkInto or firstInside step: what is started is the second process that the plan makes. */
  readonly forks?: boolean;
  /** Sentences for people: what the configuration asks for and this kernel does not know. */
  readonly warnings?: readonly string[];
}
