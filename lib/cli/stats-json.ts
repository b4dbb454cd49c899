/** Stats in the shape of `runc events`: its names, its order, its omissions (github.com/opencontainers/runc/types). */
import type { IntelRdtStats, Stats } from '../index.ts';
import { type GoJson, goMap, unlessZero } from './go-json.ts';

type MemoryData = Stats['memory']['usage'];
type Psi = NonNullable<Stats['cpu']['psi']>;

const memoryEntry = ({ limit, usage, maxUsage, failcnt }: MemoryData) => ({
  limit,
  usage: unlessZero(usage),
  max: unlessZero(maxUsage),
  failcnt,
});

const psiLine = ({ avg10, avg60, avg300, total }: Psi['some']) => ({ avg10, avg60, avg300, total });
const psiEntry = (psi: Psi | undefined) =>
  psi === undefined ? undefined : { some: psiLine(psi.some), full: psiLine(psi.full) };

/** `0-2,4` → [0, 1, 2, 4]; undefined (left out) when empty. */
export function cpuNumbers(list: string): number[] | undefined {
  if (list === '') return undefined;
  return list.split(',').flatMap(range => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

const blkioEntries = (entries: Stats['blkio']['ioServicedRecursive']) =>
  entries.length === 0
    ? undefined
    : entries.map(({ major, minor, op, value }) => ({
        major: unlessZero(major),
        minor: unlessZero(minor),
        op: op === '' ? undefined : op,
        value: unlessZero(value),
      }));

const someList = (list: readonly bigint[] | undefined) =>
  list === undefined || list.length === 0 ? undefined : list;

const unlessEmpty = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

function rdtEntry(rdt: IntelRdtStats | undefined): GoJson {
  const { cache, bandwidth, bandwidthUsed, cacheUsedBytes } = rdt ?? {};
  return {
    l3_cache_info: cache && {
      cbm_mask: unlessEmpty(cache.cbmMask),
      min_cbm_bits: unlessZero(cache.minCbmBits),
      num_closids: unlessZero(cache.closids),
    },
    l3_cache_schema_root: unlessEmpty(cache?.schema.root),
    l3_cache_schema: unlessEmpty(cache?.schema.own),
    mem_bw_info: bandwidth && {
      bandwidth_gran: unlessZero(bandwidth.granularity),
      delay_linear: unlessZero(bandwidth.delayLinear),
      min_bandwidth: unlessZero(bandwidth.min),
      num_closids: unlessZero(bandwidth.closids),
    },
    mem_bw_schema_root: unlessEmpty(bandwidth?.schema.root),
    mem_bw_schema: unlessEmpty(bandwidth?.schema.own),
    mbm_stats: bandwidthUsed?.map(({ totalBytes, localBytes }) => ({
      mbm_total_bytes: unlessZero(totalBytes),
      mbm_local_bytes: unlessZero(localBytes),
    })),
    cmt_stats: cacheUsedBytes?.map(bytes => ({ llc_occupancy: unlessZero(bytes) })),
  };
}

export function statsData(stats: Stats & { readonly intelRdt?: IntelRdtStats }): GoJson {
  const { cpu, cpuset, memory, pids, blkio, hugetlb, intelRdt } = stats;
  const { usage, throttling } = cpu;
  return {
    cpu: {
      usage: {
        total: unlessZero(usage.totalNs),
        percpu: someList(usage.perCpuNs),
        percpu_kernel: someList(usage.perCpuKernelNs),
        percpu_user: someList(usage.perCpuUserNs),
        kernel: usage.kernelNs,
        user: usage.userNs,
      },
      throttling: {
        periods: unlessZero(throttling.periods),
        throttledPeriods: unlessZero(throttling.throttledPeriods),
        throttledTime: unlessZero(throttling.throttledTimeNs),
      },
      psi: psiEntry(cpu.psi),
    },
    cpuset: {
      cpus: cpuNumbers(cpuset.cpus),
      cpu_exclusive: cpuset.flags.cpu_exclusive ?? 0n,
      mems: cpuNumbers(cpuset.mems),
      mem_hardwall: cpuset.flags.mem_hardwall ?? 0n,
      mem_exclusive: cpuset.flags.mem_exclusive ?? 0n,
      memory_migrate: cpuset.flags.memory_migrate ?? 0n,
      memory_spread_page: cpuset.flags.memory_spread_page ?? 0n,
      memory_spread_slab: cpuset.flags.memory_spread_slab ?? 0n,
      memory_pressure: cpuset.flags.memory_pressure ?? 0n,
      sched_load_balance: cpuset.flags.sched_load_balance ?? 0n,
      sched_relax_domain_level: cpuset.flags.sched_relax_domain_level ?? 0n,
    },
    memory: {
      cache: unlessZero(memory.cache),
      usage: memoryEntry(memory.usage),
      swap: memoryEntry(memory.swap),
      kernel: memoryEntry(memory.kernel),
      kernelTCP: memoryEntry(memory.kernelTcp),
      raw: goMap(memory.raw),
      psi: psiEntry(memory.psi),
    },
    pids: { current: unlessZero(pids.current), limit: unlessZero(pids.limit) },
    blkio: {
      ioServiceBytesRecursive: blkioEntries(blkio.ioServiceBytesRecursive),
      ioServicedRecursive: blkioEntries(blkio.ioServicedRecursive),
      psi: psiEntry(blkio.psi),
    },
    hugetlb: Object.fromEntries(
      Object.entries(hugetlb)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([size, data]) => [
          size,
          { usage: unlessZero(data.usage), max: unlessZero(data.maxUsage), failcnt: data.failcnt },
        ]),
    ),
    intel_rdt: rdtEntry(intelRdt),
    // runc counts only devices that it made itself, and it makes none any more.
    network_interfaces: null,
  };
}
