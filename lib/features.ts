/** What this runtime knows: the runtime-spec's features structure (features.md, features-linux.md). */
import { hookNames, namespaceTypes } from './config/convert.ts';
import { mountOptionNames } from './config/mount-options.ts';
import { seccompActions, seccompArchitectures, seccompFlags, seccompOperators } from './config/seccomp.ts';
import { binding } from './native/binding.ts';
import { capabilities, memoryPolicyFlags, memoryPolicyModes } from './plan/numbers.ts';

export interface Features {
  readonly ociVersionMin: string;
  readonly ociVersionMax: string;
  readonly hooks: readonly string[];
  readonly mountOptions: readonly string[];
  readonly linux: {
    readonly namespaces: readonly string[];
    readonly capabilities: readonly string[];
    readonly cgroup: {
      readonly v1: boolean;
      readonly v2: boolean;
      readonly systemd: boolean;
      readonly systemdUser: boolean;
      readonly rdma: boolean;
    };
    readonly seccomp: {
      readonly enabled: boolean;
      readonly actions: readonly string[];
      readonly operators: readonly string[];
      readonly archs: readonly string[];
      readonly knownFlags: readonly string[];
      readonly supportedFlags: readonly string[];
    };
    readonly apparmor: { readonly enabled: boolean };
    readonly selinux: { readonly enabled: boolean };
    readonly intelRdt: {
      readonly enabled: boolean;
      readonly schemata: boolean;
      readonly monitoring: boolean;
    };
    readonly memoryPolicy: { readonly modes: readonly string[]; readonly flags: readonly string[] };
    readonly mountExtensions: { readonly idmap: { readonly enabled: boolean } };
    readonly netDevices: { readonly enabled: boolean };
  };
  /** Annotations of a configuration that change what is done; prefixes end with a dot. */
  readonly potentiallyUnsafeConfigAnnotations: readonly string[];
  readonly annotations: { readonly [name: string]: string };
}

/** libseccomp may be too old for an architecture, and mixes no byte orders. */
function compiles(architecture: string): boolean {
  try {
    binding().seccompCompile(
      JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', architectures: [architecture] }),
    );
    return true;
  } catch {
    return false;
  }
}

/**
 * The features of this version on this machine's architecture; `linux.seccomp` is what its libseccomp compiles.
 * @throws {LibcontainerError} `ERR_PLATFORM`, `ERR_ADDON`
 */
export function features(): Features {
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.3.0',
    hooks: hookNames,
    mountOptions: mountOptionNames(),
    linux: {
      namespaces: [...namespaceTypes].sort(),
      capabilities: Object.keys(capabilities),
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: true, rdma: true },
      seccomp: {
        enabled: true,
        actions: [...seccompActions].sort(),
        operators: [...seccompOperators].sort(),
        archs: seccompArchitectures.filter(compiles).sort(),
        knownFlags: [...seccompFlags].sort(),
        supportedFlags: [...seccompFlags].sort(),
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: true, schemata: true, monitoring: true },
      memoryPolicy: {
        modes: Object.keys(memoryPolicyModes).sort(),
        flags: Object.keys(memoryPolicyFlags).sort(),
      },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    potentiallyUnsafeConfigAnnotations: ['org.systemd.property.'],
    annotations: { 'io.github.seccomp.libseccomp.version': binding().seccompVersion() },
  };
}
