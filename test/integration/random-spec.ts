/** Random config.json documents that must work, and what a process in the container must then see. */
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { getPriority } from 'node:os';
import fc from 'fast-check';
import { specSchema } from '../../lib/config/spec.ts';
import { rootfs } from '../harness/bundle.ts';
import { capabilityNumber } from '../harness/capabilities.ts';
import { missing } from '../harness/requirements.ts';
import { defaultSpec, type SpecDocument } from '../harness/spec.ts';
import { anyText, type Row, SchemaArbitrary } from './schema-arbitrary.ts';

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
const nothing = fc.constant('');
const between = (min: number, max: number) => fc.integer({ min, max });

const flags = ['ro', 'nosuid', 'nodev', 'noexec', 'nodiratime', 'noatime'];
const hook = fc.record(
  {
    path: fc.constant('/bin/true'),
    args: fc.array(word, { maxLength: 2 }).map(more => ['true', ...more]),
    env: fc.array(
      word.map(value => `V_HOOK=${value}`),
      { maxLength: 2 },
    ),
    timeout: between(10, 2 ** 31 - 1),
  },
  { requiredKeys: ['path', 'args'] },
);
const hookRows = Object.fromEntries(
  ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'].map(
    (name): [string, Row] => [`hooks.${name}`, fc.array(hook, { maxLength: 1 })],
  ),
);

const sysctls: { readonly [name: string]: readonly [namespace: string, least: number, most: number] } = {
  'kernel.msgmax': ['ipc', 4096, 65_536],
  'kernel.msgmnb': ['ipc', 4096, 65_536],
  'kernel.shmmni': ['ipc', 16, 4096],
  'net.ipv4.ip_default_ttl': ['network', 1, 255],
  'net.ipv4.ip_forward': ['network', 0, 1],
};
const clock = fc.record({ secs: between(0, 1_000_000), nanosecs: between(0, 999_999_999) });
const syscalls = ['acct', 'swapon', 'swapoff', 'reboot', 'kexec_load', 'delete_module'];
const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map(name => `SCMP_CMP_${name}`);

/** Every property of the schema whose type alone does not make a value that works, and why it is not drawn. */
const rows: { readonly [path: string]: Row } = {
  ociVersion: fc.constantFrom('1.0.0', '1.0.2-dev', '1.1.0', '1.2.1', '1.3.0'),
  'root.path': fc.constant(rootfs),
  'process.terminal': fc.constant(false),
  'process.cwd': fc.constantFrom('/', '/tmp', '/mnt', '/home/app/../web'),
  'process.env': fc.array(
    fc.tuple(fc.stringMatching(/^V_[A-Z]{1,2}$/), anyText).map(([name, value]) => `${name}=${value}`),
    {
      maxLength: 4,
    },
  ),
  'process.args': { without: 'the script that reads back is made at the end' },
  'process.user.uid': id,
  'process.user.gid': id,
  'process.user.umask': between(0, 0o777),
  'process.user.additionalGids': fc.uniqueArray(between(1, 65_535), { maxLength: 5 }),
  'process.capabilities': capabilities,
  'process.rlimits': rlimits,
  'process.oomScoreAdj': between(0, 1000),
  'process.apparmorProfile': fc.constantFrom('', 'unconfined'),
  'process.selinuxLabel': nothing,
  'process.scheduler.policy': fc.constantFrom('SCHED_OTHER', 'SCHED_BATCH'),
  'process.scheduler.nice': between(0, 3),
  'process.scheduler.priority': fc.constant(0),
  'process.scheduler.flags': fc.constant([]),
  'process.scheduler.runtime': fc.constant(0),
  'process.scheduler.deadline': fc.constant(0),
  'process.scheduler.period': fc.constant(0),
  'process.ioPriority.class': fc.constantFrom('IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE'),
  'process.ioPriority.priority': between(0, 7),
  'process.execCPUAffinity.initial': fc.constantFrom('', '0', '0-0'),
  'process.execCPUAffinity.final': fc.constantFrom('', '0', '0-0'),
  hostname: word,
  domainname: word,
  mounts: element => fc.array(element, { maxLength: 4 }),
  'mounts[].destination': between(0, 5).map(number => `/mnt/${number}`),
  'mounts[].source': word,
  'mounts[].type': fc.constant('tmpfs'),
  'mounts[].options': fc.subarray(flags),
  'mounts[].uidMappings': { without: 'not with tmpfs: test/integration/idmap.test.ts' },
  'mounts[].gidMappings': { without: 'not with tmpfs: test/integration/idmap.test.ts' },
  ...hookRows,
  annotations: fc.dictionary(
    anyText.filter(key => key !== '' && key !== '__proto__'),
    anyText,
    { maxKeys: 3 },
  ),
  'linux.namespaces': fc
    .subarray([
      'pid',
      'network',
      'ipc',
      'uts',
      'cgroup',
      ...(existsSync('/proc/self/ns/time') ? ['time'] : []),
    ])
    .map(types => ['mount', ...types].map(type => ({ type }))),
  'linux.uidMappings': { without: 'changes what all else means: test/integration/userns.test.ts' },
  'linux.gidMappings': { without: 'changes what all else means: test/integration/userns.test.ts' },
  'linux.timeOffsets': fc.record({ monotonic: clock, boottime: clock }, { requiredKeys: [] }),
  'linux.devices': element =>
    fc.uniqueArray(element, {
      maxLength: 3,
      selector: device => Reflect.get(Object(device), 'path'),
    }),
  'linux.devices[].path': between(0, 9).map(number => `/dev/drawn${number}`),
  'linux.devices[].type': fc.constantFrom('c', 'u'),
  'linux.devices[].major': fc.constant(1),
  'linux.devices[].minor': fc.constantFrom(3, 5, 7, 8, 9),
  'linux.devices[].fileMode': between(0, 0o777),
  'linux.devices[].uid': id,
  'linux.devices[].gid': id,
  'linux.netDevices': { without: 'needs devices of the host: test/integration/net-devices.test.ts' },
  'linux.cgroupsPath': { without: 'would be left to others: test/integration/cgroups.test.ts' },
  'linux.resources.devices': fc.array(
    fc.record({
      allow: fc.boolean(),
      type: fc.constant('c'),
      major: between(1, 200),
      minor: between(0, 9),
      access: fc.constantFrom('r', 'rw', 'rwm', 'm'),
    }),
    { maxLength: 3 },
  ),
  'linux.resources.memory.limit': between(32, 4096).map(mib => mib * 1_048_576),
  'linux.resources.memory.reservation': between(8, 32).map(mib => mib * 1_048_576),
  'linux.resources.memory.swap': { without: 'needs swap accounting: test/integration/limits*.test.ts' },
  'linux.resources.memory.swappiness': { without: 'v1 alone: test/integration/cgroups.test.ts' },
  'linux.resources.memory.disableOOMKiller': fc.constant(false),
  // Beside others a smaller share, or a larger nice value, lasts for ever.
  'linux.resources.cpu.shares': between(512, 262_144),
  // A whole processor at least: with less the script takes seconds.
  'linux.resources.cpu.quota': between(200_000, 1_000_000),
  'linux.resources.cpu.period': between(1000, 200_000),
  'linux.resources.cpu.burst': { without: 'not above the quota: test/integration/limits*.test.ts' },
  'linux.resources.cpu.realtimeRuntime': { without: 'not in every kernel: test/unit/cgroups/limits.test.ts' },
  'linux.resources.cpu.realtimePeriod': { without: 'not in every kernel: test/unit/cgroups/limits.test.ts' },
  'linux.resources.cpu.idle': { without: 'excludes shares: test/integration/limits*.test.ts' },
  'linux.resources.cpu.cpus': fc.constant('0'),
  'linux.resources.cpu.mems': fc.constant('0'),
  'linux.resources.pids.limit': between(20, 5000),
  'linux.resources.blockIO': { without: 'needs disks: test/integration/cgroups.test.ts' },
  'linux.resources.hugepageLimits': { without: 'not on every machine: test/integration/cgroups.test.ts' },
  'linux.resources.network': { without: 'not on every machine: test/unit/cgroups/limits.test.ts' },
  'linux.resources.rdma': { without: 'not on every machine: test/unit/cgroups/limits.test.ts' },
  'linux.resources.unified': { without: 'v2 alone: test/integration/cgroups.test.ts' },
  'linux.rootfsPropagation': fc.constantFrom(
    '',
    'private',
    'rprivate',
    'slave',
    'rslave',
    'shared',
    'rshared',
  ),
  'linux.maskedPaths': fc.subarray([
    '/proc/kcore',
    '/proc/keys',
    '/sys/firmware',
    '/proc/scsi',
    '/not/there',
  ]),
  'linux.readonlyPaths': fc.subarray(['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/not/there']),
  'linux.sysctl': fc
    .record(
      Object.fromEntries(
        Object.entries(sysctls).map(([name, [, least, most]]) => [name, between(least, most).map(String)]),
      ),
      { requiredKeys: [] },
    )
    .map(table => ({ ...table })),
  'linux.mountLabel': nothing,
  'linux.personality.domain': fc.constantFrom('LINUX', 'LINUX32'),
  'linux.personality.flags': fc.constant([]),
  'linux.seccomp.defaultAction': fc.constant('SCMP_ACT_ALLOW'),
  'linux.seccomp.defaultErrnoRet': { without: 'not with SCMP_ACT_ALLOW' },
  'linux.seccomp.architectures': fc.constant([]),
  'linux.seccomp.flags': fc.subarray(['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW']),
  'linux.seccomp.listenerPath': nothing,
  'linux.seccomp.listenerMetadata': nothing,
  // Two rules for one call with different errnos contradict each other.
  'linux.seccomp.syscalls': element => fc.array(element, { maxLength: 1 }),
  'linux.seccomp.syscalls[].names': fc.subarray(syscalls, { minLength: 1 }),
  'linux.seccomp.syscalls[].action': fc.constant('SCMP_ACT_ERRNO'),
  'linux.seccomp.syscalls[].errnoRet': between(1, 133),
  'linux.seccomp.syscalls[].args': element =>
    fc.uniqueArray(element, { maxLength: 2, selector: argument => Reflect.get(Object(argument), 'index') }),
  'linux.seccomp.syscalls[].args[].index': between(0, 5),
  'linux.seccomp.syscalls[].args[].op': fc.constantFrom(...operators),
  'linux.intelRdt': { without: 'not on every machine: test/integration/intel-rdt.test.ts' },
  'linux.memoryPolicy': { without: 'not in every kernel: test/integration/spec-linux.test.ts' },
};

const always = [
  'process',
  'process.user',
  'process.capabilities',
  'process.rlimits',
  'mounts',
  'linux',
].concat(['linux.namespaces', 'linux.resources', 'linux.resources.pids', 'linux.resources.pids.limit']);
const drawn = new SchemaArbitrary({ rows, always });

/** What a document of the schema is when it has been drawn with the rows above. */
export interface Drawn extends SpecDocument {
  process: {
    user: { uid?: number; gid?: number; umask?: number; additionalGids?: number[] };
    capabilities: { [set: string]: string[] };
    rlimits: { soft: number; hard: number }[];
    env?: string[];
    cwd: string;
    noNewPrivileges?: boolean;
    oomScoreAdj?: number;
    scheduler?: { policy: string; nice?: number };
    ioPriority?: { class: string; priority: number };
    args?: string[];
    apparmorProfile?: string;
  };
  domainname?: string;
  annotations?: { [key: string]: string };
  linux: SpecDocument['linux'] & {
    sysctl?: { [name: string]: string };
    timeOffsets?: { [clock: string]: { secs: number; nanosecs: number } };
    devices?: { path: string; minor?: number; fileMode?: number; uid?: number; gid?: number }[];
    personality?: { domain: string };
    seccomp?: object;
    resources: {
      memory?: { limit?: number };
      pids: { limit: number };
      cpu?: { shares?: number; quota?: number; period?: number };
    };
  };
}

const has = (document: Drawn, type: string): boolean =>
  document.linux.namespaces.some(namespace => namespace.type === type);

/** Rules between properties: what cannot go together is left out, what everything needs is put in. */
function consistent(document: Drawn): Drawn {
  const { linux, process } = document;
  if (!has(document, 'uts')) {
    delete document.hostname;
    delete document.domainname;
  }
  if (!has(document, 'time')) delete linux.timeOffsets;
  if (linux.sysctl !== undefined)
    linux.sysctl = Object.fromEntries(
      Object.entries(linux.sysctl).filter(([name]) => has(document, sysctls[name]?.[0] ?? '')),
    );
  // mknod(2): a device has numbers.
  for (const device of linux.devices ?? []) Object.assign(device, { major: 1, minor: device.minor ?? 3 });
  // Mount points below /mnt are made in it, not in the rootfs.
  const tmpfs = { destination: '/mnt', type: 'tmpfs', source: 'tmpfs' };
  document.mounts = [
    ...defaultSpec(rootfs).mounts,
    tmpfs,
    ...document.mounts.map(mount => ({ ...mount, type: 'tmpfs' })),
  ];
  linux.maskedPaths ??= [];
  linux.readonlyPaths ??= [];
  process.env = [...(process.env ?? []), 'PATH=/bin'];
  const files = [
    ...Object.keys(linux.sysctl ?? {}).map(name => `/proc/sys/${name.replaceAll('.', '/')}`),
    ...Object.values(cgroupFiles).flat(),
    '/proc/self/timens_offsets',
  ];
  const script = `for f in ${files.join(' ')}; do [ -r $f ] && echo "file $f" $(cat $f); done; exec /bin/probe json`;
  process.args = ['/bin/sh', '-c', script];
  return document;
}

/** A valid document each time. */
export const documents: fc.Arbitrary<Drawn> = drawn
  .of(specSchema)
  .map(document => consistent(structuredClone(document) as Drawn));

/** Rows of the table that name no property of the schema. */
export const idleRows = (): string[] => Object.keys(rows).filter(path => !drawn.used.has(path));

const v1 = (controller: string, file: string): string => `/sys/fs/cgroup/${controller}/${file}`;
const cgroupFiles = {
  pids: [v1('pids', 'pids.max'), '/sys/fs/cgroup/pids.max'],
  memory: [v1('memory', 'memory.limit_in_bytes'), '/sys/fs/cgroup/memory.max'],
  shares: [v1('cpu', 'cpu.shares')],
  quota: [v1('cpu', 'cpu.cfs_quota_us'), '/sys/fs/cgroup/cpu.max'],
  period: [v1('cpu', 'cpu.cfs_period_us'), '/sys/fs/cgroup/cpu.max'],
} as const;
const isV2 = missing('cgroup-v2') === undefined;
const hasCpu = missing('controller:cpu') === undefined;

const mask = (names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(capabilityNumber(name))), 0n)
    .toString(16)
    .padStart(16, '0');

const kinds = ['cgroup', 'ipc', 'network', 'pid', 'time', 'uts'];
const linkOf = (kind: string): string => (kind === 'network' ? 'net' : kind);
const masked = ['/proc/kcore', '/proc/keys', '/sys/firmware', '/proc/scsi'];
const readonly_ = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'];
const drawnMounts = (document: Drawn) =>
  document.mounts.filter(({ destination }) => destination.startsWith('/mnt/'));

/** What the configuration says, in the words of `observed`. */
export function expected(document: Drawn): { [fact: string]: unknown } {
  const { process, linux } = document;
  const { uid = 0, gid = 0, umask = 0o022, additionalGids = [] } = process.user;
  const { bounding = [], permitted = [], inheritable = [], ambient = [] } = process.capabilities;
  const noNewPrivileges = process.noNewPrivileges ?? false;
  // capabilities(7), "Transformation of capabilities during execve": root gets what the bounding set lets it have, but
  // with no_new_privs no more than it had (security/commoncap.c).
  const may = [...new Set([...bounding, ...inheritable])];
  const root = noNewPrivileges ? may.filter(name => permitted.includes(name)) : may;
  const gained = uid === 0 ? root : ambient;
  const { memory, pids, cpu } = linux.resources;
  const [nofile, core] = process.rlimits;
  const facts: { [fact: string]: unknown } = {
    uid,
    gid,
    groups: [...additionalGids].sort((a, b) => a - b),
    umask,
    CapBnd: mask(bounding),
    CapInh: mask(inheritable),
    CapAmb: mask(ambient),
    CapPrm: mask(gained),
    CapEff: mask(gained),
    noNewPrivileges,
    cwd: process.cwd === '/home/app/../web' ? '/home/web' : process.cwd,
    env: Object.fromEntries(
      (process.env ?? []).map(entry => [
        entry.slice(0, entry.indexOf('=')),
        entry.slice(entry.indexOf('=') + 1),
      ]),
    ),
    namespaces: kinds.filter(kind => has(document, kind)),
    nofile: [nofile?.soft, nofile?.hard].map(String),
    core: [core?.soft, core?.hard].map(String),
    pids: String(pids.limit),
    seccomp: linux.seccomp === undefined ? '0' : '2',
    scheduler: process.scheduler?.policy === 'SCHED_BATCH' ? 3 : 0,
    nice: process.scheduler === undefined ? getPriority() : (process.scheduler.nice ?? 0),
    personality: linux.personality?.domain === 'LINUX32' ? 8 : 0,
  };
  if (process.oomScoreAdj !== undefined) facts.oomScoreAdj = process.oomScoreAdj;
  if (process.ioPriority !== undefined)
    facts.ioPriority =
      ((process.ioPriority.class === 'IOPRIO_CLASS_BE' ? 2 : 3) << 13) | process.ioPriority.priority;
  if (memory?.limit !== undefined) facts.memory = String(memory.limit);
  if (hasCpu && cpu?.shares !== undefined && !isV2) facts.shares = String(cpu.shares);
  if (hasCpu && cpu?.quota !== undefined) facts.quota = String(cpu.quota);
  if (hasCpu && cpu?.period !== undefined) facts.period = String(cpu.period);
  if (document.hostname !== undefined) facts.hostname = document.hostname;
  if (document.domainname !== undefined) facts.domainname = document.domainname;
  for (const [name, value] of Object.entries(linux.sysctl ?? {})) facts[name] = value;
  for (const [name, { secs, nanosecs }] of Object.entries(linux.timeOffsets ?? {}))
    facts[`clock ${name}`] = `${secs} ${nanosecs}`;
  // Of several on one place the last counts.
  for (const { destination, options = [] } of drawnMounts(document)) facts[destination] = [...options].sort();
  for (const { path, minor = 3, fileMode = 0o666, uid: owner = 0, gid: group = 0 } of linux.devices ?? [])
    facts[path] = {
      type: 'c',
      mode: fileMode.toString(8).padStart(4, '0'),
      uid: owner,
      gid: group,
      device: `1:${minor}`,
    };
  for (const path of masked) facts[`masked ${path}`] = linux.maskedPaths.includes(path) && hostHas(path);
  for (const path of readonly_)
    facts[`read-only ${path}`] = linux.readonlyPaths.includes(path) && hostHas(path);
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

function filesOf(output: string): Map<string, string> {
  return new Map(
    output
      .split('\n')
      .map(line => /^file (\S+) (.*)$/.exec(line))
      .map(match => [match?.[1] ?? '', match?.[2] ?? ''] as const),
  );
}

/** The same facts as a process in the container saw them. */
export function observed(output: string, document: Drawn): { [fact: string]: unknown } {
  const start = output.indexOf('{"');
  const seen = JSON.parse(output.slice(start));
  const files = filesOf(output.slice(0, start));
  const file = (names: readonly string[]) =>
    names.map(name => files.get(name)).find(value => value !== undefined);
  const rows: string[][] = seen.mountinfo.map((line: string) => line.split(' '));
  const optionsOf = (path: string): string[] | undefined =>
    rows.findLast(row => row[4] === path)?.[5]?.split(',');
  const { process, linux } = document;
  const names = new Set(
    [...(process.env ?? [])].map(entry => entry.slice(0, entry.indexOf('='))).filter(name => name !== ''),
  );
  const env: [string, string][] = seen.env.map((entry: string) => [
    entry.slice(0, entry.indexOf('=')),
    entry.slice(entry.indexOf('=') + 1),
  ]);
  const facts: { [fact: string]: unknown } = {
    uid: seen.uid[0],
    gid: seen.gid[0],
    groups: [...seen.groups].sort((a, b) => a - b),
    umask: Number.parseInt(seen.status.Umask, 8),
    ...Object.fromEntries(
      ['CapBnd', 'CapInh', 'CapAmb', 'CapPrm', 'CapEff'].map(name => [name, seen.status[name]]),
    ),
    noNewPrivileges: seen.status.NoNewPrivs === '1',
    cwd: seen.cwd,
    env: Object.fromEntries(env.filter(([name]) => names.has(name))),
    namespaces: kinds.filter(
      kind => seen.namespaces[linkOf(kind)] !== readlinkSync(`/proc/self/ns/${linkOf(kind)}`),
    ),
    nofile: seen.limits[7],
    core: seen.limits[4],
    pids: file(cgroupFiles.pids),
    seccomp: seen.status.Seccomp,
    scheduler: seen.scheduler.policy,
    nice: seen.scheduler.nice,
    personality: seen.personality,
  };
  if (process.oomScoreAdj !== undefined) facts.oomScoreAdj = seen.oomScoreAdj;
  if (process.ioPriority !== undefined) facts.ioPriority = seen.ioprio;
  const { memory, cpu } = linux.resources;
  if (memory?.limit !== undefined) facts.memory = file(cgroupFiles.memory);
  if (hasCpu && cpu?.shares !== undefined && !isV2) facts.shares = file(cgroupFiles.shares);
  if (hasCpu && cpu?.quota !== undefined) facts.quota = file(cgroupFiles.quota)?.split(' ')[0];
  if (hasCpu && cpu?.period !== undefined) facts.period = file(cgroupFiles.period)?.split(' ').at(-1);
  if (document.hostname !== undefined) facts.hostname = seen.hostname;
  if (document.domainname !== undefined) facts.domainname = seen.domainname;
  for (const name of Object.keys(linux.sysctl ?? {}))
    facts[name] = files.get(`/proc/sys/${name.replaceAll('.', '/')}`);
  const clocks = files.get('/proc/self/timens_offsets') ?? '';
  for (const name of Object.keys(linux.timeOffsets ?? {}))
    facts[`clock ${name}`] = new RegExp(`${name}\\s+(\\d+)\\s+(\\d+)`).exec(clocks)?.slice(1).join(' ');
  for (const { destination } of drawnMounts(document))
    facts[destination] = (optionsOf(destination) ?? []).filter(name => flags.includes(name)).sort();
  for (const { path } of linux.devices ?? []) facts[path] = seen.dev[path.slice('/dev/'.length)];
  for (const path of masked) facts[`masked ${path}`] = optionsOf(path) !== undefined;
  for (const path of readonly_) facts[`read-only ${path}`] = optionsOf(path)?.includes('ro') ?? false;
  return facts;
}

/** What runc 1.1.5 does not know, or reads into structures of its own. */
export function forRunc(document: Drawn): Drawn | undefined {
  const { uid = 0, gid = 0 } = document.process.user;
  // It knows ids below 2^31 only.
  const ids = [uid, gid, ...(document.linux.devices ?? []).flatMap(({ uid: o = 0, gid: g = 0 }) => [o, g])];
  if (ids.some(number => number >= 2 ** 31)) return undefined;
  const copy = structuredClone(document);
  copy.linux.namespaces = copy.linux.namespaces.filter(({ type }) => type !== 'time');
  for (const name of ['vm', 'windows', 'solaris', 'zos', 'freebsd', 'domainname']) delete copy[name];
  delete copy.linux.timeOffsets;
  delete copy.linux.personality;
  delete copy.process.scheduler;
  delete copy.process.ioPriority;
  delete copy.process.apparmorProfile;
  if (copy.linux.seccomp !== undefined) Object.assign(copy.linux.seccomp, { flags: [] });
  return copy;
}
