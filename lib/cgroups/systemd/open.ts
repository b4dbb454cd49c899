/** The choice of the driver where systemd may be asked to make the cgroups. */
import type { Config } from '../../config/config.ts';
import { CgroupError } from '../../errors.ts';
import type { Binding } from '../../native/binding.ts';
import { hostLayout, inUserNamespace, type Layout } from '../layout.ts';
import type { CgroupManager } from '../manager.ts';
import { loadCgroups, newCgroups, ownerOf } from '../open.ts';
import { SystemdManager } from './manager.ts';

/**
 * The unit of a new container, with `systemdCgroup`. Nothing is made yet; a user's systemd is asked where its units lie.
 * @throws {CgroupError} ERR_CGROUP_LAYOUT, ERR_CGROUP (not `slice:prefix:name`), ERR_SYSTEMD
 */
export async function newSystemdCgroups(
  binding: Binding,
  id: string,
  config: Config,
  host: Layout = hostLayout(),
): Promise<CgroupManager> {
  const { systemdOf, unitOf } = await import('./driver.ts');
  const user = isUser(config);
  if (user && host.kind !== 'v2')
    throw new CgroupError(
      'ERR_UNSUPPORTED',
      { file: '--systemd-cgroup' },
      {
        detail: '--systemd-cgroup for an ordinary user on cgroup v1',
        hint: 'v1 cannot be delegated to a user: boot with systemd.unified_cgroup_hierarchy=1, or use no cgroups',
      },
    );
  const unit = unitOf(config.cgroupsPath, id, user);
  const path = user ? `${await systemdOf(true).controlGroup()}${unit.path}` : unit.path;
  // Only root can give it away.
  const owner = user ? undefined : ownerOf(config);
  const files = newCgroups(binding, id, { ...config, cgroupsPath: path }, host, owner);
  return new SystemdManager({ binding, files, user, config, unit });
}

/** Root in a user namespace is no root to the systemd of the system. */
const isUser = (config: Pick<Config, 'rootlessEuid'>): boolean =>
  config.rootlessEuid === true || process.geteuid?.() !== 0 || inUserNamespace();

/** The cgroups of a recorded container. @throws as `loadCgroups` */
export function recordedCgroups(
  binding: Binding,
  record: {
    readonly cgroup_paths: { readonly [controller: string]: string };
    readonly config: Pick<Config, 'systemdCgroup' | 'annotations' | 'rootlessEuid'>;
  },
): CgroupManager {
  const files = loadCgroups(binding, record.cgroup_paths);
  if (!record.config.systemdCgroup) return files;
  return new SystemdManager({ binding, files, user: isUser(record.config), config: record.config });
}
