/** mounts of the specification: each option seen in the container's mountinfo; copies, nesting, sources of all kinds. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const requires = ['root'] as const;
const all = 'nosuid,nodev,noexec,noatime,nodiratime,nosymfollow';

/** Two tmpfs of the host, one in the other: `plain`, with every restriction, or shared. */
function source(t: TestContext, kind: 'plain' | 'flags' | 'shared'): string {
  const directory = makeDirectory(t);
  for (const part of ['.', 'below']) {
    const at = join(directory, part);
    mkdirSync(at, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', ...(kind === 'flags' ? ['-o', all] : []), 'none', at]);
    t.after(() => execFileSync('umount', [at]));
  }
  for (const at of [join(directory, 'below'), directory])
    if (kind === 'flags') execFileSync('mount', ['-o', 'remount,ro', at]);
  execFileSync('mount', [kind === 'shared' ? '--make-rshared' : '--make-rprivate', directory]);
  return directory;
}

interface Seen {
  readonly options: ReadonlySet<string>;
  readonly tags: string;
}
const mountsOf = (mountinfo: string): Map<string, Seen> =>
  new Map(
    mountinfo
      .split('\n')
      .filter(line => line.includes(' - '))
      .map(line => {
        const [before = '', after = ''] = line.split(' - ');
        const [, , , , point = '', options = '', ...tags] = before.split(' ');
        const superOptions = (after.split(' ')[2] ?? '').split(',');
        return [
          point,
          {
            options: new Set([...options.split(','), ...superOptions.filter(word => /sync|lazy/.test(word))]),
            tags: tags.join(','),
          },
        ];
      }),
  );

/** Words that must be there, and words that must not (`!`). */
type Row = readonly [options: readonly string[], words: readonly string[]];

/** A file system of its own. */
const fresh: readonly Row[] = [
  [['ro'], ['ro']],
  [
    ['ro', 'rw'],
    ['rw', '!ro'],
  ],
  [['nosuid'], ['nosuid', '!nodev']],
  [['nosuid', 'suid'], ['!nosuid']],
  [['nodev'], ['nodev']],
  [['nodev', 'dev'], ['!nodev']],
  [['noexec'], ['noexec']],
  [['noexec', 'exec'], ['!noexec']],
  [['sync'], ['sync']],
  [['sync', 'async'], ['!sync']],
  [['dirsync'], ['dirsync']],
  [['lazytime'], ['lazytime']],
  [['lazytime', 'nolazytime'], ['!lazytime']],
  [['noatime'], ['noatime', '!relatime']],
  [['noatime', 'atime'], ['!noatime']],
  [['nodiratime'], ['nodiratime']],
  [['nodiratime', 'diratime'], ['!nodiratime']],
  [['relatime'], ['relatime']],
  [['norelatime'], []],
  [['strictatime'], ['!relatime', '!noatime']],
  [['strictatime', 'nostrictatime'], ['relatime']],
  [['nosymfollow'], ['nosymfollow']],
  [['nosymfollow', 'symfollow'], ['!nosymfollow']],
  [['mand', 'nomand'], []],
  [['iversion'], []],
  [['iversion', 'noiversion'], []],
  [['silent', 'loud'], []],
  [['defaults'], ['rw']],
  [['private'], []],
  [['unbindable'], ['unbindable']],
  [['shared'], ['shared']],
];
/** Binds of a mount with every restriction: what an option takes away. */
const cleared: readonly Row[] = [
  [['bind', 'rw'], ['rw']],
  [['bind', 'suid'], ['!nosuid']],
  [['bind', 'dev'], ['!nodev']],
  [['bind', 'exec'], ['!noexec']],
  [['bind', 'atime'], ['!noatime']],
  [['bind', 'diratime'], ['!nodiratime']],
  [['bind', 'symfollow'], ['!nosymfollow']],
  [['bind'], all.split(',')],
];
/** Binds with the mount below: what holds for both. */
const recursive: readonly Row[] = [
  [['rbind', 'rro'], ['ro']],
  [
    ['rbind', 'rnosuid'],
    ['nosuid', 'rw'],
  ],
  [['rbind', 'rnodev'], ['nodev']],
  [['rbind', 'rnoexec'], ['noexec']],
  [['rbind', 'rnodiratime'], ['nodiratime']],
  [['rbind', 'rnosymfollow'], ['nosymfollow']],
  [['rbind', 'rnoatime'], ['noatime']],
  [['rbind', 'rnoatime', 'ratime'], ['!noatime']],
  [
    ['rbind', 'rnoatime', 'rrelatime'],
    ['relatime', '!noatime'],
  ],
  [
    ['rbind', 'rstrictatime'],
    ['!relatime', '!noatime'],
  ],
  [['rbind', 'rstrictatime', 'rnostrictatime'], ['relatime']],
  [['rbind', 'rnorelatime'], []],
  [['rbind', 'rprivate'], []],
  [['rbind', 'rshared'], ['shared']],
  [['rbind', 'runbindable'], ['unbindable']],
];
const recursivelyCleared: readonly Row[] = [
  [
    ['rbind', 'rrw'],
    ['rw', 'nosuid'],
  ],
  [
    ['rbind', 'rsuid'],
    ['!nosuid', 'ro'],
  ],
  [['rbind', 'rdev'], ['!nodev']],
  [['rbind', 'rexec'], ['!noexec']],
  [['rbind', 'rdiratime'], ['!nodiratime']],
  [['rbind', 'rsymfollow'], ['!nosymfollow']],
];
const slaves: readonly Row[] = [
  [
    ['rbind', 'rslave'],
    ['master', '!shared'],
  ],
  [
    ['bind', 'slave'],
    ['master', '!shared'],
  ],
];

function check(seen: Seen | undefined, row: Row, point: string): void {
  const [options, words] = row;
  assert.ok(seen, `${options.join(',')}: nothing is mounted on ${point}`);
  for (const word of words) {
    const name = word.replace('!', '');
    const there: boolean = seen.options.has(name) || new RegExp(`\\b${name}\\b`).test(seen.tags);
    const shown = [...seen.options, seen.tags].join(' ');
    assert.equal(there, !word.startsWith('!'), `${options.join(',')}: ${word} on ${point}: ${shown}`);
  }
}

for (const [name, rows, kind] of [
  ['of a new file system', fresh, undefined],
  ['that a bind mount takes away', cleared, 'flags'],
  ['of a tree', recursive, 'plain'],
  ['that are taken from a tree', recursivelyCleared, 'flags'],
  ['of a shared tree', slaves, 'shared'],
] as const)
  test(`mount options ${name}`, {
    // The others are binds of mounts that root has made.
    requires: kind === undefined ? ['rootless'] : requires,
    proves: [
      'mounts[].options',
      ...[...new Set(rows.flatMap(([options]) => options))].map(option => `mounts[].options[${option}]`),
    ],
    trap: [10, 11, 13],
  }, async t => {
    const from = kind === undefined ? undefined : source(t, kind);
    const on = await fixture(t, {
      writable: true,
      patch: spec => {
        for (const [index, [options]] of rows.entries())
          spec.mounts.push({
            destination: `/m${index}`,
            ...(from === undefined ? { type: 'tmpfs', source: 'tmpfs' } : { source: from }),
            options: [...options],
          } as never);
      },
    });
    const seen = mountsOf(await on.output('cat /proc/self/mountinfo'));
    for (const [index, row] of rows.entries()) {
      check(seen.get(`/m${index}`), row, `/m${index}`);
      if (row[0].includes('rbind')) check(seen.get(`/m${index}/below`), row, `/m${index}/below`);
      else assert.equal(seen.has(`/m${index}/below`), false);
    }
  });

test('mounts in order, on files and below each other, from links and by relative paths; remount; mqueue', {
  requires: ['rootless'],
  proves: [
    'mounts[].destination',
    'mounts[].source',
    'mounts[].type',
    'mounts[].options[remount]',
    'mounts[].options[bind]',
  ],
  trap: [9, 11],
}, async t => {
  const directory = makeDirectory(t);
  writeFileSync(join(directory, 'file'), 'of the host\n');
  symlinkSync('file', join(directory, 'link'));
  const on = await fixture(t, {
    writable: true,
    patch: spec => {
      const rows = [
        { destination: '/a', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/a/b/c', type: 'tmpfs', source: 'tmpfs', options: ['mode=0711'] },
        {
          destination: '/a/b/c/file',
          type: 'none',
          source: join(directory, 'link'),
          options: ['bind', 'ro'],
        },
        { destination: 'relative/place', type: 'bind', source: 'beside' },
        { destination: '/again', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/again', type: 'tmpfs', source: 'tmpfs', options: ['remount', 'ro'] },
      ];
      spec.mounts.push(...(rows as never[]));
    },
  });
  mkdirSync(join(on.bundle, 'beside'));
  writeFileSync(join(on.bundle, 'beside', 'mark'), '');
  const look =
    'cat /a/b/c/file; ls /relative/place; stat -c %a /a/b/c; touch /again/x 2>&1; touch /a/b/c/file 2>&1;' +
    'awk \'$5 == "/dev/mqueue" { print $9 }\' /proc/self/mountinfo';
  assert.deepEqual((await on.output(look)).trim().split('\n'), [
    'of the host',
    'mark',
    '711',
    'touch: /again/x: Read-only file system',
    'touch: /a/b/c/file: Read-only file system',
    'mqueue',
  ]);
  // The mount point of a file is a file; nothing was written through.
  assert.equal(readFileSync(join(directory, 'file'), 'utf8'), 'of the host\n');
  assert.ok(lstatSync(join(on.bundle, 'rootfs/a')).isDirectory());
});

test('tmpcopyup: content, owners and odd modes, one in the other; tmpfs keeps the mode of its mount point', {
  requires,
  proves: ['mounts[].options[tmpcopyup]'],
  trap: 12,
}, async t => {
  const able = ['CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH'];
  const on = await fixture(t, {
    writable: true,
    process: { capabilities: { bounding: able, permitted: able, effective: able } },
    patch: (spec: SpecDocument) => {
      const copied = { type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup'] };
      const rows = [
        { ...copied, destination: '/data' },
        { ...copied, destination: '/data/sub' },
        { destination: '/kept', type: 'tmpfs', source: 'tmpfs' },
      ];
      spec.mounts.push(...(rows as never[]));
    },
  });
  const root = join(on.bundle, 'rootfs');
  mkdirSync(join(root, 'data/sub/deep'), { recursive: true });
  mkdirSync(join(root, 'kept'));
  chmodSync(join(root, 'kept'), 0o1735);
  writeFileSync(join(root, 'data/setuid'), 'x'.repeat(5000));
  chownSync(join(root, 'data/setuid'), 12, 34);
  chmodSync(join(root, 'data/setuid'), 0o4751);
  symlinkSync('/no/where', join(root, 'data/link'));
  writeFileSync(join(root, 'data/sub/deep/file'), 'deep');
  execFileSync('mkfifo', ['-m', '0604', join(root, 'data/fifo')]);
  chownSync(join(root, 'data'), 5, 6);
  chmodSync(join(root, 'data'), 0o2770);
  const look =
    'stat -c "%n %F %a %u %g %s" /data/setuid /data/fifo; stat -c "%n %a %u %g" /data /kept;' +
    'readlink /data/link; cat /data/sub/deep/file; echo; touch /data/new /data/sub/new; echo done';
  assert.deepEqual((await on.output(look)).trim().split('\n'), [
    '/data/setuid regular file 4751 12 34 5000',
    '/data/fifo fifo 604 0 0 0',
    '/data 2770 5 6',
    '/kept 1735 0 0',
    '/no/where',
    'deep',
    'done',
  ]);
  // What is written goes to the copy.
  assert.throws(() => statSync(join(root, 'data/new')));
});
