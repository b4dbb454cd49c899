/** Counters of v2 in the shape of v1's. kernel cgroup-v2.rst. */
import { parseFlat, parseSingle } from '../file.ts';
import type { MemoryData, Stats } from '../stats.ts';
import {
  hugetlbStats,
  miscStats,
  noMemory,
  parseIoStat,
  parseRdma,
  pidsStats,
  reader,
  record,
  withPsi,
} from '../stats-parse.ts';

const unlimited = 18446744073709551615n;
const nsPerUs = 1000n;

type Read = (file: string) => Promise<string | undefined>;

async function cpuStats(read: Read): Promise<Stats['cpu']> {
  const stat = parseFlat(await read('cpu.stat'));
  const ns = (key: string) => (stat.get(key) ?? 0n) * nsPerUs;
  return {
    usage: {
      totalNs: ns('usage_usec'),
      kernelNs: ns('system_usec'),
      userNs: ns('user_usec'),
      perCpuNs: [],
      perCpuKernelNs: [],
      perCpuUserNs: [],
    },
    throttling: {
      periods: stat.get('nr_periods') ?? 0n,
      throttledPeriods: stat.get('nr_throttled') ?? 0n,
      throttledTimeNs: ns('throttled_usec'),
    },
    ...withPsi(await read('cpu.pressure')),
  };
}

async function memoryStats(read: Read): Promise<Stats['memory']> {
  const raw = parseFlat(await read('memory.stat'));
  const events = parseFlat(await read('memory.events'));
  const usage: MemoryData = {
    usage: parseSingle(await read('memory.current')),
    maxUsage: parseSingle(await read('memory.peak')), // since 5.19
    limit: parseSingle(await read('memory.max')),
    failcnt: events.get('max') ?? 0n,
  };
  const swapLimit = parseSingle(await read('memory.swap.max'), unlimited);
  // v1, and so our shape, counts memory and swap together; v2 counts swap alone.
  const swap: MemoryData = {
    usage: parseSingle(await read('memory.swap.current')) + usage.usage,
    maxUsage: 0n,
    limit: swapLimit === unlimited || usage.limit === unlimited ? unlimited : swapLimit + usage.limit,
    failcnt: parseFlat(await read('memory.swap.events')).get('max') ?? 0n,
  };
  const parts = ['slab', 'kernel_stack', 'pagetables', 'percpu', 'vmalloc'];
  // `kernel` is the sum since 5.18.
  const kernel = raw.get('kernel') ?? parts.reduce((sum, key) => sum + (raw.get(key) ?? 0n), 0n);
  return {
    cache: raw.get('file') ?? 0n,
    usage,
    swap,
    kernel: { ...noMemory, usage: kernel },
    kernelTcp: { ...noMemory, usage: raw.get('sock') ?? 0n },
    useHierarchy: true,
    raw: record(raw),
    events: record(events),
    ...withPsi(await read('memory.pressure')),
  };
}

export async function readV2Stats(directory: string): Promise<Stats> {
  const read = reader(directory);
  const io = parseIoStat(await read('io.stat'));
  return {
    cpu: await cpuStats(read),
    cpuset: {
      cpus: ((await read('cpuset.cpus.effective')) ?? '').trim(),
      mems: ((await read('cpuset.mems.effective')) ?? '').trim(),
      flags: {},
    },
    memory: await memoryStats(read),
    pids: pidsStats(await read('pids.current'), await read('pids.max')),
    blkio: {
      ioServiceBytesRecursive: io.bytes,
      ioServicedRecursive: io.operations,
      ...withPsi(await read('io.pressure')),
    },
    hugetlb: await hugetlbStats(
      directory,
      { usage: 'current', maxUsage: undefined },
      async (files, prefix) => parseFlat(await files(`${prefix}.events`)).get('max') ?? 0n,
    ),
    rdma: parseRdma(await read('rdma.current')),
    misc: miscStats(await read('misc.current')),
  };
}
