/** `nrunc update`: changes limits of a live container; what is not named, or is 0, stays as it is. */
import { readFileSync } from 'node:fs';
import { type Resources, resourcesFromJson, type SetOptions } from '../../index.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import type { Options } from '../options.ts';
import { sizeBytes } from '../size.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options, log, caller } = invocation;
  // Reading a file or stdin may take for ever.
  if (options.text('resources')) caller.decline();
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  for (const name of ['kernel-memory', 'kernel-memory-tcp'])
    if (options.has(name)) log.warning('Kernel memory settings are ignored and will be removed');
  const changes = await changesOf(options);
  await caller.commit();
  // Devices are the container's for life: an update by JSON without them must not take them away.
  await container.set(merge(container.config.resources, changes), { skipDevices: true, ...rdtOf(options) });
  return 0;
}

/** Beside a JSON too: linux.resources has no place for them. */
function rdtOf(options: Options): SetOptions {
  const schemas = given({
    l3CacheSchema: options.text('l3-cache-schema') || undefined,
    memBwSchema: options.text('mem-bw-schema') || undefined,
  });
  return Object.keys(schemas).length === 0 ? {} : { intelRdt: schemas };
}

async function changesOf(options: Options): Promise<Resources> {
  const file = options.text('resources');
  if (file === undefined || file === '') return fromOptions(options);
  const standardInput = file === '-';
  return resourcesFromJson(
    readFileSync(standardInput ? 0 : file, 'utf8'),
    standardInput ? 'standard input' : file,
  );
}

function whole(options: Options, name: string): number | undefined {
  const text = options.text(name);
  if (text === undefined || text === '') return undefined;
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(Number(text)))
    throw new Error(`invalid value for ${name}: ${JSON.stringify(text)} is not a number`);
  return Number(text);
}

function bytes(options: Options, name: string): number | undefined {
  const text = options.text(name);
  if (text === undefined || text === '') return undefined;
  if (text === '-1') return -1;
  try {
    return sizeBytes(text);
  } catch (cause) {
    throw new Error(`invalid value for ${name}`, { cause });
  }
}

/** Only what was given. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

export function fromOptions(options: Options): Resources {
  return {
    memory: given({
      limit: bytes(options, 'memory'),
      reservation: bytes(options, 'memory-reservation'),
      swap: bytes(options, 'memory-swap'),
    }),
    cpu: given({
      shares: whole(options, 'cpu-share'),
      quota: whole(options, 'cpu-quota'),
      burst: whole(options, 'cpu-burst'),
      period: whole(options, 'cpu-period'),
      realtimeRuntime: whole(options, 'cpu-rt-runtime'),
      realtimePeriod: whole(options, 'cpu-rt-period'),
      idle: whole(options, 'cpu-idle'),
      cpus: options.text('cpuset-cpus'),
      mems: options.text('cpuset-mems'),
    }),
    pids: options.has('pids-limit') ? { limit: options.number('pids-limit') } : {},
    blockIO: options.has('blkio-weight') ? { weight: options.number('blkio-weight') } : {},
  };
}

/** 0 and '' mean "unchanged", but for switches where 0 is a value. */
const zeroIsAValue = new Set(['idle', 'burst', 'swappiness', 'disableOOMKiller', 'checkBeforeUpdate']);

function changed<T extends object>(section: T | undefined): Partial<T> {
  return Object.fromEntries(
    Object.entries(section ?? {}).filter(
      ([name, value]) => zeroIsAValue.has(name) || (value !== 0 && value !== ''),
    ),
  ) as Partial<T>;
}

/**
 * The former sum of memory and swap was made for the former limit: with a new limit alone, only the kernel's own value is
 * kept. Without a memory limit a swap limit has no meaning.
 */
function mergeMemory(
  former: Resources['memory'],
  changes: NonNullable<Resources['memory']>,
): NonNullable<Resources['memory']> {
  if (changes.limit === undefined || changes.swap !== undefined) return { ...former, ...changes };
  const { swap: _, ...rest } = former ?? {};
  return { ...rest, ...changes, ...(changes.limit === -1 ? { swap: -1 } : {}) };
}

export function merge(former: Resources, changes: Resources): Resources {
  const memory = mergeMemory(former.memory, changed(changes.memory));
  const { devices, blockIO, unified, ...rest } = changes;
  return {
    ...former,
    ...given({
      hugepageLimits: rest.hugepageLimits,
      network: rest.network,
      rdma: rest.rdma,
      unified: unified === undefined ? undefined : { ...former.unified, ...unified },
    }),
    memory,
    cpu: { ...former.cpu, ...changed(changes.cpu) },
    pids: { ...former.pids, ...changed(changes.pids) },
    blockIO: { ...former.blockIO, ...changed(blockIO) },
  };
}
