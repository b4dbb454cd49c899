/** What /bin/probe saw inside a container, without what differs from run to run: two runtimes' views are then compared. */
import { readlinkSync } from 'node:fs';

export type Seen = null | string | number | boolean | readonly Seen[] | { readonly [name: string]: Seen };
export type Facts = Map<string, string>;

interface Probe {
  readonly [section: string]: Seen;
}

const isRecord = (value: unknown): value is { readonly [name: string]: Seen } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Output of `probe json`, and rows `path value` of cgroup files before it. */
export function parseProbe(raw: string): Facts {
  // A terminal may echo what stood in its input, between any two rows: script(1) sends an end of file.
  const output = raw.replaceAll('^@', '').replaceAll('^D\b\b', '').replaceAll('^D', '');
  const start = output.indexOf('{"');
  const [first = ''] = output.slice(start).split(/\r*\n/);
  const document: unknown = JSON.parse(first);
  if (!isRecord(document)) throw new Error(`no object: ${first}`);
  const facts: Facts = new Map();
  for (const [name, value] of Object.entries(normalise(document))) flatten(name, value, facts);
  for (const row of output.slice(0, start).split(/\r*\n/)) {
    const [, path, value] = /^(\/sys\/fs\/cgroup\S*) (.*)$/.exec(row) ?? [];
    if (path !== undefined) facts.set(`cgroupFile ${path}`, value ?? '');
  }
  return facts;
}

function normalise(probe: Probe): { [name: string]: Seen } {
  const { pid: _, mountinfo, namespaces, fds, cgroup, env, ...rest } = probe;
  return {
    ...rest,
    // Its order has no meaning.
    env: strings(env).sort(),
    // Hierarchy numbers are the host's.
    cgroup: Object.fromEntries(
      strings(cgroup).map(line => {
        const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
        return [controllers || 'unified', path];
      }),
    ),
    mounts: mountsOf(strings(mountinfo)),
    namespaces: namespacesOf(namespaces),
    fds: isRecord(fds)
      ? Object.fromEntries(Object.entries(fds).map(([n, target]) => [n, kindOf(String(target))]))
      : null,
  };
}

const strings = (value: Seen | undefined): string[] => (Array.isArray(value) ? value.map(String) : []);

/** pipe:[1] → pipe: what it is, not which. */
const kindOf = (target: string): string =>
  target.replace(/:\[\d+\]$/, '').replace(/^\/dev\/pts\/\d+$/, '/dev/pts/N');

/** `host` or `own`: numbers differ. */
function namespacesOf(value: Seen | undefined): Seen {
  if (!isRecord(value)) return null;
  return Object.fromEntries(
    Object.entries(value).map(([name, link]) => [
      name,
      link === readlinkSync(`/proc/self/ns/${name}`) ? 'host' : 'own',
    ]),
  );
}

/**
 * proc_pid_mountinfo(5) rows by mount point: root, options, propagation, type, source, options of the superblock;
 * several on one point are in their order. Ids, device numbers and peer groups differ from run to run.
 */
function mountsOf(lines: readonly string[]): { [point: string]: Seen } {
  const byPoint: { [point: string]: string[] } = {};
  for (const line of lines) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , root = '', point = '', options = '', ...tags] = before.split(' ');
    const [type = '', source = '', superOptions = ''] = after.split(' ');
    const propagation = tags.map(tag => tag.replace(/:\d+$/, '')).join(',') || 'private';
    const sorted = (list: string) => list.split(',').sort().join(',');
    const row = [root, sorted(options), propagation, type, source, sorted(superOptions)].join(' ');
    byPoint[point] = [...(byPoint[point] ?? []), row];
  }
  return byPoint;
}

function flatten(name: string, value: Seen, into: Facts): void {
  if (isRecord(value)) {
    for (const [part, inner] of Object.entries(value)) flatten(`${name} ${part}`, inner, into);
  } else {
    into.set(name, typeof value === 'string' ? value : JSON.stringify(value));
  }
}

/** A difference that is meant: which facts, and why. */
export interface Permitted {
  readonly fact: RegExp;
  readonly theirs?: RegExp;
  readonly ours?: RegExp;
  /** What theirs would be without the difference. */
  readonly map?: (theirs: string) => string;
  readonly why: string;
}

/** `fact: theirs → ours` for every difference that no row permits. */
export function differences(theirs: Facts, ours: Facts, permitted: readonly Permitted[]): string[] {
  const found: string[] = [];
  for (const fact of new Set([...theirs.keys(), ...ours.keys()])) {
    const [a, b] = [theirs.get(fact) ?? '(absent)', ours.get(fact) ?? '(absent)'];
    if (a === b) continue;
    const row = permitted.find(
      ({ fact: pattern, theirs: before, ours: now, map }) =>
        pattern.test(fact) &&
        (before?.test(a) ?? true) &&
        (now?.test(b) ?? true) &&
        (map === undefined || map(a) === b),
    );
    if (row === undefined) found.push(`${fact}: ${a} → ${b}`);
  }
  return found;
}
