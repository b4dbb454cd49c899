/**
 * One test per row of the table of known runtime holes (docs and comments name them by CVE): a hostile rootfs, volume or
 * process in the container, and a canary on the host that must stay as it was. "Refused" is a typed error, "contained" a
 * start whose effects are all inside.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory } from '../../lib/index.ts';
import { makeDirectory, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test as harnessTest, type TestFunction, type TestOptions } from '../harness/test.ts';
import { fixture } from './fixture.ts';
import { rowsElsewhere } from './security-elsewhere.ts';
import { hostDescriptors, link, makeCanary, rootfsRows, withMount } from './security-rootfs.ts';

const names: string[] = [];
function test(name: string, options: TestOptions, fn: TestFunction): void {
  names.push(name);
  harnessTest(name, options, fn);
}

const root = { requires: ['root'] } as const;
/** As root and as an ordinary user. */
const anyone = { requires: ['rootless'] } as const;
/** Twenty times slower in a VM, and some start a dozen processes. */
const many = { requires: ['rootless'], timeoutMs: 120_000 } as const;

for (const [row, { plant, patch, terminal, refused, step }] of Object.entries(rootfsRows)) {
  test(`row ${row}`, anyone, async t => {
    const canary = makeCanary(t);
    const on = await fixture(t, { writable: true, patch: spec => patch?.(spec, canary.path) });
    plant(join(on.bundle, 'rootfs'), canary.path);
    const process = on.process({ args: ['/bin/true'], ...(terminal ? { terminal } : {}) });
    const container = await on.create();
    if (refused === undefined) {
      await container.run(process);
      assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
      await container.destroy();
    } else {
      await assert.rejects(container.run(process), {
        code: refused,
        ...(step === undefined ? {} : { step }),
      });
      assert.deepEqual(await on.factory.list(), []);
    }
    canary.check();
  });
}

test('row 38, 43: CVE-2026-115521: read-only is read-only, masked is masked', {
  ...anyone,
  proves: ['linux.maskedPaths', 'linux.readonlyPaths'],
  trap: 9,
}, async t => {
  const volume = makeDirectory(t);
  const on = await fixture(t, {
    writable: true,
    patch: spec => ({
      ...spec,
      root: { path: 'rootfs', readonly: true },
      mounts: [
        ...spec.mounts,
        { destination: '/mnt/a', source: volume, type: 'bind', options: ['bind', 'ro'] },
        { destination: '/mnt/b', source: 'tmpfs', type: 'tmpfs', options: ['ro'] },
      ],
      linux: {
        ...spec.linux,
        maskedPaths: ['/etc/secret', '/etc/secrets'],
        readonlyPaths: ['/proc/sys', '/dev'],
      },
    }),
  });
  const rootfs = join(on.bundle, 'rootfs');
  // What an image would show in place of procfs.
  mkdirSync(join(rootfs, 'proc/self/fd'), { recursive: true });
  mkdirSync(join(rootfs, 'etc/secrets'));
  for (const name of ['secret', 'secrets/one']) writeFileSync(join(rootfs, 'etc', name), 'secret');
  const paths = ['/x', '/etc/secrets/x', '/mnt/a/x', '/mnt/b/x', '/dev/x'];
  const look = `for f in ${paths.join(' ')}; do touch $f 2>&1; done; cat /etc/secret; ls /etc/secrets`;
  const output = await on.output(`${look}; (echo x > /proc/sys/kernel/domainname) 2>&1`);
  const expected = paths.map(path => `touch: ${path}: Read-only file system\n`).join('');
  assert.ok(output.startsWith(expected), output);
  assert.match(output.slice(expected.length), /^[^\n]*domainname: Read-only file system\n$/);
});

test('row 1, 5, 6, 17: CVE-2016-3697, -8867, CVE-2022-29162: user and capability sets', {
  ...root,
  proves: ['process.capabilities'],
  trap: 6,
}, async t => {
  const on = await fixture(t, { writable: true });
  writeFileSync(join(on.bundle, 'rootfs/etc/passwd'), '1000:x:0:0::/root:/bin/sh\n');
  const look = 'grep -E "^(Uid|Gid|Cap(Inh|Eff|Amb))" /proc/self/status | tr "\\t" " "';
  const user = { uid: 1000, gid: 1000 };
  const none = '0000000000000000';
  const expected = `Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nCapInh: ${none}\nCapEff: ${none}\nCapAmb: ${none}\n`;
  const container = await on.create();
  const init = on.sh(`${look}; sleep 1000`, { user, stdout: 'pipe' });
  await container.run(init);
  let seen = '';
  const lines = (init.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
  while (!seen.includes('CapAmb')) seen += String((await within(lines.next(), 'status')).value);
  assert.equal(seen, expected);
  const exec = on.sh(look, { user, stdout: 'pipe' });
  await container.start(exec);
  assert.equal(await text(exec.stdout ?? assert.fail()), expected);
  const asRoot = on.sh(look, { stdout: 'pipe' });
  await container.start(asRoot);
  // KILL, NET_BIND_SERVICE and AUDIT_WRITE, as config.json says, and no more.
  assert.match(
    await text(asRoot.stdout ?? assert.fail()),
    new RegExp(`CapInh: ${none}\nCapEff: 0000000020000420\nCapAmb: ${none}\n`),
  );
  await container.destroy({ force: true });
  init.stdout?.destroy();
});

test('row 32, N5: CVE-2026-30892, CVE-2024-40635: no ID becomes another', anyone, async t => {
  const on = await fixture(t);
  for (const id of [-1, 1.5, Number.NaN, 2 ** 32 - 1, 2 ** 32, 2 ** 53])
    for (const user of [{ uid: id }, { gid: id }, { additionalGids: [id] }]) {
      const start = async () => (await on.create()).run(on.process({ user: { uid: 1, ...user } }));
      await assert.rejects(start, { code: 'ERR_ARGUMENT' }, JSON.stringify(user));
    }
});

test('row 21: CVE-2024-21626: a working directory or program by way of /proc/self/fd', many, async t => {
  const canary = makeCanary(t);
  hostDescriptors(t, canary.path);
  const on = await fixture(t, { writable: true });
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const rootfs = join(on.bundle, 'rootfs');
  for (let fd = 3; fd < 20; fd++) {
    link(join(rootfs, 'work'), `/proc/self/fd/${fd}`);
    for (const options of [
      { cwd: '/work' },
      { args: [`/proc/self/fd/${fd}/bin/sh`] },
      { args: [`/proc/self/fd/${fd}/../../../../../bin/sh`, '-c', `ls ${canary.path}`] },
    ]) {
      const process = on.sh(`ls ${canary.path}/file; ls file`, { stdout: 'pipe', ...options });
      try {
        await container.start(process);
        assert.equal(await text(process.stdout ?? assert.fail()), '', `${fd} ${JSON.stringify(options)}`);
      } catch (error) {
        assert.match(String((error as { code?: unknown }).code), /^ERR_(CWD|EXEC_\w+)$/, String(error));
      }
    }
  }
  // One that the program is meant to keep: nobody stands in it from the start.
  const kept = openSync(canary.path, 'r');
  t.after(() => closeSync(kept));
  link(join(rootfs, 'work'), '/proc/self/fd/3');
  const there = on.process({ cwd: '/work', preservedFds: [kept] });
  await assert.rejects(container.start(there), { code: 'ERR_CWD' });
  await container.destroy({ force: true });
  for (const cwd of ['/proc/self/fd/3', '/proc/self/fd/4', '/proc/1/cwd', '/work']) {
    const first = await on.create();
    await assert.rejects(first.run(on.process({ cwd })), { code: /^ERR_/ }, cwd);
  }
  canary.check();
});

test('row 8: CVE-2019-5736: /proc/1/exe is sealed, and of no use as a program', {
  requires: ['root', 'probe'],
}, async t => {
  const hash = () =>
    createHash('sha256')
      .update(readFileSync(join(projectRoot, 'build/init/init')))
      .digest('hex');
  const before = hash();
  const on = await fixture(t, { writable: true });
  const all = ['CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE'];
  const capabilities = { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] };
  const container = await on.create();
  const waiting = on.sh('exit 7');
  // Created: its pid 1 is the init executable, until exec().
  await container.start(waiting);
  assert.match(readlinkSync(`/proc/${waiting.pid}/exe`), /^\/memfd:/);
  const attack = on.sh(
    'readlink /proc/1/exe; echo evil > /proc/1/exe; dd if=/bin/busybox of=/proc/1/exe conv=notrunc',
    {
      capabilities,
      stdout: 'pipe',
      stderr: 'pipe',
    },
  );
  await container.start(attack);
  const [seen, said] = await Promise.all([
    text(attack.stdout ?? assert.fail()),
    text(attack.stderr ?? assert.fail()),
  ]);
  assert.match(seen, /memfd/, 'the attack reaches the link, or it proves nothing');
  assert.equal(said.match(/Text file busy|Operation not permitted|Permission denied/g)?.length, 2, said);
  // What is being executed cannot be written anyway (ETXTBSY); whoever keeps it open until nothing is, meets the seals.
  const look = on.process({ args: ['/bin/probe', 'seals', '/proc/1/exe'], capabilities, stdout: 'pipe' });
  await container.start(look);
  assert.equal(await text(look.stdout ?? assert.fail()), 'seal shrink grow write\n');
  // As a program, or a script's interpreter, it is our init without a plan: it ends at once.
  writeFileSync(join(on.bundle, 'rootfs/bin/script'), '#!/proc/self/exe\n', { mode: 0o755 });
  for (const program of ['/proc/self/exe', '/bin/script']) {
    const process = on.process({ args: [program] });
    await container.start(process);
    assert.deepEqual(await within(process.wait(), program), { kind: 'exited', code: 98 });
  }
  await container.exec();
  assert.deepEqual(await within(waiting.wait(), 'exit'), { kind: 'exited', code: 7 });
  await container.destroy();
  assert.equal(hash(), before);
});

test('a process that enters a container without a mount namespace is in its root', root, async t => {
  const on = await fixture(t, {
    writable: true,
    patch: spec => ({
      ...spec,
      mounts: [],
      linux: {
        ...spec.linux,
        namespaces: [{ type: 'pid' }, { type: 'uts' }],
        maskedPaths: [],
        readonlyPaths: [],
      },
    }),
  });
  writeFileSync(join(on.bundle, 'rootfs/etc/mark'), 'inside');
  const container = await on.create();
  await container.run(on.sh('while :; do /bin/sleep 1000; done'));
  const process = on.sh(`cat /etc/mark; pwd; ls -d ${on.bundle}`, { stdout: 'pipe' });
  await container.start(process);
  assert.equal(await text(process.stdout ?? assert.fail()), 'inside/\n');
  await assert.rejects(container.start(on.process({ cwd: on.bundle })), { code: 'ERR_CWD' });
  await container.destroy({ force: true });
});

test(
  'row 11: runc PR 1962: without pivot_root, a process that enters is in the root too',
  anyone,
  async t => {
    const on = await fixture(t);
    const config = { ...on.config, noPivotRoot: true };
    const container = await on.factory.create((await on.create()).id.concat('-x'), config);
    t.after(() => container.destroy({ force: true }));
    await container.run(on.sh('sleep 1000'));
    const process = on.sh(`ls -d ${on.bundle}; ls -d /../${on.bundle}; echo $(ls -d /bin)`, {
      stdout: 'pipe',
    });
    await container.start(process);
    assert.equal(await text(process.stdout ?? assert.fail()), '/bin\n');
  },
);

test("row 36: a file of the host that was given to read stays its owner's", root, async t => {
  const on = await fixture(t);
  const directory = makeDirectory(t);
  const [input, output] = [join(directory, 'in'), join(directory, 'out')];
  for (const path of [input, output]) writeFileSync(path, '');
  const [read, write] = [openSync(input, 'r'), openSync(output, 'w')];
  t.after(() => [read, write].map(closeSync));
  const container = await on.create();
  const process = on.sh('echo evil 2>&1 > /proc/self/fd/0; echo fine > /proc/self/fd/1', {
    user: { uid: 1000 },
    stdin: read,
    stdout: write,
  });
  await container.run(process);
  assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
  await container.destroy();
  assert.deepEqual([statSync(input).uid, readFileSync(input, 'utf8')], [0, '']);
  assert.match(readFileSync(output, 'utf8'), /fine\n$/);
});

test('row 13: GHSA-g54h: a device that no rule allows is denied, its node may be made', root, async t => {
  const all = ['CAP_MKNOD'];
  const on = await fixture(t, {
    patch: spec => {
      const rule = { allow: true, type: 'c', major: 1, minor: 8, access: 'r' };
      spec.linux.resources = { devices: [rule] };
      return spec;
    },
  });
  const output = await on.output(
    // Of a kind that no driver has: where the rules let it through, it is another error. (Memory needs a capability anyway.)
    'mknod /dev/none c 240 7; mknod /dev/mem c 1 1; for d in none mem; do head -c1 /dev/$d 2>&1; done; head -c1 /dev/random | wc -c',
    { capabilities: { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] } },
  );
  assert.equal(
    output,
    'head: /dev/none: Operation not permitted\nhead: /dev/mem: Operation not permitted\n1\n',
  );
});

test(
  'row 16: CVE-2021-43784: names longer than any buffer are refused, and leave nothing',
  anyone,
  async t => {
    const long = `/${'x/'.repeat(35_000)}`;
    const patches: ((spec: SpecDocument) => SpecDocument)[] = [
      spec => ({
        ...spec,
        linux: {
          ...spec.linux,
          namespaces: [{ type: 'mount' }, { type: 'uts' }, { type: 'network', path: long }],
        },
      }),
      spec => withMount(spec, long, 'tmpfs', 'tmpfs'),
      spec => ({ ...spec, linux: { ...spec.linux, maskedPaths: [long] } }),
      spec => ({ ...spec, process: { ...spec.process, cwd: long } }),
      spec => ({ ...spec, process: { ...spec.process, args: [long] } }),
      spec => ({ ...spec, hostname: long }),
    ];
    for (const [index, patch] of patches.entries()) {
      const run = async () => {
        const on = await fixture(t, { patch });
        await (await on.create()).run(on.process());
      };
      // A crash of init would be a refusal, too. What it left in its state root would fail the test at its end.
      await assert.rejects(run, { code: /^ERR_(?!INIT_DIED)/ }, `patch ${index}`);
    }
  },
);

test('row 26, N4: CVE-2022-0811: only whole names of namespaced sysctls', anyone, async t => {
  for (const name of [
    'kernel.core_pattern',
    'net/../kernel/sysrq',
    'net.ipv4/../../kernel/sysrq',
    'kernel.shm_rmid_forced+x',
  ])
    await assert.rejects(
      async () => {
        const on = await fixture(t, {
          patch: spec => ({ ...spec, linux: { ...spec.linux, sysctl: { [name]: '0' } } }),
        });
        await (await on.create()).run(on.process());
      },
      { code: /^ERR_/ },
      name,
    );
});

test("row 29: exec into a cgroup that only begins like one below the container's", root, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  for (const path of ['..', `../${container.id}2`, '/x/../..', 'x/../../..', `../${container.id}/../y`])
    await assert.rejects(
      container.start(on.process({ subCgroups: { '': path } })),
      { code: 'ERR_CGROUP' },
      path,
    );
  await container.destroy({ force: true });
});

test('row 39, faults 22: links and foreign files in the state root are no containers', root, async t => {
  const canary = makeCanary(t);
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const record = readFileSync(join(container.directory, 'state.json'), 'utf8');
  const planted = makeStateRoot(t);
  const write = (id: string, directory: string): string => {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'state.json'), record.replaceAll(container.id, id), { mode: 0o600 });
    return join(directory, 'state.json');
  };
  const elsewhere = makeDirectory(t);
  write('directory', join(elsewhere, 'directory'));
  symlinkSync(join(elsewhere, 'directory'), join(planted, 'directory'));
  mkdirSync(join(planted, 'file'));
  symlinkSync(write('file', join(elsewhere, 'file')), join(planted, 'file/state.json'));
  const foreign = write('foreign', join(planted, 'foreign'));
  chownSync(foreign, 1000, 1000);
  chmodSync(foreign, 0o644);
  symlinkSync(canary.path, join(planted, 'canary'));
  const factory = new LinuxFactory({ root: planted });
  for (const id of ['directory', 'file', 'foreign', 'canary']) {
    await assert.rejects(factory.load(id), { code: /^ERR_(STATE_CORRUPT|CONTAINER_NOT_EXIST)$/ }, id);
    await assert.rejects(factory.create(id, on.config), { code: 'ERR_CONTAINER_EXISTS' }, id);
    await factory.destroy(id, { force: true });
  }
  assert.equal(await container.status(), 'running', 'what the planted records name is alive');
  assert.deepEqual(readdirSync(elsewhere).sort(), ['directory', 'file']);
  canary.check();
  for (const id of ['..', '.', 'a/b', '../x', '-x', 'a\n', 'x'.repeat(256)])
    await assert.rejects(
      factory.destroy(id, { force: true }),
      { code: 'ERR_ID_INVALID' },
      JSON.stringify(id),
    );
  for (const id of readdirSync(planted)) rmSync(join(planted, id), { recursive: true });
  await container.destroy({ force: true });
});

test('row 34, N6: CVE-2026-84042, CVE-2025-23266: hooks get nothing of the container', anyone, async t => {
  const seen = join(makeDirectory(t), 'seen');
  const hook = {
    path: '/bin/sh',
    args: ['sh', '-c', `{ pwd; env | grep -E "LD_|GLIBC"; } >> ${seen}; true`],
  };
  const on = await fixture(t, {
    writable: true,
    process: { env: ['PATH=/bin', 'LD_PRELOAD=/evil.so', 'GLIBC_TUNABLES=evil'] },
    patch: spec => ({
      ...spec,
      hooks: { createRuntime: [hook], createContainer: [hook], poststart: [hook] },
    }),
  });
  writeFileSync(join(on.bundle, 'rootfs/evil.so'), 'evil');
  await on.output('true');
  assert.equal(readFileSync(seen, 'utf8'), `${on.bundle}\n/\n${on.bundle}\n`);
});

harnessTest('every row of the catalogue has a test here, or a reason', () => {
  const rows = [
    ...Array.from({ length: 44 }, (_, index) => String(index + 1)),
    ...Array.from({ length: 8 }, (_, index) => `N${index + 1}`),
  ];
  const named = names.flatMap(name => /^row ([^:]+):/.exec(name)?.[1]?.split(', ') ?? []);
  const missing = rows.filter(row => !named.includes(row) && !(row in rowsElsewhere));
  assert.deepEqual(missing, []);
  assert.deepEqual(
    Object.keys(rowsElsewhere).filter(row => named.includes(row)),
    [],
    'has a test by now',
  );
});
