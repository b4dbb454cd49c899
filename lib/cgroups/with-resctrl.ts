/** The cgroups of a container that is in a resctrl group too: what is made, joined and removed with them. */
import type { Resources } from '../config/config.ts';
import type { FileOperation } from '../native/binding.ts';
import type { CgroupManager, CgroupStart, ResctrlControl } from './manager.ts';
import type { ResctrlGroup } from './resctrl.ts';

/** Loads nothing and costs nothing for containers without linux.intelRdt: they keep their own manager. */
export function withResctrl(inner: CgroupManager, group: ResctrlGroup): CgroupManager {
  const own: Partial<CgroupManager> & { readonly resctrl: ResctrlControl } = {
    resctrl: group,
    async prepareStart(resources: Resources): Promise<CgroupStart> {
      const more = group.prepareStart();
      const start = await inner.prepareStart(resources);
      const before = start.operations.length;
      return {
        ...start,
        operations: [...start.operations, ...more.operations],
        joinFiles: [...start.joinFiles, ...more.joinFiles],
        failure: (index, cause) =>
          index < before ? start.failure(index, cause) : more.failure(index - before, cause),
      };
    },
    async prepareExec(subPaths, options): Promise<CgroupStart> {
      const start = await inner.prepareExec(subPaths, options);
      // Who is cloned by this process does not inherit the container's class.
      return { ...start, joinFiles: [...start.joinFiles, ...group.joinFiles] };
    },
    get removal(): readonly FileOperation[] | undefined {
      return inner.removal === undefined ? undefined : [...inner.removal, ...group.removal];
    },
    async destroy(options): Promise<void> {
      await inner.destroy(options);
      await group.destroy();
    },
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
