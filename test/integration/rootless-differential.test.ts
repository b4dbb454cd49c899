/** The same bundle under runc (Debian's 1.1.5) and under nrunc, both as one ordinary user, seen from inside by /bin/probe. */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  rootfs,
  type SpecDocument,
} from '../harness/bundle.ts';
import type { Permitted } from '../harness/inside.ts';
import { command, type Runtime } from '../harness/runtimes.ts';
import { type TestContext, test } from '../harness/test.ts';
import { compare, permitted, probe } from './differential-compare.ts';
import './warm.ts';

const requires = ['not-root', 'userns', 'runc', 'probe'] as const;

/** What differs for an ordinary user only. */
const rows: readonly Permitted[] = [
  {
    fact: /^stdio$/,
    theirs: /"type":"p"/,
    map: theirs =>
      theirs
        .replace(/^\[\{[^}]*\}/, '[{"type":"c","uid":65534,"gid":65534,"tty":false}')
        .replaceAll('"p"', '"s"'),
    why: "as for root; the null device is the host's root's, who is nobody in the container",
  },
  {
    fact: /^mounts \/sys\/fs\/cgroup\//,
    theirs: / cgroup (cgroup|systemd) [^"]*"\]$/,
    map: theirs => {
      const list: string[] = JSON.parse(theirs);
      // The last is runc's; what is below, the host's, was bound.
      return list.length === 1 ? '(absent)' : JSON.stringify(list.slice(0, -1));
    },
    why: 'without a delegated cgroup the container has none; runc shows those of its caller',
  },
  {
    fact: /^mounts \/sys\/fs\/cgroup$/,
    map: theirs => theirs.replace(/rw( private tmpfs tmpfs gid=65534)/, 'ro$1'),
    why: 'the tmpfs of a read-only cgroup mount is read-only as a whole',
  },
  {
    fact: /^mounts /,
    map: theirs =>
      theirs.replace(/ gid=65534,ro,uid=65534"\]$/, ' gid=65534,nr_inodes=1,ro,size=4k,uid=65534"]'),
    why: 'the empty directory over a masked one can hold nothing',
  },
  ...permitted,
];

interface Case {
  readonly name: string;
  readonly patch: (spec: SpecDocument, directory: string) => void;
  readonly flags?: readonly string[];
}

const cases: readonly Case[] = [
  { name: 'the default configuration', patch: () => undefined },
  {
    name: 'umask, limits, capabilities, oom_score_adj, environment, working directory',
    patch: spec => {
      const names = ['CAP_CHOWN', 'CAP_KILL', 'CAP_SYS_ADMIN'];
      Object.assign(spec.process, {
        user: { uid: 0, gid: 0, umask: 0o27 },
        cwd: '/home/app',
        noNewPrivileges: false,
        oomScoreAdj: 456,
        env: ['PATH=/bin', 'A=1', 'B=2', 'A=3'],
        capabilities: { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] },
        rlimits: [
          { type: 'RLIMIT_NOFILE', soft: 100, hard: 200 },
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
        ],
      });
    },
  },
  {
    name: 'mounts',
    patch: (spec, directory) => {
      mkdirSync(join(directory, 'source/inner'), { recursive: true });
      writeFileSync(join(directory, 'file'), 'x');
      const source = join(directory, 'source');
      spec.mounts.push(
        { destination: '/mnt', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'size=1m', 'mode=700'] },
        { destination: '/mnt/bound', type: 'bind', source, options: ['rbind', 'ro', 'nosuid', 'noexec'] },
        { destination: '/mnt/private', source, type: 'none', options: ['bind', 'rprivate', 'nodev'] },
        { destination: '/mnt/slave', type: 'bind', source, options: ['rbind', 'rslave'] },
        { destination: '/mnt/file', type: 'bind', source: join(directory, 'file'), options: ['bind', 'ro'] },
      );
    },
  },
  {
    name: 'namespaces of the host: network, ipc, uts',
    patch: spec => {
      delete spec.hostname;
      spec.linux.namespaces = spec.linux.namespaces.filter(
        ({ type }) => !['network', 'ipc', 'uts'].includes(type),
      );
      // As `runc spec --rootless` has it: sysfs belongs to the owner of the network namespace.
      spec.mounts = spec.mounts
        .filter(({ type }) => type !== 'cgroup' && type !== 'mqueue')
        .map(mount =>
          mount.type === 'sysfs'
            ? {
                destination: '/sys',
                type: 'none',
                source: '/sys',
                options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'],
              }
            : mount,
        );
    },
  },
];

for (const { name, patch, flags = [] } of cases)
  test(`differential, as an ordinary user: ${name}`, { requires, timeoutMs: 60_000 }, t => {
    const directory = makeDirectory(t);
    const bundle = makeBundle(t, {
      process: { args: probe },
      patch: spec => {
        patch(spec, directory);
        return undefined;
      },
    });
    compare(t, { bundle, flags }, rows);
  });

/** `spec --rootless` in a new bundle; only the rootfs and the command are ours. */
function rootlessBundle(t: TestContext, runtime: Runtime): string {
  const bundle = makeDirectory(t);
  const made = command(runtime, ['spec', '--rootless', '--bundle', bundle]);
  assert.equal(made.status, 0, made.stderr);
  const file = join(bundle, 'config.json');
  const spec = JSON.parse(readFileSync(file, 'utf8'));
  Object.assign(spec.process, { terminal: false, args: probe });
  spec.root.path = rootfs;
  writeFileSync(file, JSON.stringify(spec));
  return bundle;
}

for (const source of ['runc', 'nrunc'] as const)
  test(`differential, as an ordinary user: ${source} spec --rootless`, { requires, timeoutMs: 60_000 }, t => {
    compare(t, { bundle: rootlessBundle(t, source) }, rows);
  });

test('differential, as an ordinary user: status, words and the state of a life', {
  requires,
  timeoutMs: 60_000,
}, t => {
  const nowhere = openSync('/dev/null', 'w');
  t.after(() => closeSync(nowhere));
  const seen = (['runc', 'nrunc'] as const).map(runtime => {
    const root = makeStateRoot(t);
    const id = containerId('life');
    const go = (...words: string[]) => {
      // What is detached keeps what it inherits open.
      const output = words.includes('--detach') ? nowhere : undefined;
      const { status, stdout, stderr } = command(runtime, ['--root', root, ...words], output);
      return { status, stdout, error: /level=error msg=(.*)/.exec(stderr)?.[1] ?? '' };
    };
    const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } });
    const absent = makeBundle(t, { process: { args: ['/bin/not-there'] } });
    try {
      const results = [
        go('run', '--bundle', makeBundle(t, { process: { args: ['/bin/sh', '-c', 'exit 7'] } }), `${id}x`)
          .status,
        go('run', '--bundle', absent, `${id}y`).status,
        go('run', '--detach', '--bundle', bundle, id).status,
        JSON.parse(go('state', id).stdout).status,
        go('exec', id, '/bin/sh', '-c', 'id -u; exit 5'),
        go('exec', id, '/bin/not-there').status,
        go('kill', id, 'KILL').status,
      ];
      return results;
    } finally {
      go('delete', '--force', id);
    }
  });
  assert.deepEqual(seen[1], seen[0]);
});
