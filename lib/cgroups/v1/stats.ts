/** Counters of v1. kernel cgroup-v1/{cpuacct,memory,blkio-controller,hugetlb,pids}.rst. */
import { parseFlat, parseSingle } from '../file.ts';
import type { BlkioEntry, MemoryData, Stats } from '../stats.ts';
import { hugetlbStats, miscStats, parseBlkio, parseRdma, pidsStats, reader, record } from '../stats-parse.ts';

/** cpuacct.stat counts USER_HZ ticks, 100 per second on every architecture that we support (time(7)). */
const nsPerTick = 10_000_000n;

type Read = (file: string) => Promise<string | undefined>;

async function cpuStats(cpuacct: Read, cpu: Read): Promise<Stats['cpu']> {
  const ticks = parseFlat(await cpuacct('cpuacct.stat'));
  const perCpu = ((await cpuacct('cpuacct.usage_percpu')) ?? '').trim().split(/\s+/);
  // A heading `cpu user system`, then a line for each CPU.
  const all = ((await cpuacct('cpuacct.usage_all')) ?? '').trim().split('\n').slice(1);
  const column = (index: number) => all.map(line => BigInt(line.split(' ')[index] ?? 0));
  const throttling = parseFlat(await cpu('cpu.stat'));
  return {
    usage: {
      totalNs: parseSingle(await cpuacct('cpuacct.usage')),
      kernelNs: (ticks.get('system') ?? 0n) * nsPerTick,
      userNs: (ticks.get('user') ?? 0n) * nsPerTick,
      perCpuNs: perCpu.filter(word => /^\d+$/.test(word)).map(BigInt),
      perCpuKernelNs: column(2),
      perCpuUserNs: column(1),
    },
    throttling: {
      periods: throttling.get('nr_periods') ?? 0n,
      throttledPeriods: throttling.get('nr_throttled') ?? 0n,
      throttledTimeNs: throttling.get('throttled_time') ?? 0n,
    },
  };
}

async function memoryData(read: Read, prefix: string): Promise<MemoryData> {
  return {
    usage: parseSingle(await read(`${prefix}.usage_in_bytes`)),
    maxUsage: parseSingle(await read(`${prefix}.max_usage_in_bytes`)),
    limit: parseSingle(await read(`${prefix}.limit_in_bytes`)),
    failcnt: parseSingle(await read(`${prefix}.failcnt`)),
  };
}

async function memoryStats(read: Read): Promise<Stats['memory']> {
  const raw = parseFlat(await read('memory.stat'));
  const control = parseFlat(await read('memory.oom_control'));
  return {
    cache: raw.get('cache') ?? 0n,
    usage: await memoryData(read, 'memory'),
    swap: await memoryData(read, 'memory.memsw'),
    kernel: await memoryData(read, 'memory.kmem'),
    kernelTcp: await memoryData(read, 'memory.kmem.tcp'),
    useHierarchy: parseSingle(await read('memory.use_hierarchy')) === 1n,
    raw: record(raw),
    events: record(control),
  };
}

/** In the order of runc's `events`. kernel cgroup-v1/cpusets.rst. */
const cpusetFiles = [
  'cpu_exclusive',
  'mem_hardwall',
  'mem_exclusive',
  'memory_migrate',
  'memory_spread_page',
  'memory_spread_slab',
  'memory_pressure',
  'sched_load_balance',
  'sched_relax_domain_level',
];

async function cpusetFlags(read: Read): Promise<{ readonly [file: string]: bigint }> {
  const flags: { [file: string]: bigint } = {};
  for (const file of cpusetFiles) {
    const text = ((await read(`cpuset.${file}`)) ?? '').trim();
    // sched_relax_domain_level is -1 by default.
    if (/^-?\d+$/.test(text)) flags[file] = BigInt(text);
  }
  return flags;
}

/** BFQ counts what goes through it, CFQ did before 5.0, the throttle layer counts all: the first that has rows. */
async function firstRows(read: Read, files: readonly string[]): Promise<BlkioEntry[]> {
  for (const file of files) {
    const rows = parseBlkio(await read(file));
    if (rows.length > 0) return rows;
  }
  return [];
}

const blkioFiles = (name: string): string[] => [
  `blkio.bfq.${name}_recursive`,
  `blkio.${name}_recursive`,
  `blkio.throttle.${name}_recursive`,
  `blkio.throttle.${name}`,
];

export async function readV1Stats(
  paths: { readonly [controller: string]: string },
  unifiedMount: string | undefined,
): Promise<Stats> {
  const [cpuset, pids, blkio] = [reader(paths.cpuset), reader(paths.pids), reader(paths.blkio)];
  const hugetlb = paths.hugetlb;
  const inUnified = unifiedMount !== undefined && hugetlb?.startsWith(`${unifiedMount}/`) === true;
  return {
    cpu: await cpuStats(reader(paths.cpuacct), reader(paths.cpu)),
    cpuset: {
      cpus: ((await cpuset('cpuset.cpus')) ?? '').trim(),
      mems: ((await cpuset('cpuset.mems')) ?? '').trim(),
      flags: await cpusetFlags(cpuset),
    },
    memory: await memoryStats(reader(paths.memory)),
    pids: pidsStats(await pids('pids.current'), await pids('pids.max')),
    blkio: {
      ioServiceBytesRecursive: await firstRows(blkio, blkioFiles('io_service_bytes')),
      ioServicedRecursive: await firstRows(blkio, blkioFiles('io_serviced')),
    },
    hugetlb: inUnified
      ? await hugetlbStats(
          hugetlb,
          { usage: 'current', maxUsage: undefined },
          async (read, prefix) => parseFlat(await read(`${prefix}.events`)).get('max') ?? 0n,
        )
      : await hugetlbStats(
          hugetlb,
          { usage: 'usage_in_bytes', maxUsage: 'max_usage_in_bytes' },
          async (read, prefix) => parseSingle(await read(`${prefix}.failcnt`)),
        ),
    rdma: parseRdma(await reader(paths.rdma)('rdma.current')),
    misc: miscStats(await reader(paths.misc)('misc.current')),
  };
}
