/**
 * Cgroups of a caller who may not make them everywhere (rootless, or root of a user namespace): what is delegated is used,
 * the rest is left out, and a limit that would need it is refused. runc's rules: cgroupfs "Rootless".
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Resources } from '../config/config.ts';
import { devicesNotEnforced } from './layout.ts';
import type { CgroupManager } from './manager.ts';

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The nearest directory above that exists is ours to make cgroups in. */
export function canMake(directory: string): boolean {
  let parent = dirname(directory);
  while (!existsSync(parent) && dirname(parent) !== parent) parent = dirname(parent);
  return isWritable(parent);
}

/** Also that a process may be moved there from our own cgroup (cgroup-v2.rst "Delegation Containment"). */
export const canMakeUnified = (directory: string): boolean =>
  canMake(directory) && isWritable(join(dirname(directory), 'cgroup.procs'));

/** Device rules need privileges that the caller has not: the container has the devices that are bound, and no mknod. */
export function withoutDeviceRules(inner: CgroupManager): CgroupManager {
  const own: Partial<CgroupManager> = {
    prepareStart: async ({ devices, ...resources }: Resources, options) => {
      const start = await inner.prepareStart(resources, options);
      if (devices === undefined) return start;
      return { ...start, warnings: [...(start.warnings ?? []), devicesNotEnforced] };
    },
    set: ({ devices: _, ...resources }, former, options) =>
      inner.set(resources, former, { ...options, skipDevices: true }),
  };
  return new Proxy(inner, {
    get(target, key) {
      if (Object.hasOwn(own, key)) return Reflect.get(own, key);
      // The managers have private members: their methods must be called on themselves.
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
