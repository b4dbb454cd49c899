/**
 * What a config.json must mean, beyond its shape: one function per rule, in the order of runc's validator and with its
 * words where runc has the rule. Pure; what only the host can answer (does the path exist?) is in host-checks.ts.
 */
import { isAbsolute } from 'node:path';
import { ConfigError, type ConfigIssue } from '../errors.ts';
import { MS, memoryPolicyFlags, memoryPolicyModes, numberOf, personalities } from '../plan/numbers.ts';
import { hookNames, namespaceTypes } from './convert.ts';
import { idmapOption, parseMountOptions, propagations } from './mount-options.ts';
import { seccompIssues } from './seccomp.ts';
import type { Spec, SpecLinux, SpecMount } from './spec.ts';
import { sysctlIssue } from './sysctl.ts';
import { userNamespaceIssues } from './user-namespace.ts';
import { isCpuList } from './validate-process.ts';

type Rule = (spec: Spec) => Iterable<ConfigIssue>;

const hasNamespace = ({ linux }: Spec, type: string): boolean =>
  linux?.namespaces?.some(namespace => namespace.type === type) ?? false;

const rules: readonly Rule[] = [
  function* version({ ociVersion }) {
    if (!/^1\.[0-9]+\.[0-9]+([-+].*)?$/.test(ociVersion)) {
      yield {
        path: 'ociVersion',
        message: `must be a version 1.x of the specification, not "${ociVersion}"`,
      };
    }
  },
  function* namespaces({ linux }) {
    const seen = new Set<string>();
    for (const [index, { type, path = '' }] of (linux?.namespaces ?? []).entries()) {
      const at = `linux.namespaces[${index}]`;
      if (!namespaceTypes.some(known => known === type)) {
        yield { path: `${at}.type`, message: `namespace "${type}" does not exist` };
      }
      if (seen.has(type)) {
        yield { path: `${at}.type`, message: `malformed spec file: duplicated ns "${type}"` };
      }
      seen.add(type);
      if (path !== '' && !isAbsolute(path)) yield { path: `${at}.path`, message: 'must be an absolute path' };
    }
  },
  function* hostname(spec) {
    yield* utsName(spec, 'hostname');
    yield* utsName(spec, 'domainname');
  },
  function* restrictedPaths(spec) {
    for (const name of ['maskedPaths', 'readonlyPaths'] as const) {
      const paths = spec.linux?.[name] ?? [];
      if (paths.length > 0 && !hasNamespace(spec, 'mount')) {
        const message = 'unable to restrict sys entries without a private MNT namespace';
        yield { path: `linux.${name}`, message };
      }
      for (const [index, path] of paths.entries()) {
        if (!isAbsolute(path)) {
          yield { path: `linux.${name}[${index}]`, message: 'must be an absolute path' };
        }
      }
    }
  },
  userNamespaceIssues,
  function* sysctl(spec) {
    for (const name of Object.keys(spec.linux?.sysctl ?? {})) {
      const message = sysctlIssue(name, spec.linux?.namespaces ?? []);
      if (message !== undefined) yield { path: `linux.sysctl[${JSON.stringify(name)}]`, message };
    }
  },
  function* mountForms({ mounts = [] }) {
    for (const [index, mount] of mounts.entries()) {
      const path = `mounts[${index}]`;
      const { flags, data } = parseMountOptions(mount.options ?? []);
      const bind = (flags & MS.BIND) !== 0 || mount.type === 'bind';
      if (bind && data !== '') {
        const message = `bind mounts cannot have any filesystem-specific options applied: ${data}`;
        yield { path: `${path}.options`, message };
      }
      if (bind && !mount.source) yield { path: `${path}.source`, message: 'a bind mount needs a source' };
      if (!bind && !mount.type && (flags & MS.REMOUNT) === 0) {
        yield { path: `${path}.type`, message: 'is required unless the options hold bind or rbind' };
      }
    }
  },
  function* idmappedMounts({ mounts = [], linux }) {
    for (const [index, mount] of mounts.entries()) {
      yield* idmapIssues(`mounts[${index}]`, mount, linux ?? {});
    }
  },
  function* netDevices({ linux }) {
    const devices = Object.entries(linux?.netDevices ?? {});
    if (devices.length > 0 && !linux?.namespaces?.some(({ type }) => type === 'network')) {
      const message = 'unable to move network devices without a private NET namespace';
      yield { path: 'linux.netDevices', message };
    }
    const inside = new Set<string>();
    for (const [name, device] of devices) {
      const path = `linux.netDevices[${JSON.stringify(name)}]`;
      if (!isDeviceName(name)) yield { path, message: `invalid network device name "${name}"` };
      const target = device.name || name;
      // One %d is a template: the kernel puts a free number there.
      const plain = target.replace('%d', '');
      if (target !== name && (!isDeviceName(target) || plain.includes('%'))) {
        yield { path: `${path}.name`, message: `invalid network device name "${target}"` };
      }
      if (inside.has(target) && plain === target) {
        yield { path: `${path}.name`, message: `"${target}" is the name of two devices` };
      }
      inside.add(target);
    }
  },
  function* rootfsPropagation({ linux }) {
    const value = linux?.rootfsPropagation ?? '';
    if (value !== '' && !propagations.has(value)) {
      yield { path: 'linux.rootfsPropagation', message: `rootfsPropagation=${value} is not supported` };
    }
  },
  function* devices({ linux }) {
    for (const [index, device] of (linux?.devices ?? []).entries()) {
      const path = `linux.devices[${index}]`;
      if (!isAbsolute(device.path)) yield { path: `${path}.path`, message: 'must be an absolute path' };
      if (!['b', 'c', 'u', 'p'].includes(device.type)) {
        yield { path: `${path}.type`, message: `invalid device type "${device.type}": one of b, c, u, p` };
        continue;
      }
      if (device.type === 'p') continue;
      yield* deviceNumber(`${path}.major`, device.major, 0, 0xfff);
      yield* deviceNumber(`${path}.minor`, device.minor, 0, 0xf_ffff);
    }
  },
  function* deviceRules({ linux }) {
    for (const [index, rule] of (linux?.resources?.devices ?? []).entries()) {
      const path = `linux.resources.devices[${index}]`;
      if (!['', 'a', 'b', 'c'].includes(rule.type ?? '')) {
        yield { path: `${path}.type`, message: `invalid cgroup device type "${rule.type}": one of a, b, c` };
      }
      if (!rule.access) {
        yield { path: `${path}.access`, message: `device access at ${index} field cannot be empty` };
      } else if (!/^[rwm]+$/.test(rule.access)) {
        yield { path: `${path}.access`, message: `invalid device access "${rule.access}": letters of rwm` };
      }
      yield* deviceNumber(`${path}.major`, rule.major ?? -1, -1, 0xffff_ffff);
      yield* deviceNumber(`${path}.minor`, rule.minor ?? -1, -1, 0xffff_ffff);
    }
  },
  function* cgroupsPath({ linux }) {
    if (/[\n\r]/.test(linux?.cgroupsPath ?? '')) {
      yield { path: 'linux.cgroupsPath', message: 'must not contain a line break' };
    }
  },
  function* cpusets({ linux }) {
    for (const key of ['cpus', 'mems'] as const) {
      const value = linux?.resources?.cpu?.[key] ?? '';
      if (value === '' || isCpuList(value)) continue;
      yield { path: `linux.resources.cpu.${key}`, message: `must be a list such as "0-3,7", not "${value}"` };
    }
  },
  function* memory({ linux }) {
    const { swappiness } = linux?.resources?.memory ?? {};
    if (swappiness !== undefined && swappiness > 100) {
      const message = `invalid memory swappiness value: ${swappiness} (valid range is 0-100)`;
      yield { path: 'linux.resources.memory.swappiness', message };
    }
  },
  function* unified({ linux }) {
    for (const file of Object.keys(linux?.resources?.unified ?? {})) {
      if (file === '' || file.includes('/')) {
        const path = `linux.resources.unified[${JSON.stringify(file)}]`;
        yield { path, message: 'must be a file name of the cgroup, without "/"' };
      }
    }
  },
  function* timeOffsets({ linux }) {
    const offsets = Object.entries(linux?.timeOffsets ?? {});
    if (offsets.length === 0) return;
    const time = linux?.namespaces?.find(({ type }) => type === 'time');
    if (time === undefined) {
      const message = "time namespace offsets specified, but time namespace isn't enabled in the config";
      yield { path: 'linux.timeOffsets', message };
    } else if (time.path) {
      const message =
        'time namespace enabled, but both namespace path and time offsets specified -- you may only provide one';
      yield { path: 'linux.timeOffsets', message };
    }
    for (const [clock, { nanosecs = 0 }] of offsets) {
      const path = `linux.timeOffsets.${clock}`;
      if (clock !== 'monotonic' && clock !== 'boottime') {
        yield { path, message: 'only the clocks monotonic and boottime have an offset' };
      }
      // time_namespaces(7): ERANGE.
      if (nanosecs > 999_999_999) yield { path: `${path}.nanosecs`, message: 'must be below 1000000000' };
    }
  },
  function* memoryPolicy({ linux }) {
    if (linux?.memoryPolicy !== undefined) yield* memoryPolicyIssues(linux.memoryPolicy);
  },
  function* intelRdt({ linux }) {
    const { closID = '', memBwSchema = '', schemata = [] } = linux?.intelRdt ?? {};
    // The root group is the only path (runc's rule); anything else would leave the directory of the groups.
    if (closID !== '/' && (/[/\n]/.test(closID) || closID === '.' || closID === '..')) {
      yield { path: 'linux.intelRdt.closID', message: `invalid intelRdt.ClosID "${closID}"` };
    }
    const bandwidth = memBwSchema.trim();
    if (bandwidth !== '' && !/^MB:[^\n]*$/.test(bandwidth)) {
      const message = 'must be one line that begins with "MB:"';
      yield { path: 'linux.intelRdt.memBwSchema', message };
    }
    for (const [index, line] of schemata.entries()) {
      const path = `linux.intelRdt.schemata[${index}]`;
      if (!/^[^\n:]+:[^\n]*$/.test(line)) yield { path, message: 'must be one line such as "L3:0=ff"' };
    }
  },
  function* personality({ linux }) {
    const domain = linux?.personality?.domain;
    if (domain !== undefined && numberOf(personalities, domain) === undefined) {
      const message = `invalid personality domain "${domain}": LINUX or LINUX32`;
      yield { path: 'linux.personality.domain', message };
    }
  },
  function* seccomp({ linux }) {
    if (linux?.seccomp !== undefined) yield* seccompIssues(linux.seccomp);
  },
  function* hookPaths({ hooks = {} }) {
    for (const name of hookNames) {
      for (const [index, hook] of (hooks[name] ?? []).entries()) {
        if (isAbsolute(hook.path)) continue;
        yield { path: `hooks.${name}[${index}].path`, message: 'must be an absolute path' };
      }
    }
  },
  function* annotationKeys({ annotations = {} }) {
    if (Object.hasOwn(annotations, '')) yield { path: 'annotations[""]', message: 'a key must not be empty' };
  },
];

/** dev_valid_name() in the kernel, and IFNAMSIZ. */
const isDeviceName = (name: string): boolean =>
  Buffer.byteLength(name) < 16 && /^[^\s/:]+$/.test(name) && name !== '.' && name !== '..';

/** runc's rules (checkIDMapMounts); mount_setattr(2) "ID-mapped mounts". */
function* idmapIssues(path: string, mount: SpecMount, linux: SpecLinux): Iterable<ConfigIssue> {
  const { options = [], uidMappings = [], gidMappings = [] } = mount;
  const own = uidMappings.length + gidMappings.length > 0;
  if (!own && idmapOption(options) === undefined) return;
  const bind = (parseMountOptions(options).flags & MS.BIND) !== 0 || mount.type === 'bind';
  if (!bind) yield { path, message: 'id-mapped mounts are only supported for bind-mounts' };
  if (own && (uidMappings.length === 0 || gidMappings.length === 0)) {
    yield { path, message: 'id-mapped mounts must have both uid and gid mappings specified' };
  }
  if (!own && !linux.namespaces?.some(({ type }) => type === 'user')) {
    const message = 'id-mapped mounts without mappings take those of the user namespace, and there is none';
    yield { path: `${path}.options`, message };
  }
  for (const [name, rows] of Object.entries({ uidMappings, gidMappings })) {
    for (const [index, { size, containerID, hostID }] of rows.entries()) {
      // user_namespaces(7): at least one id, and no overflow.
      if (size === 0 || containerID + size > 0xffff_ffff || hostID + size > 0xffff_ffff) {
        yield { path: `${path}.${name}[${index}]`, message: 'must be a range of ids below 4294967295' };
      }
    }
    if (rows.length > 340) yield { path: `${path}.${name}`, message: 'the kernel takes at most 340 ranges' };
  }
}

const nodeless = new Set(['MPOL_DEFAULT', 'MPOL_LOCAL']);

/** set_mempolicy(2): which modes take nodes; runc's words. */
function* memoryPolicyIssues(policy: NonNullable<SpecLinux['memoryPolicy']>): Iterable<ConfigIssue> {
  const { mode, flags = [] } = policy;
  const nodes = (policy.nodes ?? '').trim();
  const at = 'linux.memoryPolicy';
  if (numberOf(memoryPolicyModes, mode) === undefined) {
    yield { path: `${at}.mode`, message: `invalid memory policy mode: "${mode}"` };
  } else if (nodeless.has(mode) && nodes !== '') {
    yield { path: `${at}.nodes`, message: `memory policy mode ${mode} requires 0 nodes but got "${nodes}"` };
  } else if (!nodeless.has(mode) && mode !== 'MPOL_PREFERRED' && nodes === '') {
    const message = `memory policy mode ${mode} requires at least one node but got 0`;
    yield { path: `${at}.nodes`, message };
  }
  // 1024 nodes are the most that a kernel is built for (CONFIG_NODES_SHIFT).
  const highest = Math.max(0, ...(nodes.match(/\d+/g) ?? []).map(Number));
  if (nodes !== '' && (!isCpuList(nodes) || highest > 1023)) {
    yield { path: `${at}.nodes`, message: `must be a list such as "0-3,7", not "${nodes}"` };
  }
  for (const [index, flag] of flags.entries()) {
    if (numberOf(memoryPolicyFlags, flag) !== undefined) continue;
    yield { path: `${at}.flags[${index}]`, message: `invalid memory policy flag: "${flag}"` };
  }
  if (flags.includes('MPOL_F_STATIC_NODES') && flags.includes('MPOL_F_RELATIVE_NODES')) {
    const message = 'MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other';
    yield { path: `${at}.flags`, message };
  }
}

function* utsName(spec: Spec, name: 'hostname' | 'domainname'): Generator<ConfigIssue> {
  const value = spec[name] ?? '';
  if (value === '') return;
  if (!hasNamespace(spec, 'uts')) {
    yield { path: name, message: `unable to set ${name} without a private UTS namespace` };
  }
  // sethostname(2): __NEW_UTS_LEN.
  if (Buffer.byteLength(value) > 64) yield { path: name, message: 'must be at most 64 bytes' };
}

function* deviceNumber(
  path: string,
  value: number | undefined,
  low: number,
  high: number,
): Generator<ConfigIssue> {
  if (value === undefined) yield { path, message: 'is required' };
  else if (value < low || value > high) yield { path, message: `must be from ${low} to ${high}` };
}

/**
 * @param others Issues that were found elsewhere (the process's) and are reported together with these.
 * @throws {ConfigError} ERR_SPEC_INVALID with every issue, none hides another.
 */
export function validateSpec(spec: Spec, others: readonly ConfigIssue[] = []): void {
  const issues = [...rules.flatMap(rule => [...rule(spec)]), ...others];
  if (issues.length > 0) throw new ConfigError('ERR_SPEC_INVALID', { issues });
}

/** What runc accepts with a warning: deprecated, or without effect on any kernel of today. */
export function specWarnings({ mounts = [], linux }: Spec): string[] {
  const memory = linux?.resources?.memory ?? {};
  const dead = (['kernel', 'kernelTCP', 'useHierarchy'] as const).filter(key => memory[key] !== undefined);
  return [
    ...mounts
      .filter(mount => !isAbsolute(mount.destination))
      .map(
        mount => `mount destination ${mount.destination} is not absolute, which is deprecated: taken from /`,
      ),
    ...dead.map(key => `linux.resources.memory.${key} has no effect: the kernel has dropped it`),
  ];
}
