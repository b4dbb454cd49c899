/** Every rule with a document that breaks it: the code, the path in the document, the words. */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configFromSpec } from '../../../lib/config/load.ts';
import { apparmorEnabled, selinuxEnabled } from '../../../lib/config/security-modules.ts';
import { test } from '../../harness/test.ts';
import { bundle, refusal, specWith } from './fixture.ts';

type Row = [changes: { readonly [path: string]: unknown }, issue: string];

const ns = (...types: string[]): { type: string }[] => types.map(type => ({ type }));

const mappings = [{ containerID: 0, hostID: 1000, size: 1 }];

const shapes: Row[] = [
  [{ ociVersion: undefined }, 'ociVersion: is required'],
  [{ root: undefined }, 'root: is required'],
  [{ 'root.path': 7 }, 'root.path: must be a string, not a number'],
  [{ 'root.path': '' }, 'root.path: must not be empty'],
  [{ 'root.readonly': 'yes' }, 'root.readonly: must be a boolean, not a string'],
  [{ mounts: {} }, 'mounts: must be an array, not an object'],
  [{ mounts: [{ type: 'tmpfs' }] }, 'mounts[0].destination: is required'],
  [{ 'process.user': { uid: -1, gid: 0 } }, 'process.user.uid: must be an integer from 0 to 4294967295'],
  [{ 'process.user': { uid: 0.5, gid: 0 } }, 'process.user.uid: must be an integer from 0 to 4294967295'],
  [{ 'process.env': ['A=\0'] }, 'process.env[0]: must not contain a NUL byte'],
  [{ 'process.args': 'sh' }, 'process.args: must be an array, not a string'],
  [{ annotations: { 'a.b': 1 } }, 'annotations["a.b"]: must be a string, not a number'],
  [{ 'linux.namespaces': [{ type: 3 }] }, 'linux.namespaces[0].type: must be a string, not a number'],
  [
    { 'linux.resources.memory': { limit: 2 ** 63 } },
    'linux.resources.memory.limit: must be an integer from -9223372036854775808 to 9223372036854775807',
  ],
  [
    { hooks: { poststop: [{ path: '/x', timeout: 0 }] } },
    'hooks.poststop[0].timeout: must be an integer from 1 to 2147483647',
  ],
  [{ windows: 'x' }, 'windows: must be an object, not a string'],
  [
    {
      'linux.seccomp': {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: [], action: 'SCMP_ACT_ALLOW' }],
      },
    },
    'linux.seccomp.syscalls[0].names: must name a system call',
  ],
];

const userns = (uidMappings: readonly object[], gidMappings = uidMappings) => ({
  'linux.namespaces': ns('mount', 'uts', 'user'),
  'linux.uidMappings': uidMappings,
  'linux.gidMappings': gidMappings,
});
const row = (containerID: number, hostID: number, size: number) => ({ containerID, hostID, size });

const meanings: Row[] = [
  [
    { mounts: [{ destination: '/x', source: '/', options: ['bind'], uidMappings: mappings }] },
    'mounts[0]: id-mapped mounts must have both uid and gid mappings specified',
  ],
  [
    { mounts: [{ destination: '/x', type: 'tmpfs', uidMappings: mappings, gidMappings: mappings }] },
    'mounts[0]: id-mapped mounts are only supported for bind-mounts',
  ],
  [
    { mounts: [{ destination: '/x', source: '/', options: ['bind', 'ridmap'] }] },
    'mounts[0].options: id-mapped mounts without mappings take those of the user namespace, and there is none',
  ],
  [
    {
      mounts: [
        {
          destination: '/x',
          source: '/',
          options: ['bind'],
          uidMappings: mappings,
          gidMappings: [{ containerID: 0, hostID: 0, size: 0 }],
        },
      ],
    },
    'mounts[0].gidMappings[0]: must be a range of ids below 4294967295',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts'), 'linux.netDevices': { eth0: {} } },
    'linux.netDevices: unable to move network devices without a private NET namespace',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts', 'network'), 'linux.netDevices': { 'eth/0': {} } },
    'linux.netDevices["eth/0"]: invalid network device name "eth/0"',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts', 'network'), 'linux.netDevices': { a: { name: 'b%s' } } },
    'linux.netDevices["a"].name: invalid network device name "b%s"',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts', 'network'), 'linux.netDevices': { a: { name: 'b' }, b: {} } },
    'linux.netDevices["b"].name: "b" is the name of two devices',
  ],
  [
    { 'linux.uidMappings': [row(0, 1000, 1)] },
    "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
  ],
  [userns([], [row(0, 1000, 1)]), 'linux.uidMappings: user namespaces enabled, but no uid mappings found'],
  [userns([row(0, 1000, 1)], []), 'linux.gidMappings: user namespaces enabled, but no gid mappings found'],
  [
    userns([row(0, 1000, 1), row(1, 1, 0)], [row(0, 1, 1)]),
    'linux.uidMappings[1].size: must be greater than 0',
  ],
  [
    userns([row(0, 1000, 10), row(9, 5000, 2)], [row(0, 1, 1)]),
    'linux.uidMappings[1]: overlaps with row 0: containerID',
  ],
  [
    userns([row(0, 1, 1)], [row(0, 1000, 10), row(10, 1009, 2)]),
    'linux.gidMappings[1]: overlaps with row 0: hostID',
  ],
  [
    userns([row(0, 0xffff_ffff, 1)], [row(0, 1, 1)]),
    'linux.uidMappings[0]: hostID + size is beyond the last id',
  ],
  [
    { ...userns([row(0, 1000, 1)]), 'process.user': { uid: 1, gid: 0 } },
    'process.user.uid: id 1 is not mapped in the user namespace',
  ],
  [
    { ...userns([row(0, 1000, 1)]), 'process.user': { uid: 0, gid: 0, additionalGids: [0, 7] } },
    'process.user.additionalGids[1]: id 7 is not mapped in the user namespace',
  ],
  [
    { 'linux.timeOffsets': { monotonic: { secs: 1 } } },
    "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
  ],
  [
    {
      'linux.namespaces': [...ns('mount', 'uts'), { type: 'time', path: '/proc/self/ns/time' }],
      'linux.timeOffsets': { boottime: { secs: 1 } },
    },
    'linux.timeOffsets: time namespace enabled, but both namespace path and time offsets specified -- you may only provide one',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts', 'time'), 'linux.timeOffsets': { realtime: { secs: 1 } } },
    'linux.timeOffsets.realtime: only the clocks monotonic and boottime have an offset',
  ],
  [
    {
      'linux.namespaces': ns('mount', 'uts', 'time'),
      'linux.timeOffsets': { monotonic: { nanosecs: 1_000_000_000 } },
    },
    'linux.timeOffsets.monotonic.nanosecs: must be below 1000000000',
  ],
  [
    { 'linux.memoryPolicy': { mode: 'MPOL_NONE' } },
    'linux.memoryPolicy.mode: invalid memory policy mode: "MPOL_NONE"',
  ],
  [
    { 'linux.memoryPolicy': { mode: 'MPOL_BIND' } },
    'linux.memoryPolicy.nodes: memory policy mode MPOL_BIND requires at least one node but got 0',
  ],
  [
    { 'linux.memoryPolicy': { mode: 'MPOL_LOCAL', nodes: '0' } },
    'linux.memoryPolicy.nodes: memory policy mode MPOL_LOCAL requires 0 nodes but got "0"',
  ],
  [
    { 'linux.memoryPolicy': { mode: 'MPOL_BIND', nodes: '0-1024' } },
    'linux.memoryPolicy.nodes: must be a list such as "0-3,7", not "0-1024"',
  ],
  [
    { 'linux.memoryPolicy': { mode: 'MPOL_BIND', nodes: '0', flags: ['MPOL_F_X'] } },
    'linux.memoryPolicy.flags[0]: invalid memory policy flag: "MPOL_F_X"',
  ],
  [
    {
      'linux.memoryPolicy': {
        mode: 'MPOL_BIND',
        nodes: '0',
        flags: ['MPOL_F_STATIC_NODES', 'MPOL_F_RELATIVE_NODES'],
      },
    },
    'linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other',
  ],
  [{ ociVersion: '2.0.0' }, 'ociVersion: must be a version 1.x of the specification, not "2.0.0"'],
  [
    { 'linux.namespaces': ns('pid', 'mount', 'uts', 'pid') },
    'linux.namespaces[3].type: malformed spec file: duplicated ns "pid"',
  ],
  [
    { 'linux.namespaces': ns('mount', 'uts', 'net') },
    'linux.namespaces[2].type: namespace "net" does not exist',
  ],
  [
    { 'linux.namespaces': [...ns('mount', 'uts'), { type: 'ipc', path: 'x' }] },
    'linux.namespaces[2].path: must be an absolute path',
  ],
  [{ 'linux.namespaces': ns('mount') }, 'hostname: unable to set hostname without a private UTS namespace'],
  [{ hostname: 'x'.repeat(65) }, 'hostname: must be at most 64 bytes'],
  [
    { hostname: '', domainname: 'd', 'linux.namespaces': ns('mount') },
    'domainname: unable to set domainname without a private UTS namespace',
  ],
  [
    { 'linux.namespaces': ns('uts'), 'linux.readonlyPaths': [] },
    'linux.maskedPaths: unable to restrict sys entries without a private MNT namespace',
  ],
  [{ 'linux.readonlyPaths': ['proc'] }, 'linux.readonlyPaths[0]: must be an absolute path'],
  [
    { mounts: [{ destination: '/x', source: '/y', options: ['bind', 'size=1'] }] },
    'mounts[0].options: bind mounts cannot have any filesystem-specific options applied: size=1',
  ],
  [{ mounts: [{ destination: '/x', options: ['rbind'] }] }, 'mounts[0].source: a bind mount needs a source'],
  [{ mounts: [{ destination: '/x' }] }, 'mounts[0].type: is required unless the options hold bind or rbind'],
  [{ 'linux.rootfsPropagation': 'odd' }, 'linux.rootfsPropagation: rootfsPropagation=odd is not supported'],
  [{ 'linux.devices': [{ path: 'x', type: 'p' }] }, 'linux.devices[0].path: must be an absolute path'],
  [
    { 'linux.devices': [{ path: '/x', type: 'd' }] },
    'linux.devices[0].type: invalid device type "d": one of b, c, u, p',
  ],
  [{ 'linux.devices': [{ path: '/x', type: 'c', minor: 1 }] }, 'linux.devices[0].major: is required'],
  [
    { 'linux.devices': [{ path: '/x', type: 'c', major: 1, minor: -1 }] },
    'linux.devices[0].minor: must be from 0 to 1048575',
  ],
  [
    { 'linux.resources.devices': [{ allow: true }] },
    'linux.resources.devices[0].access: device access at 0 field cannot be empty',
  ],
  [
    { 'linux.resources.devices': [{ allow: true, access: 'x' }] },
    'linux.resources.devices[0].access: invalid device access "x": letters of rwm',
  ],
  [
    { 'linux.resources.devices': [{ allow: true, access: 'r', type: 'u' }] },
    'linux.resources.devices[0].type: invalid cgroup device type "u": one of a, b, c',
  ],
  [{ 'linux.cgroupsPath': '/a\nb' }, 'linux.cgroupsPath: must not contain a line break'],
  [
    { 'linux.resources.cpu': { cpus: '3-1' } },
    'linux.resources.cpu.cpus: must be a list such as "0-3,7", not "3-1"',
  ],
  [
    { 'linux.resources.memory': { swappiness: 101 } },
    'linux.resources.memory.swappiness: invalid memory swappiness value: 101 (valid range is 0-100)',
  ],
  [
    { 'linux.resources.unified': { '../x': '1' } },
    'linux.resources.unified["../x"]: must be a file name of the cgroup, without "/"',
  ],
  [
    { 'linux.personality': { domain: 'BSD' } },
    'linux.personality.domain: invalid personality domain "BSD": LINUX or LINUX32',
  ],
  [{ hooks: { prestart: [{ path: 'x' }] } }, 'hooks.prestart[0].path: must be an absolute path'],
  [{ annotations: { '': 'x' } }, 'annotations[""]: a key must not be empty'],
  [{ 'process.cwd': 'tmp' }, 'process.cwd: Cwd must be an absolute path'],
  [{ 'process.cwd': '' }, 'process.cwd: Cwd property must not be empty'],
  [{ 'process.args': [] }, 'process.args: args must not be empty'],
  [{ 'process.args': undefined }, 'process.args: args must not be empty'],
  [{ 'process.args': [''] }, 'process.args[0]: must not be empty'],
  [{ 'process.env': ['A'] }, "process.env[0]: invalid environment variable: missing '='"],
  [{ 'process.env': ['=A'] }, 'process.env[0]: invalid environment variable: name cannot be empty'],
  [
    { 'process.user': { uid: 0, gid: 0, additionalGids: [4294967295] } },
    'process.user.additionalGids[0]: must be an integer from 0 to 4294967294',
  ],
  [{ 'process.user': { umask: 0o1000 } }, 'process.user.umask: must be from 0 to 511 (0777)'],
  [
    { 'process.rlimits': [{ type: 'RLIMIT_X', soft: 1, hard: 1 }] },
    'process.rlimits[0].type: wrong rlimit value: RLIMIT_X',
  ],
  [
    { 'process.rlimits': [1, 2].map(soft => ({ type: 'RLIMIT_CORE', soft, hard: 2 })) },
    'process.rlimits[1].type: RLIMIT_CORE is given twice',
  ],
  [
    { 'process.rlimits': [{ type: 'RLIMIT_CORE', soft: 2, hard: 1 }] },
    'process.rlimits[0]: soft limit 2 is above hard 1',
  ],
  [{ 'process.oomScoreAdj': 1001 }, 'process.oomScoreAdj: must be an integer from -1000 to 1000'],
  [{ 'process.scheduler': { policy: '' } }, 'process.scheduler: scheduler policy is required'],
  [{ 'process.scheduler': { policy: 'X' } }, 'process.scheduler.policy: invalid scheduler policy: X'],
  [
    { 'process.scheduler': { policy: 'SCHED_OTHER', nice: 20 } },
    'process.scheduler.nice: invalid scheduler.nice: 20',
  ],
  [
    { 'process.scheduler': { policy: 'SCHED_OTHER', priority: 1 } },
    'process.scheduler.priority: scheduler.priority can only be specified for SchedFIFO or SchedRR policy',
  ],
  [
    { 'process.scheduler': { policy: 'SCHED_FIFO' } },
    'process.scheduler.priority: must be from 1 to 99 for SCHED_FIFO',
  ],
  [
    { 'process.scheduler': { policy: 'SCHED_OTHER', runtime: 1 } },
    'process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline policy',
  ],
  [
    { 'process.scheduler': { policy: 'SCHED_DEADLINE', runtime: 1 } },
    'process.scheduler: SCHED_DEADLINE needs runtime, deadline and period',
  ],
  [
    { 'process.scheduler': { policy: 'SCHED_OTHER', flags: ['X'] } },
    'process.scheduler.flags[0]: invalid scheduler flag: X',
  ],
  [
    { 'process.ioPriority': { class: 'IOPRIO_CLASS_BE', priority: 8 } },
    'process.ioPriority.priority: invalid ioPriority.Priority: 8',
  ],
  [
    { 'process.ioPriority': { class: 'X', priority: 0 } },
    'process.ioPriority.class: invalid ioPriority.Class: "X"',
  ],
  [
    { 'process.execCPUAffinity': { initial: 'all' } },
    'process.execCPUAffinity.initial: must be a CPU list such as "0-3,7", not "all"',
  ],
];

const seccompMeanings: [seccomp: object, issue: string][] = [
  [{ defaultAction: 'X' }, 'defaultAction: invalid seccomp action "X"'],
  [{ defaultAction: 'SCMP_ACT_NOTIFY' }, 'defaultAction: SCMP_ACT_NOTIFY cannot be used as default action'],
  [{ defaultAction: 'SCMP_ACT_ALLOW', listenerPath: 'x' }, 'listenerPath: must be an absolute path'],
  [
    { defaultAction: 'SCMP_ACT_ALLOW', listenerMetadata: 'x' },
    'listenerMetadata: must not be set without listenerPath',
  ],
  [
    { defaultAction: 'SCMP_ACT_ALLOW', flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] },
    'flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY',
  ],
  ...['write'].map((name): [object, string] => [
    { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['read', name], action: 'SCMP_ACT_NOTIFY' }] },
    `syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the ${name} syscall`,
  ]),
  [
    { defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 1 },
    'defaultErrnoRet: only allowed with SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not with SCMP_ACT_ALLOW',
  ],
  [
    { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['x86'] },
    'architectures[0]: invalid seccomp architecture "x86"',
  ],
  [{ defaultAction: 'SCMP_ACT_ALLOW', flags: ['LOG'] }, 'flags[0]: invalid seccomp flag "LOG"'],
  [
    {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['x'], action: 'SCMP_ACT_ERRNO', args: [{ index: 6, value: 1, op: 'SCMP_CMP_EQ' }] },
      ],
    },
    'syscalls[0].args[0].index: a system call has arguments 0 to 5',
  ],
  [
    {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['x'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 1, op: '==' }] }],
    },
    'syscalls[0].args[0].op: invalid seccomp operator "=="',
  ],
];

const unsupported: Row[] = [
  [
    { mounts: [{ destination: '/x', source: '/', options: ['bind', 'idmap=uids=0-1-2'] }] },
    'mounts[0].options: idmapped mounts have their maps in uidMappings and gidMappings',
  ],
  [
    { 'linux.personality': { domain: 'LINUX', flags: ['X'] } },
    'linux.personality.flags: the specification reserves flags; none is supported',
  ],
  // Where the kernel has them, test/integration/labels.test.ts looks at what they do.
  ...(apparmorEnabled()
    ? []
    : [
        [
          { 'process.apparmorProfile': 'x' },
          'process.apparmorProfile: apparmor: config provided but apparmor not supported',
        ] satisfies Row,
      ]),
  ...(selinuxEnabled()
    ? []
    : (['process.selinuxLabel', 'linux.mountLabel'].map(path => [
        { [path]: 'x' },
        `${path}: selinux label is specified in config, but selinux is disabled or not supported`,
      ]) satisfies Row[])),
];

const tables: [name: string, code: string, rows: Row[]][] = [
  ['a wrong shape', 'ERR_SPEC_INVALID', shapes],
  ['a wrong meaning', 'ERR_SPEC_INVALID', meanings],
  [
    'a wrong seccomp section',
    'ERR_SPEC_INVALID',
    seccompMeanings.map(([seccomp, issue]): Row => [{ 'linux.seccomp': seccomp }, `linux.seccomp.${issue}`]),
  ],
  ['a property that is not supported', 'ERR_UNSUPPORTED', unsupported],
];
for (const [name, code, rows] of tables) {
  // Without SELinux in the kernel its labels are refused.
  const labels =
    rows === unsupported && !selinuxEnabled() ? ['process.selinuxLabel', 'linux.mountLabel'] : [];
  test(`configFromSpec() refuses ${name}, naming its path`, { proves: labels }, async t => {
    const directory = bundle(t);
    for (const [changes, issue] of rows) {
      const found = await refusal(directory, changes);
      equal(found.code, code, JSON.stringify(changes));
      deepEqual(found.issues, [issue], JSON.stringify(changes));
      ok(found.message.includes(issue), found.message);
    }
  });
}

test('configFromSpec() reports all issues at once', async t => {
  const found = await refusal(bundle(t), {
    'process.cwd': 'x',
    hostname: 'h'.repeat(65),
    'process.args': [],
  });
  deepEqual(
    found.issues.map(issue => issue.split(':')[0]),
    ['hostname', 'process.cwd', 'process.args'],
  );
});

test('configFromSpec() allows only sysctls of a private namespace, in both spellings', async t => {
  const directory = bundle(t);
  const all = ns('mount', 'uts', 'ipc', 'network');
  const sysctl = async (name: string, namespaces: object[]): Promise<string> => {
    const changes = { 'linux.sysctl': { [name]: '1' }, 'linux.namespaces': namespaces };
    return await refusal(directory, changes).then(
      found => found.issues.join(),
      (error: Error) => error.message.split(':')[0] ?? '',
    );
  };
  const rows: [name: string, namespaces: object[], found: RegExp][] = [
    ['kernel.msgmax', all, /^accepted$/],
    ['kernel/msgmax', all, /^accepted$/],
    ['fs.mqueue.msg_max', all, /^accepted$/],
    ['net.ipv4.ip_forward', all, /^accepted$/],
    ['net/ipv4/conf/eth0.1/forwarding', all, /^accepted$/],
    ['kernel.domainname', all, /^accepted$/],
    ['kernel.msgmax', ns('mount', 'uts', 'network'), /not allowed in the hosts ipc namespace/],
    ['net.ipv4.ip_forward', ns('mount', 'uts', 'ipc'), /not allowed in host network namespace/],
    ['kernel.hostname', all, /conflicts with the OCI "hostname" field/],
    ['kernel.shm_rmid_forcedx', all, /not in a separate kernel namespace/],
    ['kernel.core_pattern', all, /not in a separate kernel namespace/],
    ['net/../kernel/core_pattern', all, /is not the name of a sysctl|kernel namespace/],
    ['net.ipv4..x', all, /is not the name of a sysctl/],
    ['', all, /is not the name of a sysctl/],
  ];
  for (const [name, namespaces, found] of rows) ok(found.test(await sysctl(name, namespaces)), name);
});

test('configFromSpec() refuses a rootfs that is missing, a file, or reached through a link', async t => {
  const directory = bundle(t);
  writeFileSync(join(directory, 'file'), '');
  symlinkSync('rootfs', join(directory, 'link'));
  mkdirSync(join(directory, 'real', 'below'), { recursive: true });
  symlinkSync('real', join(directory, 'via'));
  for (const path of ['absent', 'file', 'link', 'via/below', join(directory, 'link')]) {
    const { code, message } = await refusal(directory, { 'root.path': path });
    equal(code, 'ERR_ROOTFS', path);
    ok(message.startsWith('invalid rootfs'), message);
  }
  const config = await configFromSpec(specWith({ 'root.path': 'real/below/' }), directory);
  equal(config.rootfs, join(directory, 'real/below'));
});

test('configFromSpec() refuses a namespace path that is missing or of another kind', async t => {
  const directory = bundle(t);
  const joined = (path: string) => ({
    'linux.namespaces': [...ns('mount', 'uts'), { type: 'network', path }],
  });
  const absent = await refusal(directory, joined('/nonexistent/net'));
  deepEqual([absent.code, absent.issues.length], ['ERR_SPEC_INVALID', 1]);
  const wrong = await refusal(directory, joined('/proc/self/ns/ipc'));
  equal(wrong.code, 'ERR_NAMESPACE_KIND');
  ok(wrong.message.includes('/proc/self/ns/ipc is a ipc namespace'), wrong.message);
  const config = await configFromSpec(specWith(joined('/proc/self/ns/net')), directory);
  equal(config.namespaces[2]?.path, '/proc/self/ns/net');
});
