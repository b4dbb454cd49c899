/** The rules for user namespaces, with runc's words where it has the rule. user_namespaces(7). */
import { readFileSync } from 'node:fs';
import type { ConfigIssue } from '../errors.ts';
import type { Config, IdMapping } from './config.ts';
import { hostId } from './id-maps.ts';
import { idmapOption } from './mount-options.ts';
import type { Spec } from './spec.ts';

/** What the kernel takes in one write: UID_GID_MAP_MAX_EXTENTS. */
const mostRows = 340;
/** (uid_t) -1 is no id. */
const pastIds = 0xffff_ffff;

export function* userNamespaceIssues(spec: Spec): Generator<ConfigIssue> {
  const { linux = {}, process } = spec;
  const namespaces = linux.namespaces ?? [];
  const index = namespaces.findIndex(({ type }) => type === 'user');
  const { uidMappings = [], gidMappings = [] } = linux;
  if (index < 0) {
    if (uidMappings.length + gidMappings.length === 0) return;
    const path = uidMappings.length > 0 ? 'linux.uidMappings' : 'linux.gidMappings';
    yield {
      path,
      message: "user namespace mappings specified, but user namespace isn't enabled in the config",
    };
    return;
  }
  const joined = (namespaces[index]?.path ?? '') !== '';
  const kinds = [
    ['uid', uidMappings],
    ['gid', gidMappings],
  ] as const;
  for (const [kind, mappings] of kinds) {
    const path = `linux.${kind}Mappings`;
    if (mappings.length === 0) {
      if (!joined) yield { path, message: `user namespaces enabled, but no ${kind} mappings found` };
      continue;
    }
    yield* rowIssues(path, mappings);
    // Init is root there until it takes the process's user.
    if (!joined && hostId(mappings, 0) === undefined)
      yield { path, message: 'no row maps id 0 of the container' };
  }
  // What a namespace that is there maps is asked of itself, when the container is made.
  if (joined || uidMappings.length === 0 || gidMappings.length === 0) return;
  yield* userIssues(process?.user ?? {}, uidMappings, gidMappings);
}

interface User {
  readonly uid?: number;
  readonly gid?: number;
  readonly additionalGids?: readonly number[];
}

function* userIssues(
  { uid = 0, gid = 0, additionalGids = [] }: User,
  uids: readonly IdMapping[],
  gids: readonly IdMapping[],
): Generator<ConfigIssue> {
  yield* unmapped('process.user.uid', uids, uid);
  yield* unmapped('process.user.gid', gids, gid);
  for (const [at, id] of additionalGids.entries())
    yield* unmapped(`process.user.additionalGids[${at}]`, gids, id);
}

/** The same for a user namespace that is joined by path, with its maps in `config`. */
export function* joinedIssues(config: Config): Generator<ConfigIssue> {
  const { uidMappings = [], gidMappings = [] } = config;
  for (const [kind, mappings] of [
    ['uid', uidMappings],
    ['gid', gidMappings],
  ] as const)
    if (hostId(mappings, 0) === undefined)
      yield {
        path: 'linux.namespaces (user).path',
        message: `no row of its ${kind}_map maps id 0 of the container`,
      };
  yield* userIssues(config.process?.user ?? {}, uidMappings, gidMappings);
  if (config.rootlessEuid !== true) return;
  for (const [index, { data }] of config.mounts.entries())
    yield* ownerOptionIssues(`mounts[${index}]`, data.split(','), uidMappings, gidMappings);
}

/** What a caller without privileges cannot have: runc's rootless validator. */
export function* rootlessIssues({ linux = {}, mounts = [] }: Spec): Generator<ConfigIssue> {
  const namespaces = linux.namespaces ?? [];
  if (!namespaces.some(({ type }) => type === 'user'))
    yield { path: 'linux.namespaces', message: 'rootless container requires user namespaces' };
  // Its maps are read when the container is made.
  const joined = namespaces.some(({ type, path = '' }) => type === 'user' && path !== '');
  const { uidMappings = [], gidMappings = [] } = linux;
  for (const [index, { options = [], ...maps }] of mounts.entries()) {
    // mount_setattr(2), MOUNT_ATTR_IDMAP: CAP_SYS_ADMIN over the file system.
    const mapped = (maps.uidMappings ?? maps.gidMappings ?? []).length > 0;
    if (mapped || idmapOption(options) !== undefined) {
      const message = 'id-mapped mounts are not supported for rootless containers';
      yield { path: `mounts[${index}]`, message };
    }
    if (!joined) yield* ownerOptionIssues(`mounts[${index}].options`, options, uidMappings, gidMappings);
  }
}

function* ownerOptionIssues(
  path: string,
  options: readonly string[],
  uids: readonly IdMapping[],
  gids: readonly IdMapping[],
): Generator<ConfigIssue> {
  for (const option of options) {
    const [, kind, id = ''] = /^(uid|gid)=(\d+)$/.exec(option) ?? [];
    if (kind === undefined || hostId(kind === 'uid' ? uids : gids, Number(id)) !== undefined) continue;
    const message = `cannot specify ${kind}= mount options for unmapped ${kind} in rootless containers`;
    yield { path, message };
  }
}

let nested: boolean | undefined;

/** Whether this process lives in a user namespace, where its root is not the host's (user_namespaces(7)). */
export function inUserNamespace(): boolean {
  nested ??= !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  return nested;
}

function* unmapped(path: string, mappings: readonly IdMapping[], id: number): Generator<ConfigIssue> {
  if (hostId(mappings, id) === undefined)
    yield { path, message: `id ${id} is not mapped in the user namespace` };
}

function* rowIssues(path: string, mappings: readonly IdMapping[]): Generator<ConfigIssue> {
  if (mappings.length > mostRows) yield { path, message: `more than ${mostRows} rows` };
  for (const [at, row] of mappings.entries()) {
    const row_ = `${path}[${at}]`;
    if (row.size === 0) yield { path: `${row_}.size`, message: 'must be greater than 0' };
    for (const key of ['containerID', 'hostID'] as const) {
      const end = row[key] + row.size;
      if (end > pastIds) yield { path: row_, message: `${key} + size is beyond the last id` };
      // The kernel says EINVAL for the whole write.
      const other = mappings.findIndex(
        (before, position) => position < at && before[key] < end && row[key] < before[key] + before.size,
      );
      if (other >= 0) yield { path: row_, message: `overlaps with row ${other}: ${key}` };
    }
  }
}
