import assert from 'node:assert/strict';
import { chmodSync, chownSync, linkSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lendImages } from '../../../lib/criu/lend.ts';
import { makeDirectory } from '../../harness/bundle.ts';
import { test } from '../../harness/test.ts';

const gid = 100_000;
const shown = (path: string): string => {
  const { uid, gid: group, mode } = statSync(path);
  return `${uid}:${group} ${(mode & 0o7777).toString(8)}`;
};

test('images and their parents are lent to a group, to be read, and taken back', {
  requires: ['root'],
}, t => {
  const root = makeDirectory(t);
  const [first, second] = ['rounds/1', 'last/2'].map(name => join(root, name));
  if (first === undefined || second === undefined) assert.fail();
  for (const path of [join(root, 'rounds'), join(root, 'last'), first, second])
    mkdirSync(path, { mode: 0o700 });
  for (const path of [first, second]) {
    writeFileSync(join(path, 'pages-1.img'), 'x', { mode: 0o600 });
    chmodSync(join(path, 'pages-1.img'), 0o620);
    chownSync(join(path, 'pages-1.img'), 0, 7);
  }
  symlinkSync('../../rounds/1', join(second, 'parent'));
  const secret = join(root, 'secret');
  writeFileSync(secret, 'x', { mode: 0o600 });
  linkSync(secret, join(second, 'core-1.img'));
  symlinkSync(secret, join(second, 'fs-1.img'));
  const all = [
    root,
    join(root, 'rounds'),
    join(root, 'last'),
    first,
    second,
    join(first, 'pages-1.img'),
    secret,
  ];
  const before = all.map(shown);
  const takeBack = lendImages(second, gid);
  assert.deepEqual(all.map(shown), [
    ...[`0:${gid} 710`, `0:${gid} 710`, `0:${gid} 710`, `0:${gid} 750`, `0:${gid} 750`, `0:${gid} 640`],
    '0:0 600',
  ]);
  takeBack();
  assert.deepEqual(all.map(shown), before);
});

test('what everybody may read is left as it is', { requires: ['root'] }, t => {
  const directory = makeDirectory(t);
  chmodSync(directory, 0o755);
  writeFileSync(join(directory, 'a.img'), 'x');
  chmodSync(join(directory, 'a.img'), 0o644);
  const takeBack = lendImages(directory, gid);
  assert.deepEqual([directory, join(directory, 'a.img')].map(shown), ['0:0 755', '0:0 644']);
  takeBack();
  assert.throws(() => lendImages(join(directory, 'none'), gid), { code: 'ERR_CRIU_IMAGE' });
});
