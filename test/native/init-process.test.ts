import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readlinkSync, readSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HookCommand, Step } from '../../lib/plan/steps.ts';
import { test } from '../harness/test.ts';
import {
  execute,
  failure,
  inside,
  makeRootfs,
  mount,
  openRootfs,
  proc,
  refuse,
  scene,
  shell,
  start,
} from './init-run.ts';
import { addon } from './stand-in.ts';

const root = { requires: ['root'] } as const;

const inRootfs = (rootfs: string, ...steps: Step[]): Step[] => [
  ...openRootfs(rootfs),
  ...steps,
  { kind: 'pivotRoot' },
  ...execute('/bin/true'),
];

test('a working directory outside of the root is refused', root, async t => {
  const { rootfs, canary } = scene(t);
  const fd = addon().open(canary, 0o200000, 0);
  t.after(() => addon().close(fd));
  const at = (path: string): Step[] => [
    ...openRootfs(rootfs),
    proc,
    { kind: 'pivotRoot' },
    { kind: 'cwd', path, beforeUser: true },
    { kind: 'cwd', path, beforeUser: false },
    ...execute('/bin/true'),
  ];
  const outside = await failure(at('/proc/self/fd/3'), { preserved: [fd] });
  assert.deepEqual([outside.step, outside.reason, outside.syscall], ['cwd', 'ERR_CWD', 'getcwd']);
  const missing = await failure(at('/missing'));
  assert.deepEqual([missing.reason, missing.errno], ['ERR_CWD', 2]);
  const output = await inside(
    rootfs,
    [],
    [
      { kind: 'makeCwd', path: '/srv/deep', uid: 5, gid: 6 },
      { kind: 'cwd', path: '/srv/deep', beforeUser: false },
    ],
    'stat -c "%u %g" .; readlink /proc/self/cwd',
  );
  assert.equal(output, '5 6\n/srv/deep\n');
});

test('user, groups, capabilities and HOME', root, async t => {
  const { rootfs } = scene(t);
  // A name that looks like the number comes first: a number is a uid, never a name (CVE-2016-3697).
  writeFileSync(
    join(rootfs, 'etc/passwd'),
    `1000:x:0:0::/wrong:/bin/sh\n${'y'.repeat(70_000)}\nuser:x:1000:1000::/home/user:/bin/sh\n`,
  );
  const after: Step[] = [
    { kind: 'bounding', mask: 0x420n },
    { kind: 'user', uid: 1000, gid: 1001, groups: [0, 5, 70000], skipSetgroups: false, keepStdioOwner: true },
    { kind: 'capabilities', effective: 0x20n, permitted: 0x420n, inheritable: 0x20n, ambient: 0x20n },
  ];
  const run = start([
    ...openRootfs(rootfs),
    proc,
    { kind: 'pivotRoot' },
    ...after,
    { kind: 'findExecutable', name: 'sh', searchPath: '/bin' },
    {
      kind: 'exec',
      args: ['sh', '-c', 'grep -E "^(Uid|Gid|Groups|Cap)" /proc/self/status; echo $HOME'],
      env: ['HOME=', 'PATH=/bin'],
      setHome: true,
      preservedFds: 0,
    },
  ]);
  const output = (await run.output()).replaceAll('\t', ' ');
  assert.deepEqual(
    run.events.filter(event => event.type === 'failed'),
    [],
  );
  assert.match(output, /^Uid: 1000 1000 1000 1000$/m);
  assert.match(output, /^Gid: 1001 1001 1001 1001$/m);
  assert.match(output, /^Groups: 0 5 70000 $/m);
  assert.match(output, /^CapInh: 0000000000000020$/m);
  assert.match(output, /^CapEff: 0000000000000020$/m);
  assert.match(output, /^CapBnd: 0000000000000420$/m);
  assert.match(output, /^CapAmb: 0000000000000020$/m);
  assert.match(output, /^\/home\/user$/m);
});

test('hooks: state on stdin, output in the error, the whole group at the deadline', root, async t => {
  const { rootfs, beside } = scene(t);
  const hook = (script: string, timeoutMs = 0): HookCommand => ({
    path: '/bin/sh',
    args: ['sh', '-c', script],
    env: ['A=b'],
    inheritEnv: false,
    timeoutMs,
  });
  const plan = (...hooks: HookCommand[]): Step[] => [
    ...openRootfs(rootfs),
    { kind: 'ready' },
    { kind: 'hooks', phase: 'createContainer', hooks },
    { kind: 'pivotRoot' },
    ...execute('/bin/true'),
  ];
  const state = JSON.stringify({ id: 'x', annotations: { a: 'y'.repeat(70_000) } });
  const seen = join(beside, 'seen');
  const run = start(
    plan(hook(`cat > ${seen}; env >> ${seen}; ls /proc/self/fd >> ${seen}`), hook('exec true')),
    { readyState: state },
  );
  assert.deepEqual(await run.types(), ['ready', 'running', 'exit']);
  await run.close();
  const text = readFileSync(seen, 'utf8');
  assert.ok(text.startsWith(state));
  assert.match(text.slice(state.length), /A=b/);
  assert.doesNotMatch(text.slice(state.length), /HOME=/);

  const failed = await failure(plan(hook('exec true'), hook('echo oops >&2; exit 3')));
  assert.deepEqual([failed.step, failed.reason], ['hooks', 'ERR_HOOK']);
  assert.match(failed.detail, /createContainer hook #1 \/bin\/sh: exit status 3, output: oops/);
  const before = Date.now();
  const late = await failure(plan(hook('sleep 1000 & wait', 200)));
  assert.equal(late.reason, 'ERR_HOOK_TIMEOUT');
  assert.ok(Date.now() - before < 10_000);
  const absent = await failure(plan({ ...hook(''), path: '/no/such/hook' }));
  assert.match(absent.detail, /exit status 127, output: execve: errno 2/);
});

/** Until the last one has closed the terminal: EIO, pty(7). */
function readTerminal(fd: number): string {
  const parts: Buffer[] = [];
  try {
    for (;;) {
      const buffer = Buffer.alloc(4096);
      parts.push(buffer.subarray(0, readSync(fd, buffer)));
    }
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EIO');
  }
  return Buffer.concat(parts).toString();
}

test('a console is a terminal of the container, bound on /dev/console', root, async t => {
  const { rootfs, canary } = scene(t);
  const devpts = mount({
    type: 'devpts',
    source: 'devpts',
    target: '/dev/pts',
    data: 'newinstance,ptmxmode=0666,mode=0620,gid=5',
  });
  const console = {
    kind: 'console',
    rows: 33,
    columns: 111,
    uid: 1000,
    gid: 0,
    mount: true,
    plainNewlines: false,
  } as const satisfies Step;
  const shown = async (step: Step, script: string): Promise<string> => {
    const run = start([
      ...openRootfs(rootfs),
      proc,
      mount({ target: '/dev' }),
      devpts,
      { kind: 'pivotRoot' },
      step,
      ...shell(script),
    ]);
    const { fd, name } = await run.event('fd');
    assert.equal(name, 'console');
    const text = readTerminal(fd);
    addon().close(fd);
    await run.close();
    assert.deepEqual(
      run.events.filter(event => event.type === 'failed'),
      [],
    );
    return text;
  };
  const raw = await shown(
    console,
    'exec 2>&1; readlink /proc/self/fd/0; stat -c "%u %g %t" /dev/console; busybox stty size; busybox tty; echo tpgid $(busybox cut -d" " -f8 /proc/self/stat)',
  );
  assert.equal(raw.replaceAll('\r\n', '').includes('\n'), false);
  assert.equal(await shown({ ...console, plainNewlines: true }, 'echo a; printf "b\\r\\n"'), 'a\nb\r\n');
  const output = raw.replaceAll('\r', '');
  assert.match(output, /^\/dev\/pts\/0$/m);
  assert.match(output, /^1000 5 88$/m);
  assert.match(output, /^33 111$/m);
  assert.match(output, /^tpgid 1$/m);

  symlinkSync(join(canary, 'console'), join(rootfs, 'dev/console'));
  mkdirSync(join(rootfs, 'dev/pts'));
  const failed = await failure([
    ...openRootfs(rootfs),
    devpts,
    { kind: 'pivotRoot' },
    console,
    ...execute('/bin/true'),
  ]);
  assert.deepEqual([failed.step, failed.reason], ['console', 'ERR_ESCAPE']);
  const none = await failure([
    ...openRootfs(makeRootfs(t)),
    { kind: 'pivotRoot' },
    console,
    ...execute('/bin/true'),
  ]);
  assert.deepEqual([none.step, none.reason], ['console', 'ERR_CONSOLE']);
});

test('moveRoot and chroot; no full procfs of the host stays', root, async t => {
  const { rootfs } = scene(t);
  const moved = start([
    ...openRootfs(rootfs),
    proc,
    { kind: 'moveRoot' },
    ...shell('ls /; cat /proc/self/mountinfo'),
  ]);
  const output = await moved.output();
  assert.deepEqual(
    moved.events.filter(event => event.type === 'failed'),
    [],
  );
  assert.match(output, /^bin\ndev\netc\nold\nproc\nsys\ntmp\n/);
  assert.equal(output.match(/ - proc /g)?.length, 1);
  const changed = start([
    { kind: 'openRootfs', path: rootfs, bind: false, parentPropagation: 0 },
    { kind: 'chroot' },
    ...shell('ls /'),
  ]);
  assert.equal(await changed.output(), 'bin\ndev\netc\nold\nproc\nsys\ntmp\n');
});

test('sysctl: whole namespaced names only', root, async t => {
  const { rootfs } = scene(t);
  const job = { cloneFlags: 0x20000 | 0x20000000 | 0x8000000 | 0x40000000 };
  const set = (name: string): Step => ({ kind: 'sysctl', name, value: '4242' });
  assert.equal(
    await inside(
      rootfs,
      [],
      [set('kernel/msgmax'), set('net/ipv4/ip_unprivileged_port_start')],
      'cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start',
      job,
    ),
    '4242\n4242\n',
  );
  for (const name of ['kernel/../../self/oom_score_adj', '/kernel/msgmax', 'kernel//msgmax', '']) {
    const failed = await failure([set(name), ...execute('/bin/true')], job);
    assert.deepEqual([failed.step, failed.reason], ['sysctl', 'ERR_ESCAPE'], name);
  }
  assert.equal((await failure([set('no/such/name'), ...execute('/bin/true')], job)).errno, 2);
});

test('seccomp: the filter holds; a notifying one sends its descriptor', root, async t => {
  const { rootfs } = scene(t);
  const mkdirat = process.arch === 'arm64' ? 34 : 258;
  const mkdir = process.arch === 'arm64' ? 34 : 83;
  const output = await inside(
    rootfs,
    [],
    [{ kind: 'noNewPrivileges' }, refuse([mkdir, mkdirat], 42)],
    'busybox mkdir /tmp/x 2>&1; grep ^Seccomp: /proc/self/status',
  );
  assert.match(output, /No message of desired type[\s\S]*Seccomp:\s*2/);
  const wrong: Step = { kind: 'seccomp', program: new Uint8Array(7), flags: 0, notify: false };
  assert.equal((await failure(inRootfs(rootfs, wrong))).step, 'seccomp');
  const notify = { ...refuse([mkdirat], 42), notify: true } as Step;
  const run = start([...openRootfs(rootfs), { kind: 'pivotRoot' }, notify, ...execute('/bin/true')]);
  const { fd, name } = await run.event('fd');
  assert.equal(name, 'seccomp');
  assert.match(readlinkSync(`/proc/self/fd/${fd}`), /seccomp notify/);
  addon().close(fd);
  await run.close();
  assert.deepEqual(
    run.events.map(event => event.type),
    ['fd', 'running', 'exit'],
  );
});
