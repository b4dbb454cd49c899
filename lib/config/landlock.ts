/**
 * Landlock for a container's processes, landlock(7): not in the specification, so asked for by annotations, or by an
 * option of loadConfig(). Each is a list of absolute paths in the container, in an annotation separated by colons.
 */
import { posix } from 'node:path';
import { ConfigError, type ConfigIssue } from '../errors.ts';

/** What the processes may do below these paths; everything else that concerns files is denied to them. */
export interface Landlock {
  /** Read files, list directories. */
  readonly read: readonly string[];
  /** Write, truncate, make, remove and rename. Not read. */
  readonly write: readonly string[];
  /** Execute and read. */
  readonly execute: readonly string[];
}

const prefix = 'org.libcontainer.landlock.';
const rights = ['read', 'write', 'execute'] as const;

/** Paths below `base`, as an issue names them. */
function* issues(lists: Partial<Landlock>, path: (right: string) => string): Generator<ConfigIssue> {
  for (const right of rights)
    for (const entry of lists[right] ?? []) {
      if (posix.isAbsolute(entry) && !entry.includes('\0')) continue;
      yield { path: path(right), message: `${JSON.stringify(entry)} is not an absolute path` };
    }
}

/**
 * @param option Counts instead of the annotations.
 * @throws {ConfigError} ERR_SPEC_INVALID
 */
export function landlockOf(
  annotations: { readonly [name: string]: string },
  option: Partial<Landlock> | undefined,
): Landlock | undefined {
  const given = Object.keys(annotations).filter(name => name.startsWith(prefix));
  if (option === undefined && given.length === 0) return undefined;
  const found: ConfigIssue[] = given
    .filter(name => !rights.some(right => name === prefix + right))
    .map(name => ({ path: `annotations[${JSON.stringify(name)}]`, message: `one of ${rights.join(', ')}` }));
  const list = (right: (typeof rights)[number]): readonly string[] => {
    const text = annotations[prefix + right] ?? '';
    return option === undefined ? (text === '' ? [] : text.split(':')) : (option[right] ?? []);
  };
  const lists: Landlock = { read: list('read'), write: list('write'), execute: list('execute') };
  const where = (right: string): string =>
    option === undefined ? `annotations["${prefix}${right}"]` : `landlock.${right}`;
  found.push(...issues(lists, where));
  if (found.length > 0) throw new ConfigError('ERR_SPEC_INVALID', { issues: found });
  return lists;
}
