/**
 * The one interface of all cgroup drivers (v1, v2, hybrid, systemd) and what a start needs from it. `parent/` is given
 * a manager; it never imports a driver. cgroups(7), kernel cgroup-v1/ and cgroup-v2.rst.
 */
import type { IntelRdt, Resources } from '../config/config.ts';
import type { CgroupError } from '../errors.ts';
import type { FileOperation } from '../native/binding.ts';
import type { IntelRdtStats, Stats } from './stats.ts';

export type CgroupLayout = 'v1' | 'v2' | 'hybrid';

/** What the spawner and init do so that the container is born in its cgroups. */
export interface CgroupStart {
  /** mkdir and writes of limits, in order; the job undoes the mkdirs when the start fails. */
  readonly operations: readonly FileOperation[];
  /** v2: directory for CLONE_INTO_CGROUP. */
  readonly cloneInto?: string;
  /** v1 (and v2 when clone3 cannot): files to which init writes "0" (`tasks`, `cgroup.procs`). */
  readonly joinFiles: readonly string[];
  /** What was asked for and cannot be done here, with the reason. */
  readonly warnings?: readonly string[];
  /**
   * systemd: puts the process into its cgroup and sets the limits, when it has been cloned and before its first step (it
   * waits at the sync `cgroup`). `joinFiles` come behind.
   */
  readonly place?: (pid: number) => Promise<void>;
  /** Names the property behind a failed operation. `index` counts in `operations`; `cause` has errno. */
  failure(index: number, cause: unknown): CgroupError;
}

/** How a `cgroup` mount inside the container is made: one row per hierarchy. */
export interface CgroupMountRow {
  /** Directory below the mount destination; '' on v2 (the whole). */
  readonly name: string;
  /** Host path of this container's cgroup in that hierarchy. */
  readonly path: string;
  /** mount(2) type and data for a fresh mount in a cgroup namespace: cgroup2 '' or cgroup 'cpu,cpuacct' / 'none,name=systemd'. */
  readonly type: 'cgroup' | 'cgroup2';
  readonly data: string;
  /** Links to make beside it: cpu -> cpu,cpuacct. */
  readonly links: readonly string[];
}

/** runc's keys of state.json for Intel RDT, and ours: whether the group goes with the container. */
export interface ResctrlRecord {
  readonly intel_rdt_path?: string;
  readonly intel_rdt_mon_path?: string;
  readonly intel_rdt_made?: boolean;
}

export interface ResctrlControl {
  /** Asked for before the first effect of a start. */
  record(): ResctrlRecord;
  /** Writes the schemata of a live container. */
  set(config: IntelRdt): Promise<void>;
  stats(): Promise<IntelRdtStats>;
}

export type FreezerState = 'thawed' | 'frozen' | 'freezing';

export interface CgroupManager {
  readonly layout: CgroupLayout;
  /** Controller → absolute directory; v2 uses the key `''`; as in state.json `cgroup_paths`. */
  readonly paths: { readonly [controller: string]: string };
  /** Rows for cgroup mounts in the container. */
  readonly mountRows: readonly CgroupMountRow[];
  /** Only for a container with linux.intelRdt. */
  readonly resctrl?: ResctrlControl;
  /**
   * Everything for a start with these limits. Refuses a cgroup that holds processes or is frozen.
   * @param options `adopted`: systemd has made the cgroup, and init is in it already.
   * @throws {CgroupError}
   */
  prepareStart(resources: Resources, options?: { readonly adopted?: boolean }): Promise<CgroupStart>;
  /** Join data for a process that is exec'd into a sub-cgroup (`--cgroup`), key '' or controller → sub path. */
  prepareExec(
    subPaths: { readonly [controller: string]: string },
    options?: {
      /** v2: when the container made its cgroup a non-leaf (systemd inside), the exec goes where its init is. */
      readonly initPid?: number;
    },
  ): Promise<CgroupStart>;
  exists(): Promise<boolean>;
  /** Writes limits of a live container; on failure the former values are written back. */
  set(resources: Resources, former: Resources, options?: { readonly skipDevices?: boolean }): Promise<void>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** One quick read. A missing cgroup is `thawed`. */
  freezerState(): Promise<FreezerState>;
  /** Signals every process: cgroup.kill for SIGKILL on v2, else freeze, signal, thaw. Missing cgroup: nothing. */
  killAll(signal: number): Promise<void>;
  /** Processes (thread group ids) of the cgroup and all below it. Missing cgroup: []. */
  pids(): Promise<number[]>;
  stats(): Promise<Stats>;
  /** Number of OOM kills so far (memory.events oom_kill, memory.oom_control); 0 when not known. */
  oomKillCount(): Promise<number>;
  /** Where that stands, when the cgroup may go by itself with its last process (systemd): to be read before. */
  readonly oomCounter?: string | undefined;
  /**
   * Removes the directories of a container that has no process any more, as a part of another job; may fail with EBUSY.
   * Undefined: more than directories is to be removed.
   */
  readonly removal: readonly FileOperation[] | undefined;
  /** Waits for `populated 0` (event, deadline), then removes the directories depth first. @throws {CgroupError} naming the pids left. */
  destroy(options?: { readonly timeoutMs?: number }): Promise<void>;
}
