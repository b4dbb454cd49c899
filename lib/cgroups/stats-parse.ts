/** Parsers of the statistics files that v1 and v2 share. Odd content is left out, never an error. */
import { readdir } from 'node:fs/promises';
import { isGone, parseFlat, parseSingle, readCgroupFile, readCgroupFileNow } from './file.ts';
import type { BlkioEntry, MemoryData, Psi, PsiLine, Stats } from './stats.ts';

export const noMemory: MemoryData = { usage: 0n, maxUsage: 0n, limit: 0n, failcnt: 0n };

/** Files whose reading makes the kernel sum up all CPUs and sub-cgroups first: that may take milliseconds. */
const summedFiles = new Set(['memory.stat', 'cpu.stat', 'io.stat', 'memory.numa_stat', 'cpuacct.stat']);

/**
 * Files of one directory by name; a controller that is not there gives undefined for all. A plain counter is read at
 * once: its four turns of the thread pool would hold this thread longer than the 10 us of the read.
 */
export const reader =
  (directory: string | undefined) =>
  async (file: string): Promise<string | undefined> => {
    if (directory === undefined) return undefined;
    const path = `${directory}/${file}`;
    return summedFiles.has(file) ? readCgroupFile(path) : readCgroupFileNow(path);
  };

/** `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`; undefined without PSI. kernel accounting/psi.rst. */
export function parsePsi(text: string | undefined): Psi | undefined {
  const lines = new Map<string, PsiLine>();
  for (const row of (text ?? '').split('\n')) {
    const [name, ...pairs] = row.trim().split(/\s+/);
    const values = new Map(pairs.map(p => [p.split('=')[0] ?? '', p.split('=')[1] ?? '']));
    const total = values.get('total') ?? '';
    if (name === undefined || !/^\d+$/.test(total)) continue;
    const average = (key: string) => Number.parseFloat(values.get(key) ?? '0') || 0;
    lines.set(name, {
      avg10: average('avg10'),
      avg60: average('avg60'),
      avg300: average('avg300'),
      total: BigInt(total),
    });
  }
  const some = lines.get('some');
  if (some === undefined) return undefined;
  // cpu.pressure has no full line before 5.13.
  return { some, full: lines.get('full') ?? { avg10: 0, avg60: 0, avg300: 0, total: 0n } };
}

export const withPsi = (text: string | undefined): { readonly psi?: Psi } => {
  const psi = parsePsi(text);
  return psi === undefined ? {} : { psi };
};

/** `8:0 Read 4096`; the last line `Total N` has no device. */
export function parseBlkio(text: string | undefined): BlkioEntry[] {
  const entries: BlkioEntry[] = [];
  for (const row of (text ?? '').split('\n')) {
    const match = /^(\d+):(\d+) (\w+) (\d+)$/.exec(row.trim());
    const [, major, minor, op, value] = match ?? [];
    if (op === undefined || value === undefined) continue;
    entries.push({ major: Number(major), minor: Number(minor), op, value: BigInt(value) });
  }
  return entries;
}

/** `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` as v1's two tables. */
export function parseIoStat(text: string | undefined): { bytes: BlkioEntry[]; operations: BlkioEntry[] } {
  const bytes: BlkioEntry[] = [];
  const operations: BlkioEntry[] = [];
  const places: { readonly [key: string]: readonly [BlkioEntry[], string] } = {
    rbytes: [bytes, 'Read'],
    wbytes: [bytes, 'Write'],
    dbytes: [bytes, 'Discard'],
    rios: [operations, 'Read'],
    wios: [operations, 'Write'],
    dios: [operations, 'Discard'],
  };
  for (const row of (text ?? '').split('\n')) {
    const [device, ...pairs] = row.trim().split(/\s+/);
    const [, major, minor] = /^(\d+):(\d+)$/.exec(device ?? '') ?? [];
    if (major === undefined || minor === undefined) continue;
    for (const pair of pairs) {
      const [key = '', value = ''] = pair.split('=');
      const place = places[key];
      if (place === undefined || !/^\d+$/.test(value)) continue;
      place[0].push({ major: Number(major), minor: Number(minor), op: place[1], value: BigInt(value) });
    }
  }
  return { bytes, operations };
}

/** `mlx4_0 hca_handle=2 hca_object=2000`. */
export function parseRdma(text: string | undefined): Stats['rdma'] {
  const devices: { [device: string]: { hcaHandles: number; hcaObjects: number } } = {};
  for (const row of (text ?? '').split('\n')) {
    const [device, ...pairs] = row.trim().split(/\s+/);
    if (!device || pairs.length === 0) continue;
    const value = (key: string) => {
      const word = pairs.find(p => p.startsWith(`${key}=`))?.slice(key.length + 1) ?? '0';
      return word === 'max' ? 2 ** 32 - 1 : Number.parseInt(word, 10) || 0;
    };
    devices[device] = { hcaHandles: value('hca_handle'), hcaObjects: value('hca_object') };
  }
  return devices;
}

export const record = (values: ReadonlyMap<string, bigint>): { readonly [name: string]: bigint } =>
  Object.fromEntries(values);

export async function hugetlbStats(
  directory: string | undefined,
  names: { readonly usage: string; readonly maxUsage: string | undefined },
  failcnt: (read: (file: string) => Promise<string | undefined>, prefix: string) => Promise<bigint>,
): Promise<Stats['hugetlb']> {
  if (directory === undefined) return {};
  const read = reader(directory);
  const files = new Set(await listFiles(directory));
  const sizes: { [pageSize: string]: { usage: bigint; maxUsage: bigint; failcnt: bigint } } = {};
  for (const file of files) {
    const size = /^hugetlb\.(\d+[KMG]B)\./.exec(file)?.[1];
    if (size === undefined || sizes[size] !== undefined) continue;
    // Reservations include what is in use, and are what a later fault cannot fail on: preferred where they are counted.
    const reserved = `hugetlb.${size}.rsvd`;
    const prefix = files.has(`${reserved}.${names.usage}`) ? reserved : `hugetlb.${size}`;
    sizes[size] = {
      usage: parseSingle(await read(`${prefix}.${names.usage}`)),
      maxUsage: names.maxUsage === undefined ? 0n : parseSingle(await read(`${prefix}.${names.maxUsage}`)),
      failcnt: await failcnt(read, prefix),
    };
  }
  return sizes;
}

async function listFiles(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** 0 stands for no limit, as in runc's JSON. */
export const pidsStats = (current: string | undefined, max: string | undefined): Stats['pids'] => ({
  current: parseSingle(current),
  limit: parseSingle(max, 0n),
});

export const miscStats = (text: string | undefined): Stats['misc'] => record(parseFlat(text));
