/**
 * The maps of a user namespace that is joined by path: of the namespace itself, whatever the configuration says of them.
 * user_namespaces(7): who reads uid_map from outside sees the ids of its own namespace.
 */
import { readFile } from 'node:fs/promises';
import type { Config, IdMapping } from '../config/config.ts';
import { isPlaceholder, isSameMap, parseMap } from '../config/id-maps.ts';
import { joinedIssues } from '../config/user-namespace.ts';
import { ConfigError, LibcontainerError, SyscallError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { namespaceFlags } from '../plan/numbers.ts';
import { runPlan } from './short-plan.ts';

interface Maps {
  readonly uid: readonly IdMapping[];
  readonly gid: readonly IdMapping[];
}

async function mapsOf(pid: number | string): Promise<Maps> {
  const read = async (file: string) => parseMap(await readFile(`/proc/${pid}/${file}`, 'utf8'));
  return { uid: await read('uid_map'), gid: await read('gid_map') };
}

/** Nothing but a process in it tells the maps of a namespace: init joins it, waits until they are read, and ends. */
async function mapsByMember(binding: Binding, path: string): Promise<Maps> {
  let maps: Maps | undefined;
  await runPlan(
    binding,
    {
      cloneFlags: 0,
      steps: [
        { kind: 'setns', type: namespaceFlags.user, path },
        { kind: 'sync', name: 'idMaps' },
        { kind: 'finish' },
      ],
    },
    [],
    {
      onSync: async pid => {
        maps = await mapsOf(pid);
      },
    },
  );
  return maps ?? { uid: [], gid: [] };
}

async function readMaps(binding: Binding, path: string): Promise<Maps> {
  const pid = /^\/proc\/(\d+)\/ns\/user$/.exec(path)?.[1];
  try {
    return await (pid === undefined ? mapsByMember(binding, path) : mapsOf(pid));
  } catch (cause) {
    // NS_GET_NSTYPE: of a bind mount the path does not tell (config/host-checks.ts).
    if (cause instanceof SyscallError && cause.syscall === 'ioctl')
      throw new ConfigError('ERR_NAMESPACE_KIND', {
        issues: [{ path: 'linux.namespaces (user).path', message: `${path} is no user namespace` }],
        cause,
      });
    throw new LibcontainerError('ERR_ID_MAP', {
      message: `the id maps of the user namespace ${path} cannot be read`,
      hint: 'the path must name a user namespace that the caller may join, and is not in already (setns(2))',
      cause,
    });
  }
}

const pathOf = ({ namespaces }: Config): string | undefined =>
  namespaces.find(({ type }) => type === 'user')?.path;

export const joinsUserNamespace = (config: Config): boolean => pathOf(config) !== undefined;

/**
 * The same configuration with the maps of the user namespace that it joins; as it is when it joins none. Maps that it has
 * itself must be those, as in runc; that Podman gives a placeholder (root is root, one id) is no difference.
 * @throws {LibcontainerError} ERR_ID_MAP
 * @throws {ConfigError} ERR_SPEC_INVALID: other maps, or ids that are not mapped
 */
export async function withJoinedIds(binding: Binding, config: Config): Promise<Config> {
  const path = pathOf(config);
  if (path === undefined) return config;
  const { uid, gid } = await readMaps(binding, path);
  const { uidMappings = [], gidMappings = [] } = config;
  const isGiven = uidMappings.length > 0 && !(isPlaceholder(uidMappings) && isPlaceholder(gidMappings));
  if (isGiven && !(isSameMap(uidMappings, uid) && isSameMap(gidMappings, gid))) {
    const message =
      'user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one';
    throw new ConfigError('ERR_SPEC_INVALID', { issues: [{ path: 'linux.uidMappings', message }] });
  }
  const joined = Object.freeze({ ...config, uidMappings: uid, gidMappings: gid });
  const issues = [...joinedIssues(joined)];
  if (issues.length > 0) throw new ConfigError('ERR_SPEC_INVALID', { issues });
  return joined;
}
