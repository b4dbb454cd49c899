import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MS } from '../../lib/plan/numbers.ts';
import type { Step } from '../../lib/plan/steps.ts';
import { test } from '../harness/test.ts';
import {
  bind,
  execute,
  failure,
  inside,
  mount,
  nullDevice,
  openRootfs,
  proc,
  refuse,
  scene,
  shell,
  start,
} from './init-run.ts';

const root = { requires: ['root'] } as const;

const canary = (rootfs: string) => join(rootfs, '..', 'canary');
const replace = (path: string, target: string) => {
  rmSync(path, { recursive: true, force: true });
  symlinkSync(target, path);
};
const inRootfs = (rootfs: string, ...steps: Step[]): Step[] => [
  ...openRootfs(rootfs),
  ...steps,
  { kind: 'pivotRoot' },
  ...execute('/bin/true'),
];

test('proc and sysfs land on a real directory only', root, async t => {
  for (const [type, name] of [
    ['proc', 'proc'],
    ['sysfs', 'sys'],
  ] as const) {
    for (const target of ['/tmp', '/bin/busybox', '/nowhere', '../canary']) {
      const { rootfs } = scene(t);
      replace(join(rootfs, name), target);
      const failed = await failure(inRootfs(rootfs, mount({ type, source: type, target: `/${name}` })));
      assert.deepEqual(
        [failed.step, failed.reason],
        ['mount', 'ERR_ESCAPE'],
        `${name} -> ${target}: ${JSON.stringify(failed)}`,
      );
      assert.match(failed.detail, /must be mounted on ordinary directory/);
    }
  }
});

test('links in a mount target stay inside the rootfs; missing directories are made there', root, async t => {
  const { rootfs, canary, beside } = scene(t);
  symlinkSync(canary, join(rootfs, 'absolute'));
  symlinkSync('../../../../../../../../..', join(rootfs, 'up'));
  symlinkSync('../run/resolve/stub.conf', join(rootfs, 'etc/resolv.conf'));
  writeFileSync(join(beside, 'resolv'), 'nameserver');
  const output = await inside(
    rootfs,
    [
      mount({ target: '/absolute/a/b' }),
      mount({ target: '/up/deep' }),
      bind(join(beside, 'resolv'), '/etc/resolv.conf'),
    ],
    [],
    'cat /etc/resolv.conf; grep -o " /[^ ]* ro\\| /[^ ]* rw" /proc/self/mountinfo',
  );
  assert.match(output, /^nameserver/);
  assert.match(output, new RegExp(` ${canary}/a/b rw`));
  assert.match(output, / \/deep rw/);
  assert.match(output, / \/run\/resolve\/stub.conf rw/);
  assert.equal(existsSync(join(rootfs, canary, 'a/b')), true);
});

test('nothing is mounted below /proc but the files that lxcfs emulates', root, async t => {
  const { rootfs, canary } = scene(t);
  symlinkSync('/proc/sys', join(rootfs, 'link'));
  const refused = async (...steps: Step[]) => {
    const failed = await failure(inRootfs(rootfs, proc, ...steps));
    assert.deepEqual([failed.step, failed.reason], ['mount', 'ERR_ESCAPE'], JSON.stringify(failed));
  };
  await refused(mount({ target: '/proc/sys' }));
  await refused(mount({ target: '/proc' }));
  await refused(bind(canary, '/proc'));
  await refused(bind(canary, '/proc/self'));
  await refused(mount({ target: '/link/kernel' }));
  await refused(mount({ target: '/tmp/../proc/1' }));
  const output = await inside(
    rootfs,
    [bind(join(canary, 'file'), '/proc/cpuinfo'), mount({ target: '/processes' })],
    [],
    'cat /proc/cpuinfo',
  );
  assert.equal(output, 'host');
});

test('mount flags: set, cleared, recursive, atime, late read-only, remounts', root, async t => {
  const { rootfs, canary } = scene(t);
  const RDONLY = 1,
    NOSUID = 2,
    NOEXEC = 8;
  const output = await inside(
    rootfs,
    [
      bind(canary, '/ro', { flags: MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC | MS.NOATIME }),
      bind(canary, '/private', { propagation: [MS.PRIVATE] }),
      mount({ target: '/t1', flags: MS.NOSUID | MS.STRICTATIME | MS.NODIRATIME, data: 'size=1m,mode=0701' }),
      mount({ target: '/t2', flags: MS.RDONLY, lateReadonly: true }),
      mount({ target: '/t3', flags: MS.RDONLY }),
      // A tree with a mount in it, bound with recursive attributes.
      mount({ target: '/old', recursiveSet: 0 }),
      mount({ target: '/old/below' }),
      bind('/proc/self/cwd/old', '/rec', { recursiveSet: RDONLY | NOSUID | NOEXEC }),
      bind(canary, '/cleared', { flags: MS.RDONLY }),
      { ...bind(canary, '/cleared', { clearedFlags: MS.RDONLY }), flags: MS.BIND | MS.REMOUNT },
      { ...mount({ target: '/t1', data: 'size=2m' }), flags: MS.REMOUNT | MS.NOEXEC },
    ],
    [
      { kind: 'remountReadonly', path: '/t2', flags: 0, recursive: false, mount: 0 },
      { kind: 'remountReadonly', path: '/', flags: 0, recursive: false },
    ],
    'cat /proc/self/mountinfo',
  );
  const options = new Map(
    output
      .trim()
      .split('\n')
      .map(line => {
        const fields = line.split(' ');
        return [fields[4], `${fields[5]} ${line.slice(line.indexOf(' - ') + 3)}`];
      }),
  );
  const has = (path: string, pattern: RegExp) => assert.match(options.get(path) ?? 'absent', pattern, path);
  has('/ro', /^ro,nosuid,nodev,noexec,noatime /);
  has('/t1', /^rw,noexec,nodiratime tmpfs tmpfs rw,size=2048k,mode=701/);
  has('/t2', /^ro,relatime tmpfs tmpfs rw/);
  has('/t3', /^ro,relatime tmpfs tmpfs ro/);
  has('/rec', /^ro,nosuid,noexec/);
  has('/rec/below', /^ro,nosuid,noexec/);
  has('/old/below', /^rw,relatime/);
  has('/cleared', /^rw/);
  has('/', /^ro/);
});

test('every file system of a container can be mounted', root, async t => {
  const { rootfs, beside } = scene(t);
  for (const name of ['upper', 'work']) mkdirSync(join(beside, name));
  // Longer than the 255 bytes that fsconfig takes: mount(2) has to do it.
  const lower = join(beside, 'l'.repeat(200));
  mkdirSync(lower);
  writeFileSync(join(lower, 'below'), '');
  const overlay = (data: string, target: string) =>
    mount({ type: 'overlay', source: 'overlay', target, data });
  const output = await inside(
    rootfs,
    [
      mount({ type: 'sysfs', source: 'sysfs', target: '/sys', flags: MS.RDONLY }),
      mount({ target: '/dev', data: 'mode=755' }),
      mount({
        type: 'devpts',
        source: 'devpts',
        target: '/dev/pts',
        data: 'newinstance,ptmxmode=0666,mode=0620,gid=5',
      }),
      mount({ type: 'mqueue', source: 'mqueue', target: '/dev/mqueue' }),
      overlay(
        `lowerdir=${lower}:${canary(rootfs)},upperdir=${beside}/upper,workdir=${beside}/work`,
        '/merged',
      ),
      overlay(`lowerdir=${canary(rootfs)}:${rootfs}/bin`, '/short'),
    ],
    [],
    'cat /proc/self/mountinfo; ls /merged; cat /short/file',
    { cloneFlags: 0x20000 | 0x20000000 | 0x40000000 | 0x8000000 },
  );
  assert.match(output, /\nbelow\nfile\nhost$/);
  for (const type of ['sysfs', 'devpts', 'mqueue', 'tmpfs', 'proc', 'overlay'])
    assert.match(output, new RegExp(` - ${type} `));
});

test('a refused mount option is named, with the words of the kernel', root, async t => {
  const { rootfs } = scene(t);
  const failed = await failure(inRootfs(rootfs, mount({ target: '/tmp', data: 'size=1m,colour=blue' })));
  assert.deepEqual([failed.syscall, failed.errno], ['fsconfig', 22]);
  assert.match(failed.detail, /"colour=blue" was refused.*colour/);
  const unknown = await failure(inRootfs(rootfs, mount({ type: 'nosuchfs', target: '/tmp' })));
  assert.deepEqual([unknown.syscall, unknown.errno, unknown.args], ['fsopen', 19, '"nosuchfs"']);
  // Optional mounts may be absent.
  const output = await inside(
    rootfs,
    [mount({ type: 'nosuchfs', target: '/tmp', optional: true })],
    [],
    'cat /proc/self/mountinfo',
  );
  assert.doesNotMatch(output, / \/tmp /);
});

test('tmpfs keeps the mode of what it covers, and tmpcopyup its content', root, async t => {
  const { rootfs } = scene(t);
  writeFileSync(join(rootfs, 'etc/a'), 'content', { mode: 0o640 });
  mkdirSync(join(rootfs, 'etc/dir'), { mode: 0o711 });
  writeFileSync(join(rootfs, 'etc/dir/b'), 'x'.repeat(100_000), { mode: 0o4755 });
  symlinkSync('/nowhere', join(rootfs, 'etc/link'));
  const output = await inside(
    rootfs,
    [mount({ target: '/etc', copyUp: true }), mount({ target: '/tmp' })],
    [],
    'cat /etc/a; echo; stat -c "%a %n %s" /etc /etc/a /etc/dir /etc/dir/b /tmp; readlink /etc/link; grep -c " /etc .*tmpfs" /proc/self/mountinfo',
  );
  const lines = output.trim().split('\n');
  assert.equal(lines[0], 'content');
  assert.deepEqual(
    lines.slice(1).map(line => line.split(' ').slice(0, 2).join(' ')),
    [
      `${(statSync(join(rootfs, 'etc')).mode & 0o7777).toString(8)} /etc`,
      '640 /etc/a',
      '711 /etc/dir',
      '4755 /etc/dir/b',
      `${(statSync(join(rootfs, 'tmp')).mode & 0o7777).toString(8)} /tmp`,
      '/nowhere',
      '1',
    ],
  );
});

test(
  'devices: made, accepted when the same, refused when another; /dev as a link stays inside',
  root,
  async t => {
    const { rootfs } = scene(t);
    writeFileSync(join(rootfs, 'dev/zero'), 'a file');
    const zero: Step = { ...nullDevice, path: '/dev/zero', minor: 5 } as Step;
    const failed = await failure(inRootfs(rootfs, zero));
    assert.deepEqual([failed.step, failed.errno], ['device', 17]);
    const link: Step = { kind: 'symlink', target: 'pts/ptmx', path: '/dev/ptmx', replace: true };
    const fifo: Step = { ...nullDevice, path: '/dev/pipe', type: 'p', mode: 0o640, uid: 7, gid: 8 } as Step;
    const script = 'stat -c "%n %F %a %u %g %t:%T" /dev/*; readlink /dev/ptmx';
    const output = await inside(
      rootfs,
      [mount({ target: '/dev' }), nullDevice, nullDevice, link, link, fifo],
      [],
      script,
    );
    assert.match(output, /null character special file 666 0 0 1:3/);
    assert.match(output, /pipe fifo 640 7 8/);
    assert.match(output, /^pts\/ptmx$/m);
    // Bound where mknod is refused: 133 and 259 are mknod and mknodat of x86-64, 33 mknodat of arm64.
    const mknodat = process.arch === 'arm64' ? 33 : 259;
    const bound = await inside(
      rootfs,
      [mount({ target: '/dev' }), refuse([mknodat], 1), nullDevice],
      [],
      'grep -c " /dev/null " /proc/self/mountinfo; echo x >/dev/null',
    );
    assert.equal(bound.trim(), '1');
    const second = scene(t);
    replace(join(second.rootfs, 'dev'), second.canary);
    assert.equal(await inside(second.rootfs, [nullDevice, link], [], 'ls /dev/'), 'null\nptmx\n');
  },
);

test('masked and read-only paths; an impostor of /dev/null is refused', root, async t => {
  const { rootfs } = scene(t);
  mkdirSync(join(rootfs, 'secret'));
  writeFileSync(join(rootfs, 'secret/key'), 'key');
  writeFileSync(join(rootfs, 'key'), 'key');
  const after: Step[] = [
    { kind: 'readonlyPath', path: '/proc/sys' },
    { kind: 'readonlyPath', path: '/missing' },
    { kind: 'maskPath', path: '/secret', label: '' },
    { kind: 'maskPath', path: '/sys', label: '' },
    { kind: 'maskPath', path: '/key', label: '' },
    { kind: 'maskPath', path: '/missing/path', label: '' },
  ];
  const script =
    'ls /secret; cat /key; touch /secret/x 2>&1; echo a > /proc/sys/kernel/domainname; grep -c " /secret ro" /proc/self/mountinfo';
  const output = await inside(rootfs, [mount({ target: '/dev' }), nullDevice], after, `{ ${script}; } 2>&1`);
  assert.match(output, /touch: \/secret\/x: Read-only file system/);
  assert.match(output, /can't create \/proc\/sys\/kernel\/domainname: Read-only file system/);
  assert.match(output, /^1$/m);
  assert.doesNotMatch(output, /^key/m);
  writeFileSync(join(rootfs, 'dev/null'), 'impostor');
  const failed = await failure([
    ...openRootfs(rootfs),
    proc,
    { kind: 'pivotRoot' },
    ...after,
    ...execute('/bin/true'),
  ]);
  assert.deepEqual([failed.step, failed.reason], ['maskPath', 'ERR_ESCAPE']);
});

test('the same steps work where the new mount API is refused', root, async t => {
  const { rootfs, canary } = scene(t);
  writeFileSync(join(rootfs, 'key'), 'key');
  mkdirSync(join(rootfs, 'full/of'), { recursive: true });
  writeFileSync(join(rootfs, 'full/of/it'), 'copied');
  mkdirSync(join(rootfs, 'second'));
  // open_tree, move_mount, fsopen, mount_setattr and close_range: each alone, all at once
  const calls = [[428], [429], [430], [442], [436], [428, 429, 430, 442, 436]];
  for (const [refused, errno] of calls.flatMap(list => [[list, 38] as const, [list, 1] as const])) {
    const run = start([
      refuse(refused, errno),
      ...openRootfs(rootfs),
      proc,
      bind(canary, '/ro', { flags: MS.RDONLY, propagation: [MS.PRIVATE] }),
      bind(join(canary, 'file'), '/etc/file', { flags: MS.RDONLY }),
      mount({ target: '/full', copyUp: true }),
      mount({ target: '/late', flags: MS.RDONLY, lateReadonly: true }),
      mount({ target: '/late' }),
      mount({ target: '/t', data: 'mode=700', flags: MS.NOSUID }),
      mount({ target: '/dev' }),
      nullDevice,
      { ...nullDevice, path: '/dev/full', bind: true, minor: 7 },
      { kind: 'pivotRoot' },
      { kind: 'remountReadonly', path: '/late', flags: 0, recursive: false, mount: 0 },
      { kind: 'readonlyPath', path: '/proc/sys' },
      { kind: 'readonlyPath', path: '/etc' },
      { kind: 'maskPath', path: '/key', label: '' },
      { kind: 'maskPath', path: '/tmp', label: '' },
      { kind: 'maskPath', path: '/second', label: '' },
      ...shell('touch /late/x; cat /full/of/it /key /proc/self/mountinfo'),
    ]);
    const output = await run.output();
    assert.deepEqual(
      run.events.filter(event => event.type === 'failed'),
      [],
    );
    for (const pattern of [
      /^copied/,
      /^(copied)?\d.* \/ro ro/m,
      / \/etc\/file ro/,
      / \/late ro,[\s\S]* \/late rw,/,
      /\/t rw,nosuid/,
      / \/dev\/full rw/,
      / \/proc\/sys ro/,
      / \/etc ro/,
      / \/key rw/,
      / \/tmp ro/,
      / \/second ro/,
    ])
      assert.match(output, pattern, `${refused} errno ${errno}`);
  }
});

test('without openat2 nothing is resolved: the start is refused', root, async t => {
  const { rootfs } = scene(t);
  for (const errno of [38, 1]) {
    const steps = [refuse([437], errno), ...openRootfs(rootfs), proc, ...execute('/bin/true')];
    const failed = await failure(steps);
    assert.deepEqual([failed.step, failed.syscall, failed.reason], ['mount', 'openat2', 'ERR_PLATFORM']);
  }
});

test('cgroup file systems of a cgroup namespace', { requires: ['root', 'hybrid'] }, async t => {
  const { rootfs } = scene(t);
  const steps = [
    mount({ target: '/sys', data: 'mode=755' }),
    mount({ type: 'cgroup', source: 'cgroup', target: '/sys/pids', data: 'pids', flags: MS.RDONLY }),
    mount({ type: 'cgroup', source: 'systemd', target: '/sys/systemd', data: 'none,name=systemd' }),
    mount({ type: 'cgroup2', source: 'cgroup2', target: '/sys/unified' }),
  ];
  const output = await inside(
    rootfs,
    [{ kind: 'unshare', flags: 0x2000000 }, ...steps],
    [],
    'cat /proc/self/mountinfo',
  );
  for (const pattern of [
    /\/sys\/pids ro.* cgroup rw,pids/,
    /\/sys\/systemd rw.*name=systemd/,
    /\/sys\/unified rw.* cgroup2 /,
  ])
    assert.match(output, pattern);
});
