/** Root file systems from images that lie on the disk: what layers mean, as root and as an ordinary user. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type UnpackOptions, unpackImage } from '../../lib/rootfs/unpack.ts';
import { sandbox } from '../../lib/sandbox/sandbox.ts';
import { makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { nruncPath, start } from './cli-fixture.ts';
import {
  busyboxLayer,
  directory,
  dockerArchive,
  file,
  hard,
  layoutOf,
  link,
  tarOf,
  tree,
  unpacked,
  withCode,
  writeLayout,
} from './image-fixture.ts';
import './warm.ts';

const any = { requires: ['rootless'], timeoutMs: 60_000 } as const;
const isRoot = process.geteuid?.() === 0;
test(
  'layers: files, links, whiteouts anywhere in a layer, opaque directories, kinds that change',
  any,
  async t => {
    const { path } = await unpacked(t, [
      [
        directory('./'),
        directory('./etc/', { mode: 0o750, mtime: 1_234_567_890 }),
        file('./etc/passwd', 'root'),
        file('./etc/old', 'old'),
        directory('opaque'),
        file('opaque/lower'),
        directory('opaque/below'),
        file('opaque/below/deep'),
        directory('becomes-link'),
        file('becomes-link/gone'),
        link('becomes-directory', 'etc'),
        file('becomes-fifo'),
        file('implied/parents/file'),
        hard('etc/hard', 'etc/passwd'),
        link('bin', 'usr/bin'),
        file('usr/bin/sh', '#!'),
      ],
      [
        // What the same layer brings is not hidden by it, wherever the mark stands.
        file('opaque/upper'),
        file('opaque/.wh..wh..opq', ''),
        file('etc/.wh.old', ''),
        file('etc/.wh.hard', ''),
        file('.wh.absent', ''),
        link('becomes-link', 'etc'),
        directory('becomes-directory'),
        file('becomes-directory/inside'),
        { name: 'becomes-fifo', type: '6' },
        // By way of a link of the lower layer.
        file('bin/tool', 'tool', { mode: 0o4755 }),
        file('implied/.wh.parents', ''),
        file('implied/parents/new'),
      ],
    ]);
    assert.deepEqual(tree(path), [
      'becomes-directory',
      'becomes-directory/inside',
      'becomes-fifo',
      'becomes-link',
      'bin',
      'etc',
      'etc/passwd',
      'implied',
      'implied/parents',
      'implied/parents/new',
      'opaque',
      'opaque/upper',
      'usr',
      'usr/bin',
      'usr/bin/sh',
      'usr/bin/tool',
    ]);
    assert.equal(readlinkSync(join(path, 'becomes-link')), 'etc');
    assert.ok(lstatSync(join(path, 'becomes-directory')).isDirectory());
    assert.ok(lstatSync(join(path, 'becomes-fifo')).isFIFO());
    assert.equal(lstatSync(join(path, 'usr/bin/tool')).mode & 0o7777, 0o4755);
    const etc = statSync(join(path, 'etc'));
    assert.deepEqual([etc.mode & 0o7777, etc.mtimeMs], [0o750, 1_234_567_890_000]);
    assert.equal(statSync(join(path, 'implied')).mode & 0o777, 0o755);
    assert.equal(statSync(path).mode & 0o777, 0o755);
  },
);

test('names, sizes, times and attributes of pax; modes that close a directory to its owner', any, async t => {
  const long = `${'d'.repeat(120)}/${'f'.repeat(200)}`;
  // Not UTF-8 as a whole: the upper half of the permitted set.
  const capability = Buffer.from('0100000200200080ffffffff0000000000000000', 'hex').subarray(0, 20);
  const { path, skipped } = await unpacked(t, [
    [
      directory('.'),
      file('short', 'content', { pax: { path: long, mtime: '1500000000.25', size: '7' } }),
      file('cap', '', {
        pax: {
          'SCHILY.xattr.security.capability': capability,
          'SCHILY.xattr.user.note': Buffer.from([0, 255, 10, 61]),
        },
      }),
      file('marks', '', {
        pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.user.overlay.redirect': '/etc' },
      }),
      { name: 'grüße', type: '2', pax: { linkpath: `${'x'.repeat(150)}` } },
      directory('closed', { mode: 0 }),
      file('closed/inside', 'in'),
      directory('closed/below', { mode: 0o111 }),
    ],
  ]);
  assert.equal(readFileSync(join(path, long), 'utf8'), 'content');
  assert.equal(statSync(join(path, long)).mtimeMs, 1_500_000_000_250);
  assert.equal(readlinkSync(join(path, 'grüße')), 'x'.repeat(150));
  assert.equal(statSync(join(path, 'closed')).mode & 0o777, 0);
  const told = skipped.map(({ path: name }) => name);
  assert.equal(told.filter(name => name === 'marks').length, 2);
  const attributes = execFileSync(
    'python3',
    [
      '-c',
      'import os,sys\nfor n in os.listxattr(sys.argv[1]): print(n, os.getxattr(sys.argv[1], n).hex())',
      join(path, 'cap'),
    ],
    { encoding: 'utf8' },
  );
  // Since Linux 6.6 on tmpfs.
  const noted = skipped.some(({ reason }) => reason.startsWith('attribute user.note'));
  assert.equal(/^user\.note 00ff0a3d$/m.test(attributes), !noted);
  if (isRoot)
    assert.match(attributes, new RegExp(`^security.capability ${capability.toString('hex')}$`, 'm'));
  else assert.ok(told.includes('cap'));
  // For who is not root to be able to remove it.
  execFileSync('chmod', ['-R', 'u+rwX', path]);
});

test('whom it belongs to: root as the image says or mapped, others themselves', any, async t => {
  const layers = [
    [
      directory('.'),
      file('one', '', { uid: 7, gid: 8 }),
      file('two', '', { pax: { uid: '70000', gid: '1' } }),
    ],
  ];
  const ids = (path: string) => {
    const { uid, gid } = statSync(path);
    return [uid, gid];
  };
  const { path } = await unpacked(t, layers);
  const own = [process.geteuid?.(), process.getegid?.()];
  assert.deepEqual(ids(join(path, 'one')), isRoot ? [7, 8] : own);
  assert.deepEqual(ids(join(path, 'two')), isRoot ? [70_000, 1] : own);
  const map = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
  const mapped = { uidMappings: map, gidMappings: map };
  if (!isRoot) await assert.rejects(unpacked(t, layers, mapped), withCode('ERR_UNSUPPORTED', /root/));
  else {
    await assert.rejects(unpacked(t, layers, mapped), withCode('ERR_IMAGE', /uid 70000/));
    const { path: shifted } = await unpacked(t, [layers[0]?.slice(0, 2) ?? []], mapped);
    assert.deepEqual(
      [ids(shifted), ids(join(shifted, 'one'))],
      [
        [100_000, 100_000],
        [100_007, 100_008],
      ],
    );
  }
});

test('device nodes: made by root, left out and told of for others', any, async t => {
  const { path, skipped } = await unpacked(t, [
    [
      directory('dev'),
      { name: 'dev/null', type: '3', major: 1, minor: 3, mode: 0o666 },
      hard('dev/zilch', 'dev/null'),
      { name: 'dev/hidden', type: '3' },
    ],
  ]);
  const hidden = skipped.filter(({ path: name }) => name === 'dev/hidden');
  assert.equal(hidden.length, 1);
  if (skipped.length === 1) {
    const { rdev, mode, nlink } = lstatSync(join(path, 'dev/null'));
    assert.deepEqual([rdev, mode & 0o777, nlink], [0x103, 0o666, 2]);
  } else {
    assert.deepEqual(skipped.map(({ path: name }) => name).sort(), ['dev/hidden', 'dev/null', 'dev/zilch']);
    assert.deepEqual(tree(path), ['dev']);
  }
  if (isRoot && process.env.LIBCONTAINER_TEST_LANE !== undefined) assert.equal(skipped.length, 1);
});

test('several images, platforms, indexes; digests of everything that is read', any, async t => {
  const at = makeDirectory(t);
  const image = (word: string, reference: string, architecture: string) =>
    [[[file('word', word)]], { reference, platform: { os: 'linux', architecture } }] as const;
  const members = layoutOf(
    image('one', 'a', 'amd64'),
    image('two', 'a', 'arm64'),
    image('three', 'b', 'amd64'),
  );
  const layout = writeLayout(join(at, 'layout'), members);
  const word = async (options: UnpackOptions): Promise<string> => {
    const { path } = await unpackImage(layout, join(at, 'rootfs'), options);
    const found = readFileSync(join(path, 'word'), 'utf8');
    execFileSync('rm', ['-rf', path]);
    return found;
  };
  assert.equal(await word({ reference: 'a', platform: 'linux/arm64' }), 'two');
  assert.equal(await word({ reference: 'b', platform: 'linux/amd64' }), 'three');
  await assert.rejects(word({ platform: 'linux/amd64' }), withCode('ERR_IMAGE', /more than one.*a, b/));
  await assert.rejects(word({ reference: 'c' }), withCode('ERR_IMAGE', /no image "c"/));
  await assert.rejects(
    word({ platform: 'linux/riscv64' }),
    withCode('ERR_IMAGE', /riscv64; there is: a linux\/amd64/),
  );
  // The same length, another content.
  for (const { name, data = '' } of members.filter(member => member.name.startsWith('blobs/'))) {
    const bytes = Buffer.from(data as string);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(join(layout, name), bytes);
  }
  await assert.rejects(
    word({ reference: 'b', platform: 'linux/amd64' }),
    withCode('ERR_IMAGE', /has the digest/),
  );
  // A blob that is a link to a file of the host.
  for (const { name } of members.filter(member => member.name.startsWith('blobs/'))) {
    execFileSync('rm', [join(layout, name)]);
    symlinkSync('/etc/passwd', join(layout, name));
  }
  await assert.rejects(word({ reference: 'b', platform: 'linux/amd64' }), withCode('ERR_IMAGE', /no file/));
  await assert.rejects(unpackImage('/dev/zero', join(at, 'rootfs')), withCode('ERR_IMAGE', /neither/));
  await assert.rejects(unpackImage(join(at, 'none'), join(at, 'rootfs')), withCode('ERR_IMAGE', /opened/));
  await assert.rejects(unpackImage(at, join(at, 'rootfs')), withCode('ERR_IMAGE', /oci-layout/));
});

test('docker save and a packed layout, from the command line; a program of the image runs', any, async t => {
  const at = makeDirectory(t);
  const config = {
    Env: ['A=b'],
    Entrypoint: ['/bin/sh', '-c'],
    Cmd: ['echo hello'],
    WorkingDir: '/tmp',
    User: '1:2',
  };
  const layers = [
    busyboxLayer(),
    [file('etc/os-release', 'NAME=test\n')],
    [file('etc/os-release', 'NAME=test\n')],
  ];
  writeFileSync(join(at, 'docker.tar'), dockerArchive(layers, 'test:latest', config));
  writeFileSync(join(at, 'layout.tar'), tarOf(layoutOf([layers, { config }])));
  writeFileSync(join(at, 'layout.tar.gz'), gzipSync(readFileSync(join(at, 'layout.tar'))));
  mkdirSync(join(at, 'extracted'));
  execFileSync('tar', ['-xf', join(at, 'docker.tar'), '-C', join(at, 'extracted')]);
  for (const image of ['docker.tar', 'layout.tar', 'extracted']) {
    const rootfs = join(at, `rootfs-${image}`);
    const done = await start(process.execPath, [
      nruncPath,
      'rootfs',
      'unpack',
      join(at, image),
      rootfs,
    ]).ended();
    assert.deepEqual([done.code, done.stderr], [0, ''], image);
    const hint: unknown = JSON.parse(done.stdout);
    assert.deepEqual(hint, {
      args: ['/bin/sh', '-c', 'echo hello'],
      entrypoint: ['/bin/sh', '-c'],
      cmd: ['echo hello'],
      env: ['A=b'],
      cwd: '/tmp',
      user: '1:2',
      labels: {},
    });
    assert.equal(readFileSync(join(rootfs, 'etc/os-release'), 'utf8'), 'NAME=test\n');
  }
  const { stdout, stderr, exitCode } = await sandbox(['/bin/sh', '-c', 'echo hello'], {
    root: makeStateRoot(t),
    rootfs: join(at, 'rootfs-docker.tar'),
  });
  assert.deepEqual([exitCode, stdout, stderr], [0, 'hello\n', '']);
  await assert.rejects(
    unpackImage(join(at, 'layout.tar.gz'), join(at, 'rootfs')),
    withCode('ERR_IMAGE', /compressed as a whole/),
  );
  await assert.rejects(
    unpackImage(join(at, 'docker.tar'), join(at, 'rootfs'), { reference: 'other' }),
    withCode('ERR_IMAGE', /"other"; there is: "test:latest"/),
  );
  const wrong = await start(process.execPath, [
    nruncPath,
    'rootfs',
    'unpack',
    join(at, 'docker.tar'),
  ]).ended();
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /unpack IMAGE DIRECTORY/);
});
