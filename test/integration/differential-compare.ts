/** A bundle under runc and under nrunc, and the differences that are meant, each with its reason. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { containerId, makeStateRoot } from '../harness/bundle.ts';
import { differences, type Facts, type Permitted, parseProbe } from '../harness/inside.ts';
import { missing } from '../harness/requirements.ts';
import { command, inTerminal, type Outcome, type Runtime } from '../harness/runtimes.ts';
import type { TestContext } from '../harness/test.ts';

/** Cgroups that this process is in on v1, longest first; runc 1.1 puts a container without cgroupsPath below them. */
const ownCgroups = readFileSync('/proc/self/cgroup', 'utf8')
  .split('\n')
  .map(line => line.split(':').slice(2).join(':'))
  .filter(path => path.length > 1)
  .sort((a, b) => b.length - a.length);

export const permitted: readonly Permitted[] = [
  {
    fact: /^(cgroup \S|mounts \/sys\/fs\/cgroup\/|cgroupFile )/,
    map: theirs => ownCgroups.reduce((path, own) => path.replace(`${own}/`, '/'), theirs),
    why: 'without cgroupsPath ours is /<id> in every hierarchy, not below the cgroup that the caller happens to be in',
  },
  {
    fact: /^(fds [012]|stdio)$/,
    theirs: /^pipe$|"type":"p"/,
    // What command() gives: /dev/null and sockets. The null device stays root's.
    map: theirs =>
      theirs === 'pipe'
        ? 'socket'
        : theirs
            .replace(/^\[\{[^}]*\}/, '[{"type":"c","uid":0,"gid":0,"tty":false}')
            .replaceAll('"p"', '"s"'),
    why: 'without a terminal nrunc gives its own descriptors to the container; runc copies through pipes of its own',
  },
  {
    fact: /^fds 0$/,
    theirs: /^pipe$/,
    ours: /^\/dev\/null$/,
    why: "as above, and it is the container's own null device",
  },
  {
    fact: /^cgroup unified$/,
    ours: /^\/$/,
    why: 'on a hybrid host the unified hierarchy has none of the controllers; it is joined when a limit asks for one of its own',
  },
  {
    fact: /^mounts /,
    theirs: / tmpfs tmpfs ro"\]$/,
    map: theirs => theirs.replace(/ ro"\]$/, ' nr_inodes=1,ro,size=4k"]'),
    why: 'the empty directory over a masked one can hold nothing, even if a remount made it writable',
  },
  {
    fact: /^mounts \/sys\/fs\/cgroup$/,
    theirs: /^\["\/ nodev,noexec,nosuid,relatime,rw/,
    ours: /^\["\/ nodev,noexec,nosuid,relatime,ro/,
    why: 'the tmpfs of a read-only cgroup mount is read-only as a whole, not only the hierarchies in it',
  },
];

export interface Run {
  readonly bundle: string;
  readonly id: string;
  readonly root: string;
  readonly flags?: readonly string[];
  readonly terminal?: boolean;
}

export function run(runtime: Runtime, { bundle, id, root, flags = [], terminal = false }: Run): Outcome {
  const args = ['--root', root, 'run', '--bundle', bundle, ...flags, id];
  const outcome = terminal ? inTerminal(runtime, args) : command(runtime, args);
  if (outcome.status !== 0) {
    const forced = command(runtime, ['--root', root, 'delete', '--force', id]);
    assert.equal(outcome.status, 0, `${runtime}: ${outcome.stdout}${outcome.stderr}${forced.stderr}`);
  }
  return outcome;
}

export const probe = ['/bin/probe', 'json'];
/** Also the files in which limits show, whatever the layout. */
export const withCgroupFiles = [
  '/bin/sh',
  '-c',
  `find /sys/fs/cgroup -type f | grep -E '/(memory.limit_in_bytes|memory.soft_limit_in_bytes|memory.memsw.limit_in_bytes|memory.swappiness|cpu.shares|cpu.cfs_quota_us|cpu.cfs_period_us|cpuset.cpus|cpuset.mems|pids.max|devices.list|memory.max|memory.low|memory.swap.max|cpu.max|cpu.weight)$' | sort |
while read -r file; do echo "$file $(sort "$file" | tr '\\n' ';')"; done
exec /bin/probe json`,
];

export function compare(
  t: TestContext,
  both: Omit<Run, 'root' | 'id'>,
  rows = permitted,
): { theirs: Facts; ours: Facts } {
  const id = containerId('diff');
  const theirs = parseProbe(run('runc', { ...both, id, root: makeStateRoot(t) }).stdout);
  const ours = parseProbe(run('nrunc', { ...both, id, root: makeStateRoot(t) }).stdout);
  assert.ok(theirs.size > 50, 'the probe saw next to nothing');
  if (
    JSON.parse(readFileSync(join(both.bundle, 'config.json'), 'utf8')).process.args[2]?.startsWith('find ') &&
    missing('controller:pids') === undefined
  )
    assert.ok(
      [...theirs.keys()].filter(fact => fact.startsWith('cgroupFile ')).length > 5,
      'no cgroup files were read',
    );
  assert.deepEqual(differences(theirs, ours, rows), []);
  return { theirs, ours };
}
