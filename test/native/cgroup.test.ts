import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, text } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { addon, Run } from './stand-in.ts';

/** Where cgroup2 is mounted; on a hybrid host it carries few controllers, but device programs and clone3 work there. */
function unified(): string | undefined {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    if (after.startsWith('cgroup2 ')) return before.split(' ')[4];
  }
  return undefined;
}

function cgroup(t: TestContext): string | undefined {
  const mount = unified();
  if (mount === undefined) {
    t.skip('no cgroup2 mount');
    return undefined;
  }
  const path = join(mount, `lc-native-${process.pid}-${Date.now()}`);
  mkdirSync(path);
  t.after(() => {
    if (existsSync(path)) rmdirSync(path);
  });
  return path;
}

/** `struct bpf_insn`s: code, registers, offset, immediate. */
function instructions(
  ...rows: readonly (readonly [code: number, registers: number, offset: number, immediate: number])[]
) {
  const program = Buffer.alloc(rows.length * 8);
  for (const [i, [code, registers, offset, immediate]] of rows.entries()) {
    program.writeUInt8(code, i * 8);
    program.writeUInt8(registers, i * 8 + 1);
    program.writeInt16LE(offset, i * 8 + 2);
    program.writeInt32LE(immediate, i * 8 + 4);
  }
  return program;
}
/** Allows (1) or denies (0) everything: r0 = value; exit. */
const always = (value: 0 | 1) => instructions([0xb7, 0, 0, value], [0x95, 0, 0, 0]);
/** Denies minor 5 (/dev/zero) only: r2 = ctx->minor; r0 = 1; if r2 != 5 goto +1; r0 = 0; exit. */
const notZero = instructions(
  [0x61, 0x12, 8, 0],
  [0xb7, 0, 0, 1],
  [0x55, 2, 1, 5],
  [0xb7, 0, 0, 0],
  [0x95, 0, 0, 0],
);
/** Allows minor 3 (/dev/null) only. */
const onlyNull = instructions(
  [0x61, 0x12, 8, 0],
  [0xb7, 0, 0, 0],
  [0x55, 2, 1, 3],
  [0xb7, 0, 0, 1],
  [0x95, 0, 0, 0],
);

const EPERM = 1;
test('clone3 puts the child into its cgroup', { requires: ['root'] }, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  const run = new Run(['cat /proc/self/cgroup', 'exit 0'], { cgroup: path });
  assert.match(await run.output(), new RegExp(`^0::.*/${path.split('/').at(-1)}$`, 'm'));
});

test('a device program is attached, replaced by the next one, and taken away with its cgroup', {
  proves: ['linux.resources.devices'],
  trap: 18,
  requires: ['root'],
}, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  const attach = (program: Uint8Array) => addon().files([{ op: 'deviceProgram', path, program }], true);
  const opened = async () => {
    const run = new Run(['open /dev/null', 'open /dev/zero', 'exit 0'], { cgroup: path });
    return (await run.output()).trim().split('\n');
  };
  assert.deepEqual(await opened(), ['/dev/null 0', '/dev/zero 0']);
  await attach(always(0));
  assert.deepEqual(await opened(), [`/dev/null ${EPERM}`, `/dev/zero ${EPERM}`]);
  // Were the former one still there, all would be denied: every program must allow.
  await attach(notZero);
  assert.deepEqual(await opened(), ['/dev/null 0', `/dev/zero ${EPERM}`]);
  await attach(always(1));
  assert.deepEqual(await opened(), ['/dev/null 0', '/dev/zero 0']);
});

test('while a device program is replaced there is no moment without rules', {
  proves: ['linux.resources.devices'],
  requires: ['root'],
}, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  const attach = (program: Uint8Array) => addon().files([{ op: 'deviceProgram', path, program }], true);
  const stop = join(makeDirectory(t), 'stop');
  await attach(notZero);
  const script =
    'echo 0 >"$1/cgroup.procs"; n=0; while [ ! -e "$2" ]; do true </dev/zero && echo opened; true </dev/null || echo refused; n=$((n + 1)); done 2>/dev/null; echo $n';
  const child = spawn('/bin/sh', ['-c', script, 'sh', path, stop], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const output = text(child.stdout);
  await eventually('it is in the cgroup', () => readFileSync(join(path, 'cgroup.procs'), 'utf8') !== '');
  for (let round = 0; round < 50; round += 1) await attach(round % 2 === 0 ? onlyNull : notZero);
  writeFileSync(stop, '');
  // The number of tries alone.
  assert.match(await output, /^[1-9]\d+\n$/);
});

test('a device program that the verifier refuses is an error with its words, and the former one stays', {
  requires: ['root'],
}, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  await addon().files([{ op: 'deviceProgram', path, program: notZero }], true);
  // exit without r0.
  const bad = instructions([0x95, 0, 0, 0]);
  await assert.rejects(
    addon().files([{ op: 'deviceProgram', path, program: bad }], true),
    (error: NodeJS.ErrnoException) => {
      assert.equal(error.syscall, 'bpf');
      assert.equal(error.code, 'EACCES');
      assert.match(error.message, /R0 !read_ok/);
      return true;
    },
  );
  await assert.rejects(addon().files([{ op: 'deviceProgram', path, program: Buffer.alloc(7) }], true), {
    code: 'EINVAL',
  });
  const run = new Run(['open /dev/zero', 'exit 0'], { cgroup: path });
  assert.equal(await run.output(), `/dev/zero ${EPERM}\n`);
});

/** Loads `r0 = 0; exit` and attaches it so many times to a cgroup, as other managers do (BPF_F_ALLOW_MULTI). */
const attachDenials = `
use strict;
my ($cgroup, $count) = @ARGV;
opendir(my $directory, $cgroup) or die "$cgroup: $!";
my $bpf = $^V && \`uname -m\` =~ /aarch64/ ? 280 : 321;
my $program = pack('CCsl CCsl', 0xb7, 0, 0, 0, 0x95, 0, 0, 0);
my $license = "Apache\\0";
for (1 .. $count) {
  my $load = pack('L L Q Q', 15, 2, unpack('Q', pack('P', $program)), unpack('Q', pack('P', $license)));
  $load .= "\\0" x (144 - length $load);
  my $fd = syscall($bpf, 5, $load, 144);
  die "BPF_PROG_LOAD: $!" if $fd < 0;
  my $attach = pack('L L L L', fileno($directory), $fd, 6, 2);
  $attach .= "\\0" x (144 - length $attach);
  die "BPF_PROG_ATTACH: $!" if syscall($bpf, 8, $attach, 144) < 0;
}
`;

test('a cgroup with several device programs, of others too, has one afterwards', {
  requires: ['root', 'file:/usr/bin/perl'],
}, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  const opened = async () => {
    const run = new Run(['open /dev/null', 'open /dev/zero', 'exit 0'], { cgroup: path });
    return (await run.output()).trim().split('\n');
  };
  for (const count of [1, 3]) {
    const perl: { readonly status: number | null; readonly stderr: string } = spawnSync(
      '/usr/bin/perl',
      ['-e', attachDenials, path, String(count)],
      { encoding: 'utf8' },
    );
    assert.equal(perl.status, 0, perl.stderr);
    assert.deepEqual(await opened(), [`/dev/null ${EPERM}`, `/dev/zero ${EPERM}`]);
    // All of them must allow: one that stayed would be seen.
    await addon().files([{ op: 'deviceProgram', path, program: notZero }], true);
    assert.deepEqual(await opened(), ['/dev/null 0', `/dev/zero ${EPERM}`], `${count} programs before`);
  }
});

test('a child that is born in a frozen cgroup holds up nobody, and can be killed', {
  requires: ['root'],
}, async t => {
  const path = cgroup(t);
  if (path === undefined) return;
  const freeze = join(path, 'cgroup.freeze');
  const script = ['send R', 'expect G', 'send X', 'close', 'exit 6'];
  writeFileSync(freeze, '1');
  const stuck = new Run(script, { cgroup: path });
  const killed = new Run(script, { cgroup: path });
  await new Run(script).close();
  killed.handle.abort();
  assert.deepEqual(await killed.types(), ['exit']);
  assert.deepEqual(stuck.events, []);
  writeFileSync(freeze, '0');
  assert.deepEqual(await stuck.types(), ['ready', 'running', 'exit']);
  for (const run of [stuck, killed]) await run.close();
});
