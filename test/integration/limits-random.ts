/** Random valid resource sets in the specification's own form, from a seed: the same seed gives the same sets. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** mulberry32: 32 bits of state are enough to repeat a failure. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface Generator {
  chance(probability: number): boolean;
  whole(low: number, high: number): number;
  pick<T>(values: readonly T[]): T;
  /** The property or nothing. */
  maybe<T>(name: string, value: () => T): { [name: string]: T };
}

export function generator(seed: number): Generator {
  const random = randomOf(seed);
  const whole = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
  return {
    chance: probability => random() < probability,
    whole,
    pick: <T>(values: readonly T[]): T => {
      const [value] = values.slice(whole(0, values.length - 1));
      if (value === undefined) throw new RangeError('nothing to pick from');
      return value;
    },
    maybe: (name, value) => (random() < 0.5 ? { [name]: value() } : {}),
  };
}

export interface SpecSet {
  memory?: { [name: string]: number | boolean };
  cpu?: { [name: string]: number | string };
  pids?: { limit: number };
  [section: string]: unknown;
}

const MiB = 1 << 20;
export const onV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');

/** `[major, minor]` of a disk that the kernel takes limits for; undefined: it has none. */
export function someDisk(): readonly [major: number, minor: number] | undefined {
  const list = (): string[] => (existsSync('/sys/block') ? readdirSync('/sys/block') : []);
  // A guest over 9p has none before that.
  if (list().length === 0 && process.geteuid?.() === 0) spawnSync('modprobe', ['loop']);
  const all = list();
  const disk = all.find(name => !/^(loop|ram|zram)/.test(name)) ?? all.find(name => name.startsWith('loop'));
  if (disk === undefined) return undefined;
  const [major = 0, minor = 0] = readFileSync(`/sys/block/${disk}/dev`, 'utf8').trim().split(':').map(Number);
  return [major, minor];
}

/** Page aligned, since the kernel rounds: above what a waiting init uses. */
function memorySet(g: Generator): SpecSet['memory'] {
  const limit = g.chance(0.2) ? -1 : g.whole(16, 512) * MiB;
  const swap = limit === -1 || g.chance(0.2) ? -1 : limit + g.whole(0, 64) * MiB;
  return {
    limit,
    // On v1 a limit above the memory+swap limit in force is EINVAL, for both.
    ...(onV2 ? g.maybe('swap', () => swap) : { swap }),
    ...g.maybe('reservation', () => g.whole(4, 256) * MiB),
  };
}

function cpuSet(g: Generator): SpecSet['cpu'] {
  const period = g.whole(10, 1000) * 1000;
  return {
    ...g.maybe('shares', () => g.pick([g.whole(2, 2048), g.whole(2, 262144), 1024, 2, 262144])),
    // Both or none: what a lone one takes for the other is runc's and our common rule, tested apart.
    ...(g.chance(0.5) ? { period, quota: g.chance(0.2) ? -1 : Math.max(1000, g.whole(1, 300) * 1000) } : {}),
    ...g.maybe('cpus', () => g.pick(['0', '0-0'])),
    ...g.maybe('mems', () => '0'),
  };
}

/** What `update` can change. */
export function updateSet(g: Generator): SpecSet {
  return {
    ...(g.chance(0.7) ? { memory: memorySet(g) ?? {} } : {}),
    ...(g.chance(0.7) ? { cpu: cpuSet(g) ?? {} } : {}),
    ...(g.chance(0.5) ? { pids: { limit: g.chance(0.2) ? -1 : g.whole(1, 4000) } } : {}),
  };
}

const names = [
  [1, 3],
  [1, 5],
  [4, 64],
  [10, 229],
] as const;
const accesses = ['r', 'w', 'm', 'rw', 'rm', 'wm', 'rwm'] as const;

/** Rules as engines write them: a denial of all, then what is allowed, some of it taken back again. */
function deviceRules(g: Generator): object[] {
  const rules: object[] = [{ allow: g.chance(0.1), access: 'rwm' }];
  for (let i = g.whole(0, 6); i > 0; i--) {
    const [major, minor] = g.pick(names);
    rules.push({ allow: g.chance(0.7), type: 'c', major, minor, access: g.pick(accesses) });
  }
  return rules;
}

function blockIO(g: Generator, [major, minor]: readonly [number, number]): { [name: string]: object[] } {
  const rate = (most: number) => () => [{ major, minor, rate: g.whole(1, most) }];
  return {
    ...g.maybe('throttleReadBpsDevice', rate(1 << 30)),
    ...g.maybe('throttleWriteBpsDevice', rate(1 << 30)),
    ...g.maybe('throttleReadIOPSDevice', rate(100_000)),
    ...g.maybe('throttleWriteIOPSDevice', rate(100_000)),
  };
}

/** What only `create` takes. */
export function createSet(g: Generator): SpecSet {
  const set = updateSet(g);
  const disk = someDisk();
  if (!onV2 && g.chance(0.5))
    set.memory = { ...set.memory, swappiness: g.whole(0, 100), disableOOMKiller: g.chance(0.5) };
  return {
    ...set,
    devices: deviceRules(g),
    ...(disk === undefined ? {} : { blockIO: blockIO(g, disk) }),
    ...(existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB') && onV2
      ? g.maybe('hugepageLimits', () => [{ pageSize: '2MB', limit: g.whole(0, 64) * 2 * MiB }])
      : {}),
    ...(onV2 ? g.maybe('unified', () => ({ 'memory.high': String(g.whole(16, 512) * MiB) })) : {}),
  };
}
