/** Ids inside and outside of a container's user namespace. user_namespaces(7), "User and group ID mappings". */
import type { Config, IdMapping } from './config.ts';

/** What is outside for an id inside; undefined: not mapped. Without a user namespace ids are the host's. */
export function hostId(mappings: readonly IdMapping[] | undefined, id: number): number | undefined {
  if (mappings === undefined) return id;
  const row = mappings.find(({ containerID, size }) => id >= containerID && id < containerID + size);
  return row === undefined ? undefined : row.hostID + (id - row.containerID);
}

/** The text of uid_map or gid_map. */
export const mapText = (mappings: readonly IdMapping[]): string =>
  mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('');

/** The rows of uid_map or gid_map. */
export const parseMap = (text: string): IdMapping[] =>
  text
    .split('\n')
    .map(line => line.trim().split(/\s+/).map(Number))
    .flatMap(([containerID, hostID, size]) =>
      containerID === undefined || hostID === undefined || size === undefined
        ? []
        : [{ containerID, hostID, size }],
    );

/** A map may be read back in another order when it is long (user_namespaces(7)). */
export function isSameMap(one: readonly IdMapping[], other: readonly IdMapping[]): boolean {
  const sorted = (rows: readonly IdMapping[]) => mapText(rows).split('\n').sort().join('\n');
  return sorted(one) === sorted(other);
}

/** What Podman writes beside the path of a user namespace, since runc before 1.2 wanted some maps. */
export const isPlaceholder = (mappings: readonly IdMapping[]): boolean =>
  isSameMap(mappings, [{ containerID: 0, hostID: 0, size: 1 }]);

/** Who the container's root is outside; undefined: nobody that we know. */
export function hostRoot(config: Config): { readonly uid: number; readonly gid: number } | undefined {
  const uid = hostId(config.uidMappings, 0);
  const gid = hostId(config.gidMappings, 0);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

/** True for mappings that the kernel takes from whoever made the namespace: one id, its own. */
export const isOwnIdOnly = (mappings: readonly IdMapping[], own: number): boolean =>
  mappings.length === 1 && mappings[0]?.size === 1 && mappings[0].hostID === own;
