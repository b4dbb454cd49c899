/** Statistics of a container: the counters of its cgroups, and of the network interfaces that it has to itself. proc_net(5). */
import { readFile } from 'node:fs/promises';
import type { IntelRdtStats, Stats } from './cgroups/stats.ts';
import type { Handle } from './container-handle.ts';
import { containerStats as cgroupStats, statsEvery as cgroupStatsEvery } from './container-live.ts';
import { hasNamespace } from './plan/namespaces.ts';

/** Since the interface was made, as seen from inside: what it received is what came into the container. */
export interface InterfaceStats {
  readonly name: string;
  readonly rxBytes: bigint;
  readonly rxPackets: bigint;
  readonly rxErrors: bigint;
  readonly rxDropped: bigint;
  readonly txBytes: bigint;
  readonly txPackets: bigint;
  readonly txErrors: bigint;
  readonly txDropped: bigint;
}

export interface ContainerStats extends Stats {
  /** Only with linux.intelRdt. */
  readonly intelRdt?: IntelRdtStats;
  /** Of the container's network namespace; [] when that is the host's. */
  readonly interfaces: readonly InterfaceStats[];
}

export async function containerStats(handle: Handle): Promise<ContainerStats> {
  const stats = await cgroupStats(handle);
  return complete(handle, stats);
}

async function complete(handle: Handle, stats: Stats): Promise<ContainerStats> {
  const { resctrl } = handle.manager;
  return {
    ...stats,
    ...(resctrl === undefined ? {} : { intelRdt: await resctrl.stats() }),
    interfaces: await interfacesOf(handle),
  };
}

export async function* statsEvery(
  handle: Handle,
  options: { readonly intervalMs: number; readonly signal?: AbortSignal },
): AsyncGenerator<ContainerStats, void> {
  for await (const stats of cgroupStatsEvery(handle, options)) yield complete(handle, stats);
}

async function interfacesOf(handle: Handle): Promise<readonly InterfaceStats[]> {
  if (!hasNamespace(handle.config, 'network')) return [];
  const { pid } = await handle.live();
  if (pid === 0) return [];
  // It may end between the two: then there are none any more.
  return parseInterfaces(await readFile(`/proc/${pid}/net/dev`, 'utf8').catch(() => ''));
}

/** Two lines of heading, then `name: ` and eight numbers for each direction; the first four are bytes, packets, errs, drop. */
export function parseInterfaces(text: string): InterfaceStats[] {
  return text
    .split('\n')
    .slice(2)
    .flatMap(line => {
      const colon = line.lastIndexOf(':');
      const fields = line.slice(colon + 1).match(/\d+/g) ?? [];
      if (colon < 0 || fields.length < 16) return [];
      const at = (index: number): bigint => BigInt(fields[index] ?? 0);
      return [
        {
          name: line.slice(0, colon).trim(),
          rxBytes: at(0),
          rxPackets: at(1),
          rxErrors: at(2),
          rxDropped: at(3),
          txBytes: at(8),
          txPackets: at(9),
          txErrors: at(10),
          txDropped: at(11),
        },
      ];
    });
}
