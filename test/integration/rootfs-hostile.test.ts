/** Archives that aim at what is outside of the new directory: contained or refused, and nothing is left of what failed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { unpackImage } from '../../lib/rootfs/unpack.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { type TestContext, test } from '../harness/test.ts';
import {
  directory,
  file,
  hard,
  type Layer,
  layoutOf,
  link,
  type TarMember,
  tarOf,
  tree,
  unpacked,
  withCode,
  writeLayout,
} from './image-fixture.ts';
import './warm.ts';

const any = { requires: ['rootless'], timeoutMs: 60_000 } as const;
const isRoot = process.geteuid?.() === 0;

/** A directory beside the new one that every hostile archive aims at. */
function canary(t: TestContext): { readonly at: string; readonly outside: string; check(): void } {
  const at = makeDirectory(t);
  const outside = join(at, 'outside');
  mkdirSync(join(outside, 'directory'), { recursive: true });
  writeFileSync(join(outside, 'file'), 'canary', { mode: 0o640 });
  writeFileSync(join(outside, 'directory/file'), 'canary');
  const facts = (): unknown =>
    ['', 'file', 'directory', 'directory/file'].map(name => {
      const { mode, uid, gid, mtimeMs, nlink, ino } = lstatSync(join(outside, name));
      return [name, mode, uid, gid, mtimeMs, nlink, ino];
    });
  const before = facts();
  return {
    at,
    outside,
    check: () => {
      assert.deepEqual(facts(), before);
      assert.deepEqual(tree(outside), ['directory', 'directory/file', 'file']);
      assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'canary');
      // Also nothing is left of what failed.
      assert.deepEqual(
        readdirSync(at).filter(name => !['outside', 'layout', 'rootfs'].includes(name)),
        [],
      );
    },
  };
}

test('hostile archives: what is contained stays inside', any, async t => {
  const { at, outside, check } = canary(t);
  const up = '../'.repeat(40);
  const attempts: { readonly [name: string]: (readonly TarMember[])[] } = {
    'an absolute name': [[file(join(outside, 'file'), 'evil')]],
    'a link that is absolute, and a file below it': [
      [link('l', outside), directory(`.${outside}`), file('l/file', 'evil')],
    ],
    'a relative link that climbs': [
      [link('l', `${up}${outside}`), directory(`.${outside}`), file('l/new', 'evil')],
    ],
    'a directory that becomes a link in a later layer': [
      [directory('d'), file('d/file'), directory(`.${outside}`)],
      [link('d', outside), file('d/file', 'evil')],
    ],
    'a whiteout by way of a link': [
      [link('l', outside), directory(`.${outside}`)],
      [file('l/.wh.file', ''), file('l/.wh.directory', '')],
    ],
    'an opaque mark on a link': [
      [link('l', outside), link('m', outside)],
      [file('l/.wh..wh..opq', ''), directory('m')],
    ],
    'a file in the place of a link': [[link('l', join(outside, 'file'))], [file('l', 'evil')]],
    'a hard link to a link, written through': [
      [link('l', join(outside, 'file')), hard('h', 'l')],
      [file('h', 'evil')],
    ],
    'a directory entry for a link': [[link('l', outside)], [directory('l', { mode: 0o777, mtime: 1 })]],
    'a link over and over': [[link('l', outside), link('l', '/etc'), directory('l'), file('l/x')]],
    'the root as a directory with other bits': [
      [directory('/', { mode: 0o711 }), directory('.//', { mode: 0o700 })],
    ],
  };
  for (const [name, layers] of Object.entries(attempts)) {
    const layout = writeLayout(join(at, 'layout'), layoutOf([layers]));
    const { path } = await unpackImage(layout, join(at, 'rootfs'));
    assert.ok(statSync(path).isDirectory(), name);
    check();
    execFileSync('rm', ['-rf', path, layout]);
  }
});

test('hostile archives: what is refused leaves nothing', any, async t => {
  const { at, outside, check } = canary(t);
  const whole = tarOf([file('a', 'x'.repeat(2000))]);
  const cut = whole.subarray(0, 1024);
  const type = 'application/vnd.oci.image.layer.v1.tar';
  const attempts: { readonly [name: string]: [readonly Layer[], string, RegExp] } = {
    'a name that climbs': [[[file('a/../../outside/file', 'evil')]], 'ERR_IMAGE', /leads out/],
    'a hard link that climbs': [[[hard('h', '../outside/file')]], 'ERR_IMAGE', /leads out/],
    'a hard link to the outside': [
      [[hard('h', join(outside, 'file')), file('h', 'evil')]],
      'ERR_ROOTFS_MAKE',
      /h/,
    ],
    'a hard link by way of a link': [[[link('l', outside), hard('h', 'l/file')]], 'ERR_ROOTFS_MAKE', /h/],
    'a file below a link to nowhere': [
      [[link('l', outside), file('l/file', 'evil')]],
      'ERR_ROOTFS_MAKE',
      /l\/file/,
    ],
    'a whiteout of the parent': [[[directory('d')], [file('d/.wh...', '')]], 'ERR_IMAGE', /hides nothing/],
    'a file as the root': [[[file('./', 'evil', { type: '1', link: 'x' })]], 'ERR_IMAGE', /root/],
    'a file as a parent': [[[file('f'), file('f/g')]], 'ERR_ROOTFS_MAKE', /f\/g/],
    'a size beyond the end': [[[file('a', 'x', { size: 2 ** 40 })]], 'ERR_IMAGE', /tar archive/],
    'a size that no file has': [[[file('a', 'x', { size: 2 ** 62 })]], 'ERR_IMAGE', /size|tar archive/],
    'a record that fills the memory': [
      [[file('p', 'x', { type: 'x', size: 2 ** 31 })]],
      'ERR_IMAGE',
      /tar archive/,
    ],
    'a malformed record': [[[file('p', '99 path=x\n', { type: 'x' }), file('a')]], 'ERR_IMAGE', /pax/],
    'a size in words': [[[file('a', 'x', { pax: { size: '-1' } })]], 'ERR_IMAGE', /size/],
    'a sparse file of GNU tar': [[[file('s', 'x', { type: 'S' })]], 'ERR_IMAGE', /sparse/],
    'a sparse file of pax': [[[file('s', 'x', { pax: { 'GNU.sparse.major': '1' } })]], 'ERR_IMAGE', /sparse/],
    'an id that is none': [
      [[file('a', 'x', { pax: { uid: '4294967295' } })]],
      isRoot ? 'ERR_IMAGE' : 'none',
      /uid/,
    ],
    'a stream that is cut off': [[{ bytes: cut, mediaType: type, tar: cut }], 'ERR_IMAGE', /tar archive/],
    'compressed data that is cut off': [
      [{ bytes: gzipSync(whole).subarray(0, 40), mediaType: `${type}+gzip`, tar: whole }],
      'ERR_IMAGE',
      /tar archive/,
    ],
    'another media type': [
      [{ bytes: whole, mediaType: `${type}+bzip2`, tar: whole }],
      'ERR_UNSUPPORTED',
      /v1\.tar\+bzip2/,
    ],
    'another content than the configuration says': [
      [{ bytes: whole, mediaType: type, tar: cut }],
      'ERR_IMAGE',
      /digest/,
    ],
  };
  for (const [name, [layers, code, words]] of Object.entries(attempts)) {
    if (code === 'none') continue;
    const layout = writeLayout(join(at, 'layout'), layoutOf([layers]));
    await assert.rejects(unpackImage(layout, join(at, 'rootfs')), withCode(code, words), name);
    check();
    assert.ok(!existsSync(join(at, 'rootfs')), name);
    execFileSync('rm', ['-rf', layout]);
  }
  const many = writeLayout(
    join(at, 'layout'),
    layoutOf([[[file('a'), file('b'), file('c', 'x'.repeat(100_000))]]]),
  );
  await assert.rejects(
    unpackImage(many, join(at, 'rootfs'), { maxEntries: 2 }),
    withCode('ERR_IMAGE', /maxEntries/),
  );
  await assert.rejects(
    unpackImage(many, join(at, 'rootfs'), { maxBytes: 50_000 }),
    withCode('ERR_IMAGE', /maxBytes/),
  );
  await assert.rejects(unpackImage(many, join(at, 'rootfs'), { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  check();
  const taken = join(at, 'rootfs');
  mkdirSync(taken);
  writeFileSync(join(taken, 'mine'), '');
  await assert.rejects(unpackImage(many, taken), withCode('ERR_ROOTFS_MAKE', /not empty/));
  assert.deepEqual(readdirSync(taken), ['mine']);
});

test('a tree deeper than a path is long is made and removed', any, async t => {
  // Each link leads to the end of the chain before it.
  const chain = Array.from({ length: 400 }, () => 'dir').join('/');
  const layers = [
    [directory(chain, { pax: { path: chain } }), { name: 'a', type: '2', pax: { linkpath: chain } }],
    [file('x', '', { pax: { path: `a/${chain}/x` } }), { name: 'a/b', type: '2', pax: { linkpath: chain } }],
    [file('y', '', { pax: { path: `a/b/${chain}/y` } })],
    [file('.wh.dir', ''), file('end')],
  ];
  const { path } = await unpacked(t, layers);
  assert.deepEqual(tree(path), ['a', 'end']);
});
