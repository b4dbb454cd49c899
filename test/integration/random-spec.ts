/** Random config.json documents that must work. What a process must then see: random-facts.ts. */
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { specSchema } from '../../lib/config/spec.ts';
import { rootfs } from '../harness/bundle.ts';
import { capabilityNumber } from '../harness/capabilities.ts';
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

export const flags = ['ro', 'nosuid', 'nodev', 'noexec', 'nodiratime', 'noatime'];
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

export const has = (document: Drawn, type: string): boolean =>
  document.linux.namespaces.some(namespace => namespace.type === type);

const v1 = (controller: string, file: string): string => `/sys/fs/cgroup/${controller}/${file}`;
/** Per limit: its files, v1 and v2. */
export const cgroupFiles = {
  pids: [v1('pids', 'pids.max'), '/sys/fs/cgroup/pids.max'],
  memory: [v1('memory', 'memory.limit_in_bytes'), '/sys/fs/cgroup/memory.max'],
  shares: [v1('cpu', 'cpu.shares')],
  quota: [v1('cpu', 'cpu.cfs_quota_us'), '/sys/fs/cgroup/cpu.max'],
  period: [v1('cpu', 'cpu.cfs_period_us'), '/sys/fs/cgroup/cpu.max'],
} as const;

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
  // Of several on one place it makes the last one read-only for the first one's `ro`.
  copy.mounts = copy.mounts.filter(
    ({ destination }, index, all) => all.findLastIndex(other => other.destination === destination) === index,
  );
  // A hook that does not read its state is a broken pipe for it, of which it dies sometimes (status 141).
  for (const hook of Object.values(copy.hooks ?? {}).flat())
    if (typeof hook === 'object') Object.assign(Object(hook), { path: '/bin/cat', args: ['cat'] });
  if (copy.linux.seccomp !== undefined) Object.assign(copy.linux.seccomp, { flags: [] });
  return copy;
}
