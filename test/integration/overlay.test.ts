/**
 * A root file system of layers: what the container sees, what lands in which directory outside, what the host sees of it
 * (nothing), as root, in a user namespace and as an ordinary user.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  ConfigError,
  InitError,
  LinuxFactory,
  loadConfig,
  type OverlayOptions,
  Process,
} from '../../lib/index.ts';
import { sandbox } from '../../lib/sandbox/sandbox.ts';
import {
  type BundleOptions,
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  rootfs,
} from '../harness/bundle.ts';
import { text } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './warm.ts';

const asRoot = { requires: ['root', 'overlay'], timeoutMs: 60_000 } as const;
const writable: BundleOptions = {
  patch: spec => {
    spec.root = { path: rootfs, readonly: false };
    return spec;
  },
};
const overlayMounts = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => / - overlay /.test(line));

/** What a shell in a container with this root prints. */
async function inside(
  t: TestContext,
  overlay: OverlayOptions,
  script: string,
  options: BundleOptions = writable,
  more: { readonly noPivotRoot?: boolean } = {},
): Promise<string> {
  const config = await loadConfig(makeBundle(t, options), { overlay, ...more });
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(containerId(), config);
  try {
    const process = new Process({
      ...config.process,
      args: ['/bin/sh', '-c', `exec 2>&1; ${script}`],
      stdout: 'pipe',
    });
    await container.run(process);
    const output = await text(process.stdout ?? assert.fail());
    await process.wait();
    return output;
  } finally {
    await container.destroy({ force: true });
  }
}

/** A layer with a root that a container can start in, made of nothing but links to mount points' names. */
function layer(directory: string, name: string, files: { readonly [path: string]: string } = {}): string {
  const path = join(directory, name);
  mkdirSync(path);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, '..'), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

/** Whether files of this file system may have user.* attributes. */
const takesAttributes = (path: string): boolean =>
  spawnSync('python3', ['-c', 'import os,sys; os.setxattr(sys.argv[1], "user.a", b"")', path]).status === 0;

test('in memory: everything can be changed, nothing of it stays, the host sees no mount', asRoot, async t => {
  const before = overlayMounts();
  const passwd = readFileSync(join(rootfs, 'etc/passwd'), 'utf8');
  const names = readdirSync(rootfs);
  const output = await inside(
    t,
    {},
    'echo new > /made; rm -r /etc; mkdir /etc; ls -A /etc; cat /made; stat -c %a:%u / ; grep " / / " /proc/self/mountinfo',
  );
  const [made, mode, mount = '', ...rest] = output.trim().split('\n');
  const { mode: bits, uid } = statSync(rootfs);
  assert.deepEqual([made, mode, rest], ['new', `${(bits & 0o7777).toString(8)}:${uid}`, []]);
  assert.match(
    mount,
    / - overlay overlay rw,.*lowerdir=self\/fd\/\d+,upperdir=self\/fd\/\d+,workdir=self\/fd\/\d+/,
  );
  assert.ok(!mount.includes(rootfs), mount);
  assert.deepEqual(readdirSync(rootfs), names);
  assert.equal(readFileSync(join(rootfs, 'etc/passwd'), 'utf8'), passwd);
  assert.deepEqual(overlayMounts(), before);
  const full = await inside(t, { sizeBytes: 65_536 }, 'dd if=/dev/zero of=/big bs=4096 count=64; echo end');
  assert.match(full, /No space left on device/);
});

test(
  'an upper directory takes the changes and is a lower one of the next; names may have colons and commas',
  asRoot,
  async t => {
    const directory = makeDirectory(t);
    const first = layer(directory, 'a:b,c\\d "e', { 'data/one': '1', 'data/two': '2' });
    const [upper, work] = [layer(directory, 'up,per:1'), layer(directory, 'work:')];
    symlinkSync(first, join(directory, 'link'));
    const one = await inside(
      t,
      { lower: [join(directory, 'link'), rootfs], upper, work },
      'cat /data/one /data/two; rm /data/one; echo 3 > /data/three; ls /data',
    );
    assert.equal(one, '12three\ntwo\n');
    const whiteout = lstatSync(join(upper, 'data/one'));
    assert.deepEqual([whiteout.isCharacterDevice(), whiteout.rdev], [true, 0]);
    assert.equal(readFileSync(join(upper, 'data/three'), 'utf8'), '3\n');
    assert.deepEqual(readdirSync(join(first, 'data')), ['one', 'two']);
    const two = await inside(t, { lower: [upper, first, rootfs] }, 'cat /data/*; rm -r /data; ls -d /data');
    assert.match(two, /^3\n2ls: .*\/data.*\n$/);
    assert.equal(readFileSync(join(upper, 'data/three'), 'utf8'), '3\n');
  },
);

test('more layers than one option has room for', asRoot, async t => {
  const directory = makeDirectory(t);
  const lower = Array.from({ length: 64 }, (_, index) =>
    layer(directory, `layer-${index}`, { [`layers/${index}`]: '', 'layers/top': String(index) }),
  );
  const output = await inside(t, { lower: [...lower, rootfs] }, 'ls /layers | wc -l; cat /layers/top');
  assert.equal(output, '65\n0');
});

test(
  'read-only, without pivot_root, below a shared root: the layers are the root there too',
  asRoot,
  async t => {
    const before = overlayMounts();
    const readonly = await inside(t, {}, 'touch /x; echo $?; head -1 /etc/passwd', {});
    assert.match(readonly, /Read-only file system\n1\nroot:/);
    const moved = await inside(t, {}, 'touch /x; ls /x', writable, { noPivotRoot: true });
    assert.equal(moved, '/x\n');
    const shared = await inside(t, {}, 'touch /x; ls /x', {
      patch: spec => {
        spec.root = { path: rootfs, readonly: false };
        spec.linux = { ...spec.linux, rootfsPropagation: 'shared' };
        return spec;
      },
    });
    assert.equal(shared, '/x\n');
    assert.deepEqual(overlayMounts(), before);
  },
);

test(
  'in a user namespace: layers behind a closed directory; what is written belongs to its ids',
  asRoot,
  async t => {
    const directory = makeDirectory(t);
    chmodSync(directory, 0o700);
    const shift = 200_000;
    const lower = layer(directory, 'lower', { 'data/one': '1', 'data/old/file': '' });
    const [upper, work] = [layer(directory, 'upper'), layer(directory, 'work')];
    for (const path of [
      upper,
      work,
      lower,
      join(lower, 'data'),
      join(lower, 'data/one'),
      join(lower, 'data/old'),
    ])
      chownSync(path, shift, shift);
    const inUserNamespace: BundleOptions = {
      patch: spec => {
        const map = [{ containerID: 0, hostID: shift, size: 1000 }];
        spec.root = { path: rootfs, readonly: false };
        spec.linux = {
          ...spec.linux,
          namespaces: [...spec.linux.namespaces, { type: 'user' }],
          uidMappings: map,
          gidMappings: map,
        };
        return spec;
      },
    };
    // A directory that takes the place of another one has a mark in user.*, which tmpfs has had since Linux 6.6 only.
    const replace = takesAttributes(upper) ? 'rm -r /data/old; mkdir /data/old; ls -A /data/old; ' : '';
    const output = await inside(
      t,
      { lower: [lower, rootfs], upper, work },
      `cat /data/one; rm /data/one; ${replace}echo 2 > /data/two; ls /data`,
      inUserNamespace,
    );
    assert.equal(output, '1old\ntwo\n');
    assert.equal(statSync(join(upper, 'data/two')).uid, shift);
    assert.ok(lstatSync(join(upper, 'data/one')).isCharacterDevice());
    const memory = await inside(
      t,
      { lower: [lower, rootfs] },
      'touch /x /data/y; ls /x /data/y',
      inUserNamespace,
    );
    assert.equal(memory, '/data/y\n/x\n');
  },
);

test('what overlayfs refuses fails the start, and nothing is left', asRoot, async t => {
  const directory = makeDirectory(t);
  const before = readFileSync('/proc/self/mountinfo', 'utf8');
  const upper = layer(directory, 'upper');
  await assert.rejects(
    // The kernel wants both in one mount.
    inside(t, { upper, work: layer(upper, 'below') }, 'true'),
    (error: unknown) => error instanceof InitError && error.step === 'overlay' && error.errno < 0,
  );
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8'), before);
  rmSync(join(upper, 'below'), { recursive: true });
  assert.deepEqual(readdirSync(upper), []);
});

test('options that make no sense are refused by name', { requires: ['rootless'] }, async t => {
  const directory = makeDirectory(t);
  const bundle = makeBundle(t);
  const wrong: [OverlayOptions, string][] = [
    [{ lower: [] }, 'overlay.lower'],
    [{ lower: [join(directory, 'absent')] }, 'overlay.lower[0]'],
    [{ upper: directory }, 'overlay'],
    [{ work: directory }, 'overlay'],
    [{ upper: directory, work: directory, sizeBytes: 4096 }, 'overlay.sizeBytes'],
    [{ sizeBytes: 1 }, 'overlay.sizeBytes'],
    [{ upper: join(bundle, 'config.json'), work: directory }, 'overlay.upper'],
  ];
  for (const [overlay, path] of wrong)
    await assert.rejects(
      loadConfig(bundle, { overlay }),
      (error: unknown) =>
        error instanceof ConfigError && error.code === 'ERR_SPEC_INVALID' && error.issues[0]?.path === path,
      JSON.stringify(overlay),
    );
  const { overlay } = await loadConfig(bundle, { overlay: { upper: '.', work: directory } });
  assert.deepEqual(overlay, { lower: [rootfs], upper: bundle, work: directory });
});

test('a sandbox over layers, as root and as an ordinary user', {
  requires: ['rootless', 'overlay'],
  timeoutMs: 60_000,
}, async t => {
  const root = makeStateRoot(t);
  const directory = makeDirectory(t);
  const [upper, work] = [layer(directory, 'upper'), layer(directory, 'work')];
  const user = process.geteuid?.() === 0 ? { user: { uid: 0, gid: 0 } } : {};
  const options = { root, rootfs, ...user };
  const memory = await sandbox(['sh', '-c', 'echo 1 > /new; cat /new'], { ...options, overlay: {} });
  assert.deepEqual([memory.exitCode, memory.stdout, memory.stderr], [0, '1\n', '']);
  const step = { ...options, overlay: { upper, work } };
  const kept = await sandbox(['sh', '-c', 'mkdir /out; echo 2 > /out/file'], step);
  assert.deepEqual([kept.exitCode, kept.stderr], [0, '']);
  assert.equal(readFileSync(join(upper, 'out/file'), 'utf8'), '2\n');
  const next = await sandbox(['cat', '/out/file'], { ...options, overlay: { lower: [upper, rootfs] } });
  assert.deepEqual([next.exitCode, next.stdout], [0, '2\n']);
  assert.ok(!existsSync(join(rootfs, 'out')) && !existsSync(join(rootfs, 'new')));
  // overlayfs leaves a directory of its own in there that nobody but root may look into.
  rmSync(join(work, 'work'), { recursive: true, force: true });
});
