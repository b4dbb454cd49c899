/** Counters of a container's cgroups, one shape for v1 and v2. Bytes and nanoseconds as bigint; a missing file is zero or undefined, never an error. */
export interface Psi {
  readonly some: PsiLine;
  readonly full: PsiLine;
}
export interface PsiLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  /** Microseconds. */
  readonly total: bigint;
}
export interface MemoryData {
  readonly usage: bigint;
  readonly maxUsage: bigint;
  readonly limit: bigint;
  readonly failcnt: bigint;
}
export interface BlkioEntry {
  readonly major: number;
  readonly minor: number;
  readonly op: string;
  readonly value: bigint;
}
export interface Stats {
  readonly cpu: {
    readonly usage: {
      readonly totalNs: bigint;
      readonly kernelNs: bigint;
      readonly userNs: bigint;
      readonly perCpuNs: readonly bigint[];
      /** v1 only (cpuacct.usage_all), like perCpuNs. */
      readonly perCpuKernelNs: readonly bigint[];
      readonly perCpuUserNs: readonly bigint[];
    };
    readonly throttling: {
      readonly periods: bigint;
      readonly throttledPeriods: bigint;
      readonly throttledTimeNs: bigint;
    };
    readonly psi?: Psi;
  };
  readonly cpuset: {
    readonly cpus: string;
    readonly mems: string;
    /** v1: the numbers of the other cpuset files, as `cpu_exclusive`; {} on v2. */
    readonly flags: { readonly [file: string]: bigint };
  };
  readonly memory: {
    readonly cache: bigint;
    readonly usage: MemoryData;
    readonly swap: MemoryData;
    readonly kernel: MemoryData;
    readonly kernelTcp: MemoryData;
    readonly useHierarchy: boolean;
    readonly raw: { readonly [name: string]: bigint };
    readonly events: { readonly [name: string]: bigint };
    readonly psi?: Psi;
  };
  readonly pids: { readonly current: bigint; readonly limit: bigint };
  readonly blkio: {
    readonly ioServiceBytesRecursive: readonly BlkioEntry[];
    readonly ioServicedRecursive: readonly BlkioEntry[];
    readonly psi?: Psi;
  };
  readonly hugetlb: {
    readonly [pageSize: string]: {
      readonly usage: bigint;
      readonly maxUsage: bigint;
      readonly failcnt: bigint;
    };
  };
  readonly rdma: { readonly [device: string]: { readonly hcaHandles: number; readonly hcaObjects: number } };
  readonly misc: { readonly [resource: string]: bigint };
}

/** Of a container with linux.intelRdt. */
export interface IntelRdtStats {
  readonly cache?: {
    readonly cbmMask: string;
    readonly minCbmBits: bigint;
    readonly closids: bigint;
    /** The `L3:` line of the root group and of the container's; '' when there is none. */
    readonly schema: { readonly root: string; readonly own: string };
  };
  readonly bandwidth?: {
    readonly granularity: bigint;
    readonly delayLinear: bigint;
    readonly min: bigint;
    readonly closids: bigint;
    readonly schema: { readonly root: string; readonly own: string };
  };
  /** One entry for each L3 cache, with enableMonitoring or enableMBM. */
  readonly bandwidthUsed?: readonly { readonly totalBytes: bigint; readonly localBytes: bigint }[];
  /** Bytes in each L3 cache, with enableMonitoring or enableCMT. */
  readonly cacheUsedBytes?: readonly bigint[];
}
