/** Configurations for the tests of plans: the default one as `runc spec` means it, and ones that use every step. */
import type { CgroupMountRow } from '../../../lib/cgroups/manager.ts';
import type { Config, Mount, ProcessConfig } from '../../../lib/config/config.ts';
import { MOUNT_ATTR, MS } from '../../../lib/plan/numbers.ts';
import { planSetnsInit, type SetnsInitContext } from '../../../lib/plan/setns-init.ts';
import { planStandardInit, type StandardInitContext } from '../../../lib/plan/standard-init.ts';
import type { StartPlan } from '../../../lib/plan/steps.ts';

export function mount(destination: string, type: string, flags: number, more: Partial<Mount> = {}): Mount {
  return {
    destination,
    source: type,
    type,
    flags,
    clearedFlags: 0,
    propagation: [],
    recursiveSet: 0,
    recursiveClear: 0,
    data: '',
    copyUp: false,
    ...more,
  };
}

const few = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
export const defaultProcess: ProcessConfig = {
  args: ['sh'],
  env: ['PATH=/usr/bin:/bin', 'TERM=xterm'],
  cwd: '/',
  user: { uid: 0, gid: 0, additionalGids: [] },
  terminal: false,
  capabilities: { bounding: few, effective: few, permitted: few, inheritable: [], ambient: few },
  rlimits: [{ type: 'RLIMIT_NOFILE', soft: '1024', hard: '1024' }],
  noNewPrivileges: true,
};

const restricted = MS.NOSUID | MS.NOEXEC | MS.NODEV;
const device = (path: string, major: number, minor: number) =>
  ({ path, type: 'c', major, minor, fileMode: 0o666, uid: 0, gid: 0 }) as const;

export const defaultConfig: Config = {
  ociVersion: '1.0.2-dev',
  bundle: '/bundle',
  rootfs: '/bundle/rootfs',
  readonlyRootfs: true,
  rootfsPropagation: 0,
  process: defaultProcess,
  hostname: 'runc',
  namespaces: [
    { type: 'pid' },
    { type: 'network' },
    { type: 'ipc' },
    { type: 'uts' },
    { type: 'mount' },
    { type: 'cgroup' },
  ],
  mounts: [
    mount('/proc', 'proc', 0),
    mount('/dev', 'tmpfs', MS.NOSUID | MS.STRICTATIME, { data: 'mode=755,size=65536k' }),
    mount('/dev/pts', 'devpts', MS.NOSUID | MS.NOEXEC, {
      data: 'newinstance,ptmxmode=0666,mode=0620,gid=5',
    }),
    mount('/dev/shm', 'tmpfs', restricted, { source: 'shm', data: 'mode=1777,size=65536k' }),
    mount('/dev/mqueue', 'mqueue', restricted),
    mount('/sys', 'sysfs', restricted | MS.RDONLY),
    mount('/sys/fs/cgroup', 'cgroup', restricted | MS.RELATIME | MS.RDONLY),
  ],
  devices: [
    device('/dev/null', 1, 3),
    device('/dev/random', 1, 8),
    device('/dev/full', 1, 7),
    device('/dev/tty', 5, 0),
    device('/dev/zero', 1, 5),
    device('/dev/urandom', 1, 9),
  ],
  maskedPaths: ['/proc/kcore', '/sys/firmware'],
  readonlyPaths: ['/proc/sys', '/proc/sysrq-trigger'],
  sysctl: {},
  resources: {},
  hooks: {
    prestart: [],
    createRuntime: [],
    createContainer: [],
    startContainer: [],
    poststart: [],
    poststop: [],
  },
  annotations: {},
  noPivotRoot: false,
  noNewKeyring: false,
  systemdCgroup: false,
};

const v1Rows: CgroupMountRow[] = [
  { name: 'cpu,cpuacct', type: 'cgroup', data: 'cpu,cpuacct', links: ['cpu', 'cpuacct'] },
  { name: 'memory', type: 'cgroup', data: 'memory', links: [] },
  { name: 'systemd', type: 'cgroup', data: 'none,name=systemd', links: [] },
].map(row => ({ ...row, type: 'cgroup', path: `/sys/fs/cgroup/${row.name}/box` }) as const);

export const v1Context: StandardInitContext = {
  containerId: 'box',
  cgroup: { joinFiles: v1Rows.map(row => `${row.path}/tasks`) },
  cgroupMounts: { layout: 'hybrid', rows: v1Rows },
  lastCapability: 40,
  hostHasKcore: true,
  fifoSlot: 0,
  preservedFds: 0,
};
const { fifoSlot: _, ...withoutFifo } = v1Context;
export const runContext: StandardInitContext = withoutFifo;
export const v2Context: StandardInitContext = {
  ...runContext,
  cgroup: { joinFiles: [], cloneInto: '/sys/fs/cgroup/box' },
  cgroupMounts: {
    layout: 'v2',
    rows: [{ name: '', path: '/sys/fs/cgroup/box', type: 'cgroup2', data: '', links: [] }],
  },
};
export const execContext: SetnsInitContext = {
  containerId: 'box',
  cgroup: { joinFiles: v1Context.cgroup.joinFiles },
  lastCapability: 40,
  pidfdSlot: 0,
  preservedFds: 0,
  waitForRelease: false,
};

const hook = (path: string) => ({ path, args: [], timeout: 2 });
const landlock = { read: ['/etc', '/lib'], write: ['/tmp'], execute: ['/bin'] };
const filter = { program: new Uint8Array(24), flags: 4, notify: false };

/** Every property that a plan knows. */
export const fullProcess: ProcessConfig = {
  ...defaultProcess,
  args: ['/bin/app', '--flag', 'two words'],
  env: ['A=1', 'HOME=', 'A=2', 'PATH=/opt/bin', 'HOME='],
  cwd: '/home/app',
  user: { uid: 1000, gid: 1001, additionalGids: [5, 29], umask: 0o077 },
  terminal: true,
  consoleSize: { height: 24, width: 80 },
  rlimits: [
    { type: 'RLIMIT_NOFILE', soft: '64', hard: '128' },
    { type: 'RLIMIT_CORE', soft: '0', hard: '18446744073709551615' },
  ],
  oomScoreAdj: -500,
  scheduler: {
    policy: 'SCHED_DEADLINE',
    flags: ['SCHED_FLAG_RESET_ON_FORK'],
    runtime: 1,
    deadline: 2,
    period: 3,
  },
  ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 7 },
  execCPUAffinity: { initial: '0-1', final: '1,64' },
  apparmorProfile: 'profile',
  selinuxLabel: 'system_u:system_r:container_t:s0',
  capabilities: {
    bounding: ['CAP_CHECKPOINT_RESTORE', 'CAP_FUTURE'],
    effective: [],
    permitted: ['CAP_CHOWN'],
    inheritable: [],
    ambient: [],
  },
};

export const fullConfig: Config = {
  ...defaultConfig,
  rootfsPropagation: MS.SHARED | MS.REC,
  domainname: 'example',
  process: fullProcess,
  namespaces: [...defaultConfig.namespaces, { type: 'time' }],
  netDevices: [['eth1', 'uplink']],
  timeOffsets: { monotonic: { secs: -5, nanosecs: 0 }, boottime: { secs: 3600, nanosecs: 1 } },
  memoryPolicy: { mode: 'MPOL_BIND', nodes: '0-1,40', flags: ['MPOL_F_STATIC_NODES'] },
  mounts: [
    ...defaultConfig.mounts.map(m => (m.destination === '/dev' ? { ...m, flags: m.flags | MS.RDONLY } : m)),
    mount('/mapped', 'bind', MS.BIND | MS.REC, {
      source: '/srv/mapped',
      idmap: {
        recursive: true,
        uidMappings: [{ containerID: 0, hostID: 1000, size: 10 }],
        gidMappings: [{ containerID: 0, hostID: 1000, size: 10 }],
      },
    }),
    mount('/data', 'bind', MS.BIND | MS.REC | MS.RDONLY, {
      source: '/srv/data',
      clearedFlags: MS.NOSUID,
      propagation: [MS.SLAVE | MS.REC, MS.SHARED],
      recursiveSet: MOUNT_ATTR.RDONLY,
      recursiveClear: MOUNT_ATTR.NOEXEC,
    }),
    mount('/var/tmp', 'tmpfs', MS.RDONLY, { copyUp: true }),
  ],
  devices: [
    ...defaultConfig.devices,
    { path: '/dev/ptmx', type: 'c', major: 5, minor: 2, fileMode: 0o666, uid: 0, gid: 0 },
    { path: '/dev/disk', type: 'b', major: 8, minor: 0, fileMode: 0o600, uid: 1000, gid: 6 },
  ],
  sysctl: { 'net.ipv4.ip_forward': '1', 'net/ipv4/conf/eth0.1/forwarding': '1' },
  personality: { domain: 'LINUX32' },
  mountLabel: 'system_u:object_r:container_file_t:s0',
  seccomp: { defaultAction: 'SCMP_ACT_ALLOW' },
  hooks: {
    prestart: [hook('/hooks/prestart')],
    createRuntime: [hook('/hooks/create-runtime')],
    createContainer: [{ ...hook('/hooks/create-container'), args: ['name', 'x'], env: ['A=b'] }],
    startContainer: [hook('/hooks/start-container')],
    poststart: [hook('/hooks/poststart')],
    poststop: [hook('/hooks/poststop')],
  },
};

const bare: Config = {
  ...defaultConfig,
  readonlyRootfs: false,
  namespaces: [{ type: 'pid' }],
  mounts: [],
  maskedPaths: [],
  readonlyPaths: [],
};
const joined: Config = {
  ...defaultConfig,
  namespaces: (['mount', 'pid', 'user', 'network', 'ipc', 'uts', 'cgroup', 'time'] as const).map(type => ({
    type,
    path: `/run/ns/${type}`,
  })),
};
const idMappings = [
  { containerID: 0, hostID: 100_000, size: 1000 },
  { containerID: 5000, hostID: 300_000, size: 1 },
];
const userns: Config = {
  ...defaultConfig,
  namespaces: [...defaultConfig.namespaces.filter(({ type }) => type !== 'network'), { type: 'user' }],
  uidMappings: idMappings,
  gidMappings: idMappings,
  mounts: [
    ...defaultConfig.mounts,
    mount('/data', 'bind', MS.BIND | MS.REC | MS.RDONLY, { source: '/srv/data' }),
  ],
};
/** All but the user namespace are new, the pid namespace too. */
const belowJoinedUser: Config = {
  ...userns,
  namespaces: userns.namespaces.map(({ type }) =>
    type === 'user' ? { type, path: '/run/ns/user' } : { type },
  ),
};
const joinedTime: Config = {
  ...userns,
  namespaces: [
    ...userns.namespaces,
    { type: 'time', path: '/run/ns/time' },
    { type: 'network', path: '/run/ns/net' },
  ],
};
const boundDev: Config = {
  ...defaultConfig,
  noPivotRoot: true,
  noNewKeyring: true,
  mounts: [mount('/proc', 'proc', 0), mount('/dev/', 'bind', MS.BIND | MS.REC, { source: '/dev' })],
  devices: [
    ...defaultConfig.devices,
    { path: '/srv/pipe', type: 'p', major: 0, minor: 0, fileMode: 0o644, uid: 0, gid: 0 },
  ],
};
const hostCgroupNamespace: Config = {
  ...defaultConfig,
  namespaces: defaultConfig.namespaces.filter(({ type }) => type !== 'cgroup'),
};
const layers = { lower: ['/layers/b', '/layers/a:1,2'] };
const privileged: ProcessConfig = { ...fullProcess, noNewPrivileges: false, terminal: false };

/** v2: systemd moves the process, which joins nothing itself. */
const placedBySystemd = { joinFiles: [], place: async () => undefined };

/** Name → plan; the names are those of the golden files. */
export const cases: { readonly [name: string]: () => StartPlan } = {
  'create-v1': () => planStandardInit(defaultConfig, defaultProcess, v1Context),
  'run-v2': () => planStandardInit(defaultConfig, defaultProcess, v2Context),
  'create-full': () =>
    planStandardInit({ ...fullConfig, landlock }, fullProcess, { ...v1Context, seccomp: filter }),
  'create-privileged': () => planStandardInit(fullConfig, privileged, { ...v1Context, seccomp: filter }),
  'run-late': () =>
    planStandardInit(
      defaultConfig,
      { ...defaultProcess, args: [], program: 'late' },
      { ...v2Context, seccomp: filter },
    ),
  'run-none': () =>
    planStandardInit(defaultConfig, { ...defaultProcess, args: [], program: 'none' }, runContext),
  'run-chroot': () => planStandardInit(bare, defaultProcess, runContext),
  'run-joined': () => planStandardInit(joined, defaultProcess, runContext),
  'create-userns-v1': () => planStandardInit(userns, { ...defaultProcess, oomScoreAdj: 100 }, v1Context),
  'run-userns-rootless-v2': () =>
    planStandardInit({ ...userns, rootlessEuid: true }, defaultProcess, v2Context),
  'run-below-joined-user': () =>
    planStandardInit(belowJoinedUser, { ...defaultProcess, oomScoreAdj: 100 }, v1Context),
  'run-joined-time-below-user': () => planStandardInit(joinedTime, defaultProcess, v2Context),
  'run-bound-dev-no-pivot': () =>
    planStandardInit(boundDev, defaultProcess, { ...runContext, preservedFds: 2 }),
  'run-host-cgroupns-v1': () => planStandardInit(hostCgroupNamespace, defaultProcess, runContext),
  'run-host-cgroupns-v2': () => planStandardInit(hostCgroupNamespace, defaultProcess, v2Context),
  'run-overlay': () =>
    planStandardInit(
      { ...defaultConfig, overlay: { ...layers, sizeBytes: 65_536 } },
      defaultProcess,
      v2Context,
    ),
  'run-overlay-userns': () =>
    planStandardInit(
      {
        ...userns,
        mountLabel: 'a:b:c0,c1',
        overlay: { ...layers, upper: '/layers/up', work: '/layers/work' },
      },
      defaultProcess,
      v2Context,
    ),
  'run-systemd': () =>
    planStandardInit(defaultConfig, defaultProcess, { ...runContext, cgroup: placedBySystemd }),
  'exec-systemd': () =>
    planSetnsInit(defaultConfig, defaultProcess, { ...execContext, cgroup: placedBySystemd }),
  exec: () => planSetnsInit(defaultConfig, defaultProcess, execContext),
  'exec-userns': () => planSetnsInit(userns, defaultProcess, execContext),
  'exec-full': () =>
    planSetnsInit({ ...fullConfig, landlock }, fullProcess, {
      ...execContext,
      seccomp: { ...filter, notify: true },
      preservedFds: 1,
      waitForRelease: true,
    }),
  'exec-privileged': () => planSetnsInit(fullConfig, privileged, { ...execContext, seccomp: filter }),
};
