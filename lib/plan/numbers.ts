/**
 * Kernel numbers and their names, one row each: the row parses configuration and prints plans and errors. Sources:
 * linux/mount.h, linux/sched.h, linux/capability.h, asm-generic/resource.h, linux/sched/types.h, linux/ioprio.h,
 * linux/personality.h of Linux 6.18; the values are the same on x86-64 and arm64.
 */

/** A name → number table whose reverse is used for printing. */
export interface NumberTable {
  readonly [name: string]: number;
}

/** mount(2) flags. */
export const MS = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  SYNCHRONOUS: 0x10,
  REMOUNT: 0x20,
  MANDLOCK: 0x40,
  DIRSYNC: 0x80,
  NOSYMFOLLOW: 0x100,
  NOATIME: 0x400,
  NODIRATIME: 0x800,
  BIND: 0x1000,
  MOVE: 0x2000,
  REC: 0x4000,
  SILENT: 0x8000,
  POSIXACL: 0x10000,
  UNBINDABLE: 0x20000,
  PRIVATE: 0x40000,
  SLAVE: 0x80000,
  SHARED: 0x100000,
  RELATIME: 0x200000,
  I_VERSION: 0x800000,
  STRICTATIME: 0x1000000,
  LAZYTIME: 0x2000000,
} as const satisfies NumberTable;

/** mount_setattr(2) attributes. RELATIME is 0: it is the absence of the other two in the _ATIME field. */
export const MOUNT_ATTR = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  _ATIME: 0x70,
  NODIRATIME: 0x80,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const satisfies NumberTable;

/** clone(2) namespace flags. */
export const CLONE = {
  NEWTIME: 0x80,
  NEWNS: 0x20000,
  NEWCGROUP: 0x2000000,
  NEWUTS: 0x4000000,
  NEWIPC: 0x8000000,
  NEWUSER: 0x10000000,
  NEWPID: 0x20000000,
  NEWNET: 0x40000000,
} as const satisfies NumberTable;

/** The specification's namespace types, their clone flag, and the name of their file in /proc/PID/ns. */
export const namespaceFlags = {
  user: CLONE.NEWUSER,
  ipc: CLONE.NEWIPC,
  uts: CLONE.NEWUTS,
  network: CLONE.NEWNET,
  cgroup: CLONE.NEWCGROUP,
  time: CLONE.NEWTIME,
  pid: CLONE.NEWPID,
  mount: CLONE.NEWNS,
} as const satisfies NumberTable;

export const namespaceFiles = {
  user: 'user',
  ipc: 'ipc',
  uts: 'uts',
  network: 'net',
  cgroup: 'cgroup',
  time: 'time',
  pid: 'pid',
  mount: 'mnt',
} as const;

/** capabilities(7); the number is the bit. */
export const capabilities = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_LINUX_IMMUTABLE: 9,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_BROADCAST: 11,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_IPC_OWNER: 15,
  CAP_SYS_MODULE: 16,
  CAP_SYS_RAWIO: 17,
  CAP_SYS_CHROOT: 18,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_PACCT: 20,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_BOOT: 22,
  CAP_SYS_NICE: 23,
  CAP_SYS_RESOURCE: 24,
  CAP_SYS_TIME: 25,
  CAP_SYS_TTY_CONFIG: 26,
  CAP_MKNOD: 27,
  CAP_LEASE: 28,
  CAP_AUDIT_WRITE: 29,
  CAP_AUDIT_CONTROL: 30,
  CAP_SETFCAP: 31,
  CAP_MAC_OVERRIDE: 32,
  CAP_MAC_ADMIN: 33,
  CAP_SYSLOG: 34,
  CAP_WAKE_ALARM: 35,
  CAP_BLOCK_SUSPEND: 36,
  CAP_AUDIT_READ: 37,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
  CAP_CHECKPOINT_RESTORE: 40,
} as const satisfies NumberTable;

/** getrlimit(2) resources. */
export const rlimits = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
} as const satisfies NumberTable;
export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** sched_setattr(2) policies and flags. */
export const schedulerPolicies = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
} as const satisfies NumberTable;
export const schedulerFlags = {
  SCHED_FLAG_RESET_ON_FORK: 0x1,
  SCHED_FLAG_RECLAIM: 0x2,
  SCHED_FLAG_DL_OVERRUN: 0x4,
  SCHED_FLAG_KEEP_POLICY: 0x8,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
} as const satisfies NumberTable;

/** ioprio_set(2): the value is class << 13 | priority. */
export const ioPriorityClasses = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
} as const satisfies NumberTable;
export const IOPRIO_CLASS_SHIFT = 13;

/** set_mempolicy(2), linux/mempolicy.h: modes, and the flags that are or'ed to them. */
export const memoryPolicyModes = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
} as const satisfies NumberTable;
export const memoryPolicyFlags = {
  MPOL_F_NUMA_BALANCING: 0x2000,
  MPOL_F_RELATIVE_NODES: 0x4000,
  MPOL_F_STATIC_NODES: 0x8000,
} as const satisfies NumberTable;

/** personality(2), the domains of the specification. */
export const personalities = {
  LINUX: 0x0,
  LINUX32: 0x8,
} as const satisfies NumberTable;

/** seccomp(2) SECCOMP_FILTER_FLAG_*. */
export const seccompFilterFlags = {
  TSYNC: 0x1,
  LOG: 0x2,
  SPEC_ALLOW: 0x4,
  NEW_LISTENER: 0x8,
  TSYNC_ESRCH: 0x10,
  WAIT_KILLABLE_RECV: 0x20,
} as const satisfies NumberTable;

/** The number of a name, or undefined when the table has no such row. */
export function numberOf(table: NumberTable, name: string): number | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** The name of a number, or undefined. */
export function nameOf(table: NumberTable, value: number): string | undefined {
  for (const name in table) if (table[name] === value) return name;
  return undefined;
}

/** `MS_NOSUID|MS_NODEV`, as strace prints it; bits without a row stay hexadecimal, no bit at all is `0`. */
export function flagNames(table: NumberTable, prefix: string, value: number): string {
  const names: string[] = [];
  let rest = value;
  for (const [name, bit] of Object.entries(table)) {
    // Fields of several bits (MOUNT_ATTR__ATIME) are printed only when their bits are not named one by one.
    if (bit !== 0 && (bit & (bit - 1)) === 0 && (value & bit) === bit) {
      names.push(prefix + name);
      rest &= ~bit;
    }
  }
  if (rest !== 0) {
    const field = nameOf(table, rest);
    names.push(field === undefined ? `0x${(rest >>> 0).toString(16)}` : prefix + field);
  }
  return names.length > 0 ? names.join('|') : '0';
}

/** The capability names of a mask, in the order of their numbers; numbers without a name as `CAP_63`. */
export function capabilityNames(mask: bigint): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((mask >> BigInt(bit)) & 1n) names.push(nameOf(capabilities, bit) ?? `CAP_${bit}`);
  }
  return names;
}

/** ioprio_set(2) value of a class name and a priority; undefined for an unknown class. */
export function ioPriorityValue(className: string, priority: number): number | undefined {
  const number = numberOf(ioPriorityClasses, className);
  return number === undefined ? undefined : (number << IOPRIO_CLASS_SHIFT) | priority;
}
