/**
 * Spec → Config: everything that can be decided before a start is decided here, as runc's specconv does: defaults filled
 * in, options parsed, default devices and device rules added, relative paths made absolute against the bundle. Pure: the
 * caller resolves the bundle and gives options; load.ts reads files.
 */
import { isAbsolute, join, resolve } from 'node:path';
import { capabilities, MS, numberOf } from '../plan/numbers.ts';
import type {
  Capabilities,
  Config,
  Device,
  DeviceRule,
  Hook,
  HookName,
  Hooks,
  IntelRdt,
  Mount,
  Namespace,
  NamespaceType,
  ProcessConfig,
  Resources,
} from './config.ts';
import { type Landlock, landlockOf } from './landlock.ts';
import { idmapOption, parseMountOptions, propagations } from './mount-options.ts';
import type { OverlayOptions } from './overlay.ts';
import type { Spec, SpecLinux, SpecMount, SpecProcess, SpecResources } from './spec.ts';

export const namespaceTypes: readonly NamespaceType[] = [
  'cgroup',
  'ipc',
  'mount',
  'network',
  'pid',
  'time',
  'user',
  'uts',
];

export const hookNames: readonly HookName[] = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
];

/** What the caller of loadConfig decides; the CLI has a flag for each. */
export interface ConfigOptions {
  /** MS_MOVE and chroot instead of pivot_root(2), for a rootfs on an initramfs. Default false. */
  readonly noPivotRoot?: boolean;
  /** Keep the caller's session keyring. Default false: a new one. */
  readonly noNewKeyring?: boolean;
  /** cgroups through systemd; cgroupsPath is then `slice:prefix:name`. Default false: through the file system. */
  readonly systemdCgroup?: boolean;
  /** The process that starts it has no privileges of the host. Default: its effective user is not root. */
  readonly rootlessEuid?: boolean;
  /** Confines the processes to some paths of the container; counts instead of the annotations `org.libcontainer.landlock.*`. */
  readonly landlock?: Partial<Landlock>;
  /** The root file system becomes layers: what the container changes goes into the upper one. Default: it is used as it is. */
  readonly overlay?: OverlayOptions;
  /** Do without cgroups that cannot be made, as long as no limit needs them. Default: when the caller is not the host's root. */
  readonly rootlessCgroups?: boolean;
}

/** The file nodes of config-linux.md "Default Devices", in runc's order. */
const defaultDevices: readonly Device[] = (
  [
    ['null', 1, 3],
    ['random', 1, 8],
    ['full', 1, 7],
    ['tty', 5, 0],
    ['zero', 1, 5],
    ['urandom', 1, 9],
  ] as const
).map(([name, major, minor]) => ({
  path: `/dev/${name}`,
  type: 'c',
  major,
  minor,
  fileMode: 0o666,
  uid: 0,
  gid: 0,
}));

const any = -1;
const mknodOnly: readonly DeviceRule[] = (['c', 'b'] as const).map(type => ({
  allow: true,
  type,
  major: any,
  minor: any,
  access: 'm',
}));
/** pts/*, ptmx, net/tun. */
const consoleAndTun: readonly DeviceRule[] = (
  [
    [136, any],
    [5, 2],
    [10, 200],
  ] as const
).map(([major, minor]) => ({ allow: true, type: 'c', major, minor, access: 'rwm' }));

/** @param bundle Absolute and free of links. */
export function convertSpec(spec: Spec, bundle: string, options: ConfigOptions): Config {
  const linux = spec.linux ?? {};
  const landlock = landlockOf(spec.annotations ?? {}, options.landlock);
  return {
    ociVersion: spec.ociVersion,
    bundle,
    rootfs: isAbsolute(spec.root.path)
      ? stripSlash(spec.root.path)
      : join(bundle, stripSlash(spec.root.path)),
    readonlyRootfs: spec.root.readonly ?? false,
    rootfsPropagation: propagations.get(linux.rootfsPropagation ?? '') ?? 0,
    ...(spec.process === undefined ? {} : { process: convertProcess(spec.process) }),
    ...given('hostname', spec.hostname),
    ...given('domainname', spec.domainname),
    namespaces: (linux.namespaces ?? []).flatMap(convertNamespace),
    ...convertUserNamespace(spec, options),
    mounts: (spec.mounts ?? []).map(mount => convertMount(mount, bundle, linux)),
    devices: convertDevices(linux),
    maskedPaths: linux.maskedPaths ?? [],
    readonlyPaths: linux.readonlyPaths ?? [],
    sysctl: linux.sysctl ?? {},
    ...given('mountLabel', linux.mountLabel),
    ...convertTimeOffsets(linux),
    ...convertNetDevices(linux),
    ...(linux.memoryPolicy === undefined
      ? {}
      : {
          memoryPolicy: {
            mode: linux.memoryPolicy.mode,
            nodes: (linux.memoryPolicy.nodes ?? '').trim(),
            flags: linux.memoryPolicy.flags ?? [],
          },
        }),
    ...(linux.personality === undefined ? {} : { personality: linux.personality }),
    ...(linux.seccomp === undefined ? {} : { seccomp: linux.seccomp }),
    ...(landlock === undefined ? {} : { landlock }),
    ...given('cgroupsPath', linux.cgroupsPath),
    resources: withDefaultRules(convertResources(linux.resources ?? {}), linux),
    ...(linux.intelRdt === undefined ? {} : { intelRdt: convertIntelRdt(linux.intelRdt) }),
    hooks: convertHooks(spec),
    annotations: spec.annotations ?? {},
    noPivotRoot: options.noPivotRoot ?? false,
    noNewKeyring: options.noNewKeyring ?? false,
    systemdCgroup: options.systemdCgroup ?? false,
  };
}

/** spec.process; what is left out gets the value that the specification or runc gives it. */
export function convertProcess(process: SpecProcess): ProcessConfig {
  const { user = {}, scheduler, ioPriority, execCPUAffinity } = process;
  return {
    args: process.args ?? [],
    env: lastOfEachName(process.env ?? []),
    cwd: process.cwd,
    user: {
      uid: user.uid ?? 0,
      gid: user.gid ?? 0,
      additionalGids: user.additionalGids ?? [],
      ...(user.umask === undefined ? {} : { umask: user.umask }),
    },
    terminal: process.terminal ?? false,
    ...(process.consoleSize === undefined ? {} : { consoleSize: process.consoleSize }),
    ...(process.capabilities === undefined
      ? {}
      : { capabilities: convertCapabilities(process.capabilities) }),
    rlimits: process.rlimits ?? [],
    noNewPrivileges: process.noNewPrivileges ?? false,
    ...(process.oomScoreAdj === undefined ? {} : { oomScoreAdj: process.oomScoreAdj }),
    ...(scheduler === undefined ? {} : { scheduler }),
    ...(ioPriority === undefined ? {} : { ioPriority }),
    ...(execCPUAffinity === undefined ? {} : { execCPUAffinity }),
    ...given('apparmorProfile', process.apparmorProfile),
    ...given('selinuxLabel', process.selinuxLabel),
  };
}

/** linux.resources without the default device rules (as `update` needs them). Deprecated kernel memory limits are dropped. */
export function convertResources(resources: SpecResources): Resources {
  const { devices, memory, ...rest } = resources;
  if (memory === undefined && devices === undefined) return rest;
  const { kernel: _1, kernelTCP: _2, useHierarchy: _3, ...limits } = memory ?? {};
  return {
    ...rest,
    ...(devices === undefined ? {} : { devices: devices.map(convertRule) }),
    ...(memory === undefined ? {} : { memory: limits }),
  };
}

function convertIntelRdt(rdt: NonNullable<SpecLinux['intelRdt']>): IntelRdt {
  const { closID, ...rest } = rdt;
  return { ...rest, ...given('closID', closID) };
}

type SpecRule = NonNullable<SpecResources['devices']>[number];
function convertRule(rule: SpecRule): DeviceRule {
  return {
    allow: rule.allow,
    type: rule.type === 'b' || rule.type === 'c' ? rule.type : 'a',
    major: rule.major ?? any,
    minor: rule.minor ?? any,
    access: rule.access ?? '',
  };
}

/** After the configured rules, so that no "deny all" can take them away: config-linux.md, "the runtime MUST supply". */
function withDefaultRules(resources: Resources, linux: SpecLinux): Resources {
  const nodes = keptDefaults(linux).map(
    ({ major, minor }): DeviceRule => ({ allow: true, type: 'c', major, minor, access: 'rwm' }),
  );
  return { ...resources, devices: [...(resources.devices ?? []), ...mknodOnly, ...nodes, ...consoleAndTun] };
}

/** Whose ids the user namespace has, and what the caller may not do. */
function convertUserNamespace(
  { linux = {} }: Spec,
  { rootlessEuid, rootlessCgroups }: ConfigOptions,
): Pick<Config, 'uidMappings' | 'gidMappings' | 'rootlessEuid' | 'rootlessCgroups'> {
  const { uidMappings = [], gidMappings = [] } = linux;
  return {
    ...(rootlessEuid === true ? { rootlessEuid } : {}),
    ...(rootlessCgroups === true ? { rootlessCgroups } : {}),
    ...(uidMappings.length > 0 && gidMappings.length > 0 ? { uidMappings, gidMappings } : {}),
  };
}

function convertDevices(linux: SpecLinux): Device[] {
  const configured = (linux.devices ?? []).map(
    (device): Device => ({
      path: device.path,
      type: device.type === 'b' || device.type === 'p' ? device.type : 'c',
      major: device.major ?? 0,
      minor: device.minor ?? 0,
      // The file type in st_mode may be given too (0100666); only its permissions count.
      fileMode: (device.fileMode ?? 0o666) & 0o7777,
      uid: device.uid ?? 0,
      gid: device.gid ?? 0,
    }),
  );
  return [...keptDefaults(linux), ...configured];
}

/** A configured device replaces the default one of the same path, and so does its rule. */
function keptDefaults(linux: SpecLinux): readonly Device[] {
  const configured = new Set((linux.devices ?? []).map(device => device.path));
  return defaultDevices.filter(device => !configured.has(device.path));
}

function convertMount(mount: SpecMount, bundle: string, linux: SpecLinux): Mount {
  const parsed = parseMountOptions(mount.options ?? []);
  // The type `bind` without the option is what a reader of the specification writes ("bind mounts: type is none or bind").
  const bind = (parsed.flags & MS.BIND) !== 0 || mount.type === 'bind';
  const source = mount.source ?? '';
  return {
    ...parsed,
    flags: bind ? parsed.flags | MS.BIND : parsed.flags,
    // A relative destination is deprecated and hangs off the root, as in runc.
    destination: resolve('/', mount.destination),
    source: bind ? resolve(bundle, source) : source,
    type: bind ? 'bind' : (mount.type ?? ''),
    ...convertIdmap(mount, linux),
  };
}

/** The options alone mean the maps of the container's user namespace; maps alone mean `idmap` (runc's specconv). */
function convertIdmap(mount: SpecMount, { namespaces = [], ...linux }: SpecLinux): Pick<Mount, 'idmap'> {
  const { uidMappings = [], gidMappings = [] } = mount;
  const asked = idmapOption(mount.options ?? []);
  if (uidMappings.length + gidMappings.length > 0)
    return { idmap: { recursive: asked === 'ridmap', uidMappings, gidMappings } };
  if (asked === undefined) return {};
  const userNamespace = namespaces.find(({ type }) => type === 'user')?.path;
  return {
    idmap: {
      recursive: asked === 'ridmap',
      uidMappings: linux.uidMappings ?? [],
      gidMappings: linux.gidMappings ?? [],
      ...given('userNamespace', userNamespace),
    },
  };
}

function convertTimeOffsets({ timeOffsets }: SpecLinux): Pick<Config, 'timeOffsets'> {
  if (timeOffsets === undefined || Object.keys(timeOffsets).length === 0) return {};
  return {
    timeOffsets: Object.fromEntries(
      Object.entries(timeOffsets).map(([clock, { secs = 0, nanosecs = 0 }]) => [clock, { secs, nanosecs }]),
    ),
  };
}

function convertNetDevices({ netDevices = {} }: SpecLinux): Pick<Config, 'netDevices'> {
  const devices = Object.entries(netDevices).map(([name, device]) => [name, device.name || name] as const);
  return devices.length === 0 ? {} : { netDevices: devices };
}

function convertNamespace(namespace: { readonly type: string; readonly path?: string }): Namespace[] {
  const type = namespaceTypes.find(known => known === namespace.type);
  return type === undefined ? [] : [{ type, ...given('path', namespace.path) }];
}

function convertCapabilities(sets: NonNullable<SpecProcess['capabilities']>): Capabilities {
  const known = (names: readonly string[] = []) =>
    names.filter(name => numberOf(capabilities, name) !== undefined);
  return {
    bounding: known(sets.bounding),
    effective: known(sets.effective),
    permitted: known(sets.permitted),
    inheritable: known(sets.inheritable),
    ambient: known(sets.ambient),
  };
}

function convertHooks(spec: Spec): Hooks {
  const hooks = spec.hooks ?? {};
  const of = (name: HookName): Hook[] =>
    (hooks[name] ?? []).map(({ path, args, env, timeout }) => ({
      path,
      args: args ?? [],
      ...(env === undefined ? {} : { env }),
      ...(timeout === undefined ? {} : { timeout }),
    }));
  return {
    prestart: of('prestart'),
    createRuntime: of('createRuntime'),
    createContainer: of('createContainer'),
    startContainer: of('startContainer'),
    poststart: of('poststart'),
    poststop: of('poststop'),
  };
}

/** The last value of a name stands, at the last one's place. */
function lastOfEachName(env: readonly string[]): string[] {
  const last = new Map<string, string>();
  for (const entry of env) {
    const name = entry.split('=', 1)[0] ?? '';
    last.delete(name);
    last.set(name, entry);
  }
  return [...last.values()];
}

/** An empty string means "not given" in the Go types that every engine writes config.json from. */
function given<K extends string>(key: K, value: string | undefined): { [key in K]?: string } {
  return value === undefined || value === '' ? {} : ({ [key]: value } as { [key in K]: string });
}

function stripSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
