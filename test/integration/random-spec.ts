/** Random config.json documents that must work, and what a process in the container must then see. */
import { readFileSync, readlinkSync } from 'node:fs';
import fc from 'fast-check';
import { capabilityNumber } from '../harness/capabilities.ts';

/** Capabilities that this process can hand on. */
const held: readonly string[] = (() => {
  const bits = BigInt(`0x${/CapEff:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  const names = ['CHOWN', 'KILL', 'NET_RAW', 'SETUID', 'SETGID', 'SYS_ADMIN', 'MKNOD', 'SYS_NICE', 'BPF'];
  return names.filter(name => (bits >> BigInt(capabilityNumber(name))) & 1n).map(name => `CAP_${name}`);
})();

const capabilities = fc
  .tuple(
    fc.subarray([...held]),
    fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
  )
  .map(([bounding, [a = 0, b = 0, c = 0, d = 0]]) => {
    // Each set within the one that the kernel takes it from, capabilities(7).
    const part = (of: readonly string[], share: number) => of.slice(0, Math.round(of.length * share));
    const permitted = part(bounding, a);
    const inheritable = part(permitted, b);
    return {
      bounding,
      permitted,
      effective: part(permitted, c),
      inheritable,
      ambient: part(inheritable, d),
    };
  });

const id = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4_000_000_000 }));
const user = fc.record({
  uid: id,
  gid: id,
  additionalGids: fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 5 }),
  umask: fc.integer({ min: 0, max: 0o777 }),
});
const rlimits = fc
  .tuple(
    fc.integer({ min: 64, max: 500 }),
    fc.integer({ min: 0, max: 500 }),
    fc.integer({ min: 0, max: 4096 }),
  )
  .map(([nofile, more, core]) => [
    { type: 'RLIMIT_NOFILE', soft: nofile, hard: nofile + more },
    { type: 'RLIMIT_CORE', soft: 0, hard: core },
  ]);
const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);

const mountOptions = fc
  .record({
    ro: fc.boolean(),
    nosuid: fc.boolean(),
    nodev: fc.boolean(),
    noexec: fc.boolean(),
    nodiratime: fc.boolean(),
    noatime: fc.boolean(),
  })
  .map(flags => Object.entries(flags).flatMap(([name, on]) => (on ? [name] : [])));

export interface Wanted {
  readonly user: { uid: number; gid: number; additionalGids: number[]; umask: number };
  readonly capabilities: { readonly [set: string]: readonly string[] };
  readonly rlimits: readonly { type: string; soft: number; hard: number }[];
  readonly noNewPrivileges: boolean;
  readonly oomScoreAdj: number;
  readonly namespaces: readonly string[];
  readonly hostname: string;
  readonly sysctl: { readonly [name: string]: string };
  readonly mounts: readonly (readonly string[])[];
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly pids: number;
  readonly memory: number;
}

export const wanted: fc.Arbitrary<Wanted> = fc.record({
  user,
  capabilities,
  rlimits,
  noNewPrivileges: fc.boolean(),
  oomScoreAdj: fc.integer({ min: 0, max: 1000 }),
  namespaces: fc.subarray(['pid', 'network', 'ipc', 'uts', 'cgroup']),
  hostname: word,
  sysctl: fc
    .record({
      'kernel.msgmax': fc.integer({ min: 4096, max: 65_536 }),
      'net.ipv4.ip_default_ttl': fc.integer({ min: 1, max: 255 }),
    })
    .map(table => Object.fromEntries(Object.entries(table).map(([name, value]) => [name, String(value)]))),
  mounts: fc.array(mountOptions, { maxLength: 4 }),
  maskedPaths: fc.subarray(['/proc/kcore', '/proc/keys', '/sys/firmware', '/proc/scsi', '/not/there']),
  readonlyPaths: fc.subarray(['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/not/there']),
  pids: fc.integer({ min: 20, max: 5000 }),
  memory: fc.integer({ min: 32, max: 4096 }).map(mib => mib * 1_048_576),
});

const needs: { readonly [sysctl: string]: string } = {
  'kernel.msgmax': 'ipc',
  'net.ipv4.ip_default_ttl': 'network',
};
const sysctlsOf = (want: Wanted): [string, string][] =>
  Object.entries(want.sysctl).filter(([name]) => want.namespaces.includes(needs[name] ?? ''));

const cgroupFiles = [
  '/sys/fs/cgroup/pids/pids.max',
  '/sys/fs/cgroup/pids.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
  '/sys/fs/cgroup/memory.max',
];

/** Into the default document; what cannot go together (a hostname without a uts namespace) is left out. */
export function apply(
  document: { process: object; mounts: unknown[]; linux: object; hostname?: string },
  want: Wanted,
): void {
  const sysctls = sysctlsOf(want);
  const files = [...sysctls.map(([name]) => `/proc/sys/${name.replaceAll('.', '/')}`), ...cgroupFiles];
  const { user, capabilities, rlimits, noNewPrivileges, oomScoreAdj, namespaces } = want;
  Object.assign(document.process, { user, capabilities, rlimits, noNewPrivileges, oomScoreAdj });
  const script = `for f in ${files.join(' ')}; do [ -r $f ] && echo "file $f $(cat $f)"; done; exec /bin/probe json`;
  Object.assign(document.process, { args: ['/bin/sh', '-c', script] });
  delete document.hostname;
  if (namespaces.includes('uts')) document.hostname = want.hostname;
  // Mount points below it are made there, not in the rootfs.
  document.mounts.push({ destination: '/mnt', type: 'tmpfs', source: 'tmpfs' });
  for (const [index, options] of want.mounts.entries())
    document.mounts.push({ destination: `/mnt/${index}`, type: 'tmpfs', source: `m${index}`, options });
  Object.assign(document.linux, {
    namespaces: ['mount', ...namespaces].map(type => ({ type })),
    sysctl: Object.fromEntries(sysctls),
    maskedPaths: want.maskedPaths,
    readonlyPaths: want.readonlyPaths,
    resources: { pids: { limit: want.pids }, memory: { limit: want.memory } },
  });
}

const mask = (names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(capabilityNumber(name))), 0n)
    .toString(16)
    .padStart(16, '0');

/** What the configuration says, in the words of `observed`. */
export function expected(want: Wanted): { [fact: string]: unknown } {
  const { bounding = [], permitted = [], inheritable = [], ambient = [] } = want.capabilities;
  // capabilities(7), "Transformation of capabilities during execve": root gets what the bounding set lets it have, but
  // with no_new_privs no more than it had (security/commoncap.c).
  const may = [...new Set([...bounding, ...inheritable])];
  const root = want.noNewPrivileges ? may.filter(name => permitted.includes(name)) : may;
  const gained = want.user.uid === 0 ? root : ambient;
  const facts: { [fact: string]: unknown } = {
    uid: want.user.uid,
    gid: want.user.gid,
    groups: [...want.user.additionalGids].sort((a, b) => a - b),
    umask: want.user.umask,
    CapBnd: mask(bounding),
    CapInh: mask(inheritable),
    CapAmb: mask(ambient),
    CapPrm: mask(gained),
    CapEff: mask(gained),
    noNewPrivileges: want.noNewPrivileges,
    oomScoreAdj: want.oomScoreAdj,
    namespaces: [...want.namespaces].sort(),
    nofile: [want.rlimits[0]?.soft, want.rlimits[0]?.hard].map(String),
    core: [want.rlimits[1]?.soft, want.rlimits[1]?.hard].map(String),
    pids: String(want.pids),
    memory: String(want.memory),
  };
  if (want.namespaces.includes('uts')) facts.hostname = want.hostname;
  for (const [name, value] of sysctlsOf(want)) facts[name] = value;
  for (const [index, options] of want.mounts.entries()) facts[`/mnt/${index}`] = [...options].sort();
  for (const path of ['/proc/kcore', '/proc/keys', '/sys/firmware', '/proc/scsi'])
    facts[`masked ${path}`] = want.maskedPaths.includes(path) && hostHas(path);
  for (const path of ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'])
    facts[`read-only ${path}`] = want.readonlyPaths.includes(path) && hostHas(path);
  return facts;
}

const present = new Map<string, boolean>();
function hostHas(path: string): boolean {
  let known = present.get(path);
  if (known === undefined) {
    try {
      readFileSync(path, { flag: 'r' }).byteLength;
      known = true;
    } catch (error) {
      known = (error as NodeJS.ErrnoException).code !== 'ENOENT';
    }
    present.set(path, known);
  }
  return known;
}

/** The same facts as a process in the container saw them. */
export function observed(output: string, want: Wanted): { [fact: string]: unknown } {
  const start = output.indexOf('{"');
  const seen = JSON.parse(output.slice(start));
  const files = new Map(
    output
      .slice(0, start)
      .split('\n')
      .map(line => line.split(' '))
      .map(([, path = '', value = '']) => [path, value] as const),
  );
  const rows: string[][] = seen.mountinfo.map((line: string) => line.split(' '));
  const optionsOf = (path: string): string[] | undefined =>
    rows.findLast(row => row[4] === path)?.[5]?.split(',');
  const facts: { [fact: string]: unknown } = {
    uid: seen.uid[0],
    gid: seen.gid[0],
    groups: [...seen.groups].sort((a, b) => a - b),
    umask: Number.parseInt(seen.status.Umask, 8),
    ...Object.fromEntries(
      ['CapBnd', 'CapInh', 'CapAmb', 'CapPrm', 'CapEff'].map(name => [name, seen.status[name]]),
    ),
    noNewPrivileges: seen.status.NoNewPrivs === '1',
    oomScoreAdj: seen.oomScoreAdj,
    namespaces: Object.entries({ cgroup: 'cgroup', ipc: 'ipc', network: 'net', pid: 'pid', uts: 'uts' })
      .filter(([, file]) => seen.namespaces[file] !== readlinkSync(`/proc/self/ns/${file}`))
      .map(([type]) => type),
    nofile: seen.limits[7],
    core: seen.limits[4],
    pids: files.get('/sys/fs/cgroup/pids/pids.max') ?? files.get('/sys/fs/cgroup/pids.max'),
    memory:
      files.get('/sys/fs/cgroup/memory/memory.limit_in_bytes') ?? files.get('/sys/fs/cgroup/memory.max'),
  };
  if (want.namespaces.includes('uts')) facts.hostname = seen.hostname;
  for (const [name] of sysctlsOf(want)) facts[name] = files.get(`/proc/sys/${name.replaceAll('.', '/')}`);
  const flags = ['ro', 'nosuid', 'nodev', 'noexec', 'nodiratime', 'noatime'];
  for (const index of want.mounts.keys())
    facts[`/mnt/${index}`] = (optionsOf(`/mnt/${index}`) ?? []).filter(word => flags.includes(word)).sort();
  for (const path of ['/proc/kcore', '/proc/keys', '/sys/firmware', '/proc/scsi'])
    facts[`masked ${path}`] = optionsOf(path) !== undefined;
  for (const path of ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'])
    facts[`read-only ${path}`] = optionsOf(path)?.includes('ro') ?? false;
  return facts;
}
