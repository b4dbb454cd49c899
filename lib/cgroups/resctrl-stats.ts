/** Counters and settings of a resctrl group. kernel Documentation/filesystems/resctrl.rst; names as runc's events have them. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { IntelRdt } from '../config/config.ts';
import { parseSingle, readCgroupFile } from './file.ts';
import type { IntelRdtStats } from './stats.ts';

const word = async (...names: string[]): Promise<string> =>
  ((await readCgroupFile(join(...names))) ?? '').trim();
const count = async (...names: string[]): Promise<bigint> =>
  parseSingle(await readCgroupFile(join(...names)));

/** The line of a resource, as the kernel pads it, without the padding. */
export function schemaLine(schemata: string | undefined, resource: 'L3' | 'MB'): string | undefined {
  return schemata
    ?.split('\n')
    .map(line => line.trim())
    .find(line => line.startsWith(`${resource}:`));
}

const perDomain = async <T>(directory: string, read: (domain: string) => Promise<T>): Promise<T[]> =>
  Promise.all(
    (existsSync(directory) ? readdirSync(directory) : [])
      .filter(name => name.startsWith('mon_L3_'))
      .sort()
      .map(name => read(join(directory, name))),
  );

/** @param group The group, or its monitoring group of the container: whose tasks are counted. */
export async function readResctrlStats(
  root: string,
  path: string,
  group: string,
  config: IntelRdt,
): Promise<IntelRdtStats> {
  const info = (resource: string): string => join(root, 'info', resource);
  const [whole, own] = [
    await readCgroupFile(join(root, 'schemata')),
    await readCgroupFile(join(path, 'schemata')),
  ];
  const lines = (resource: 'L3' | 'MB') => ({
    root: schemaLine(whole, resource) ?? '',
    own: schemaLine(own, resource) ?? '',
  });
  const data = join(group, 'mon_data');
  const watched = config.enableMonitoring === true;
  return {
    ...(existsSync(info('L3'))
      ? {
          cache: {
            cbmMask: await word(info('L3'), 'cbm_mask'),
            minCbmBits: await count(info('L3'), 'min_cbm_bits'),
            closids: await count(info('L3'), 'num_closids'),
            schema: lines('L3'),
          },
        }
      : {}),
    ...(existsSync(info('MB'))
      ? {
          bandwidth: {
            granularity: await count(info('MB'), 'bandwidth_gran'),
            delayLinear: await count(info('MB'), 'delay_linear'),
            min: await count(info('MB'), 'min_bandwidth'),
            closids: await count(info('MB'), 'num_closids'),
            schema: lines('MB'),
          },
        }
      : {}),
    ...(watched || config.enableMBM === true
      ? {
          bandwidthUsed: await perDomain(data, async domain => ({
            totalBytes: await count(domain, 'mbm_total_bytes'),
            localBytes: await count(domain, 'mbm_local_bytes'),
          })),
        }
      : {}),
    ...(watched || config.enableCMT === true
      ? { cacheUsedBytes: await perDomain(data, domain => count(domain, 'llc_occupancy')) }
      : {}),
  };
}
