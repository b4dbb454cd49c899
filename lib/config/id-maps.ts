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

/** Who the container's root is outside; undefined: nobody that we know. */
export function hostRoot(config: Config): { readonly uid: number; readonly gid: number } | undefined {
  const uid = hostId(config.uidMappings, 0);
  const gid = hostId(config.gidMappings, 0);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

/** True for mappings that the kernel takes from whoever made the namespace: one id, its own. */
export const isOwnIdOnly = (mappings: readonly IdMapping[], own: number): boolean =>
  mappings.length === 1 && mappings[0]?.size === 1 && mappings[0].hostID === own;
