/** What a container uses, once a second: numbers for plots and metrics out of the counters of its cgroups. */
import { readFile } from 'node:fs/promises';
import type { Container, Stats } from '../../lib/index.ts';

export interface Sample {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** 1 is one processor. Since the sample before. */
  readonly cpu: number;
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
  readonly memoryLimitBytes: number | undefined;
  readonly pids: number;
  readonly pressure: Pressure | undefined;
}

/** Share of the last ten seconds in which some task stood still for want of it, in percent (PSI). */
export interface Pressure {
  /** Cgroup v1 has no pressure of its own containers: then it is the whole host's. */
  readonly of: 'container' | 'host';
  readonly cpu: number;
  readonly memory: number;
  readonly io: number;
}

export async function* samples(
  container: Container,
  intervalMs: number,
  signal: AbortSignal,
): AsyncGenerator<Sample> {
  let before: { readonly at: number; readonly totalNs: bigint } | undefined;
  for await (const stats of container.stats({ intervalMs, signal })) {
    const at = Date.now();
    const { totalNs } = stats.cpu.usage;
    const elapsedMs = before === undefined ? 0 : at - before.at;
    const limit = Number(stats.memory.usage.limit);
    yield {
      at,
      cpu: before === undefined || elapsedMs <= 0 ? 0 : Number(totalNs - before.totalNs) / 1e6 / elapsedMs,
      cpuSeconds: Number(totalNs) / 1e9,
      memoryBytes: Number(stats.memory.usage.usage),
      // No limit is a huge number on v1, and the biggest one on v2.
      memoryLimitBytes: limit > 0 && limit < 2 ** 53 ? limit : undefined,
      pids: Number(stats.pids.current),
      pressure: containerPressure(stats) ?? (await hostPressure()),
    };
    before = { at, totalNs };
  }
}

function containerPressure({ cpu, memory, blkio }: Stats): Pressure | undefined {
  if (cpu.psi === undefined || memory.psi === undefined || blkio.psi === undefined) return undefined;
  return {
    of: 'container',
    cpu: cpu.psi.some.avg10,
    memory: memory.psi.some.avg10,
    io: blkio.psi.some.avg10,
  };
}

/** Undefined: a kernel without CONFIG_PSI, or booted with psi=0. */
async function hostPressure(): Promise<Pressure | undefined> {
  try {
    const [cpu = 0, memory = 0, io = 0] = await Promise.all(
      ['cpu', 'memory', 'io'].map(async name =>
        Number(/^some avg10=([\d.]+)/.exec(await readFile(`/proc/pressure/${name}`, 'utf8'))?.[1] ?? 0),
      ),
    );
    return { of: 'host', cpu, memory, io };
  } catch {
    return undefined;
  }
}
