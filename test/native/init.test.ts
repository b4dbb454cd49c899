import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { encodePlan } from '../../lib/plan/encode.ts';
import type { Step } from '../../lib/plan/steps.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import {
  allNamespaces,
  execute,
  failure,
  makeRootfs,
  openRootfs,
  proc,
  repository,
  start,
  startBytes,
} from './init-run.ts';
import { addon } from './stand-in.ts';

const root = { requires: ['root'] } as const;
const small: Step[] = [
  { kind: 'hostname', name: 'abc' },
  { kind: 'umask', mask: 0o22 },
  ...execute('/bin/true'),
];
const encoded = (steps: Step[]) => Buffer.from(encodePlan({ steps, cloneFlags: 0 }));

/** What became of a plan that may be anything: never a crash of init. */
async function outcome(plan: Uint8Array): Promise<string> {
  const run = startBytes(plan, { cloneFlags: allNamespaces });
  // A waitStart or sync that a flipped bit made would wait for ever.
  const parked = eventually('an end or a wait', () =>
    run.events.some(e => ['waiting', 'sync', 'exit', 'failed'].includes(e.type)),
  );
  await parked;
  if (run.events.some(event => event.type === 'waiting' || event.type === 'sync')) run.handle.abort();
  await run.close();
  const exit = run.events.at(-1);
  assert.ok(exit?.type === 'exit', inspect(run.events));
  const failed = run.events.find(event => event.type === 'failed');
  // SIGKILL is our own abort; a crash would be SIGSEGV, SIGBUS or SIGABRT.
  if (exit.kind === 'signaled') assert.equal(exit.status, 9, inspect(run.events));
  return failed?.type === 'failed' ? `${failed.step}: ${failed.detail}` : exit.kind;
}

test('the init executable is static and at most 96 KiB', () => {
  const path = join(repository(), 'build/init/init');
  assert.ok(statSync(path).size <= 98304, `${statSync(path).size}`);
  assert.ok(!readFileSync(path).includes('ld-musl'));
});

test('a plan runs: names set, program executed, durations for each step', root, async () => {
  const run = start(small, { cloneFlags: allNamespaces });
  const running = await run.event('running');
  // The exec step itself has none yet.
  assert.equal(running.durationsNs.length, small.length - 1);
  assert.ok(running.durationsNs.every(ns => ns >= 0 && ns < 60e9));
  await run.close();
  assert.deepEqual(run.events.at(-1), { type: 'exit', kind: 'exited', status: 0, coreDumped: false });
});

test('a plan cut off at any byte is refused before its first step', root, async () => {
  const plan = encoded(small);
  for (let size = 1; size < plan.length; size++) {
    const said = await outcome(plan.subarray(0, size));
    // At a border of steps the plan is well formed, but has no exec.
    assert.match(
      said,
      /^plan: (the plan is malformed|the plan has no exec step)$/,
      `${size} of ${plan.length}`,
    );
  }
});

test('lengths that lie are refused', root, async () => {
  const varint = (value: bigint): Buffer => {
    const bytes: number[] = [];
    for (; value > 0x7fn; value >>= 7n) bytes.push(Number(value & 0x7fn) | 0x80);
    return Buffer.from([...bytes, Number(value)]);
  };
  const tail = Buffer.alloc(64, 0x41);
  for (const power of [15n, 16n, 31n, 32n, 63n]) {
    for (const length of [2n ** power - 1n, 2n ** power, 2n ** power + 1n]) {
      // The plan's step, the step's message, the text in it: each with the length.
      const text = Buffer.concat([Buffer.from([0x0a]), varint(length), tail]);
      const message = Buffer.concat([Buffer.from([0xaa, 0x01]), varint(BigInt(text.length)), text]);
      const step = Buffer.concat([Buffer.from([0x0a]), varint(BigInt(message.length)), message]);
      for (const plan of [
        Buffer.concat([Buffer.from([0x0a]), varint(length), tail]),
        Buffer.concat([Buffer.from([0x0a, 66, 0xaa, 0x01]), varint(length), tail]),
        step,
      ]) {
        assert.match(await outcome(plan), /^plan: .*malformed/);
      }
    }
  }
  // A varint without end, and one with bits past the 64th.
  assert.match(await outcome(Buffer.alloc(40, 0xff)), /^plan: the plan is malformed/);
  assert.match(
    await outcome(Buffer.from([0x08, ...Array(9).fill(0x80), 0x02])),
    /^plan: the plan is malformed/,
  );
});

test('unknown steps, NUL bytes in text, too many steps and too large a plan are refused', root, async () => {
  assert.match(await outcome(Buffer.from([0x0a, 0x03, 0xfa, 0x07, 0x00])), /unknown/);
  assert.match(
    await outcome(encoded([{ kind: 'hostname', name: 'a\0b' }, ...execute('/bin/true')])),
    /malformed/,
  );
  const many = Array.from({ length: 4097 }, (): Step => ({ kind: 'umask', mask: 0 }));
  assert.match(await outcome(encoded([...many, ...execute('/bin/true')])), /malformed/);
  const padding: Step = {
    kind: 'exec',
    args: ['/bin/true', 'x'.repeat(17 << 20)],
    env: [],
    setHome: false,
    preservedFds: 0,
  };
  assert.match(await outcome(encoded([padding])), /size of the plan/);
});

test('random damage never crashes init', { ...root, timeoutMs: 120_000 }, async t => {
  const rootfs = makeRootfs(t);
  const plan = encoded([...openRootfs(rootfs), proc, { kind: 'pivotRoot' }, ...small]);
  // A generator with a fixed seed: a failure can be had again.
  let seed = 20261121;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * limit);
  };
  for (let round = 0; round < 150; round++) {
    const damaged = Buffer.from(plan);
    // Only behind the steps that keep mounts from reaching the host.
    const safe = encoded(openRootfs(rootfs)).length;
    for (let flips = 0; flips <= random(4); flips++) {
      const at = safe + random(damaged.length - safe);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << random(8));
    }
    await outcome(damaged);
  }
});

test('every fault mode at a step does what it says', root, async t => {
  const fault = (mode: 'error' | 'exit' | 'stop', occurrence = 0) =>
    start(
      [{ kind: 'umask', mask: 1 }, ...small],
      { cloneFlags: allNamespaces },
      { step: 'umask', mode, occurrence },
    );

  const error = fault('error', 1);
  const failed = await error.event('failed');
  assert.deepEqual(
    [failed.stage, failed.step, failed.index, failed.syscall, failed.errno],
    ['init', 'umask', 2, 'fault', 5],
  );
  await error.close();

  const exit = fault('exit');
  assert.equal((await exit.event('failed')).stage, 'died');
  await exit.close();
  assert.deepEqual(exit.events.at(-1), { type: 'exit', kind: 'exited', status: 99, coreDumped: false });

  // Out of range: the plan runs as if there were none.
  const none = fault('error', 3);
  assert.deepEqual(await none.types(), ['running', 'exit']);
  await none.close();

  // Not in a pid namespace, where SIGSTOP of its own PID 1 has no effect.
  const stop = start(
    small,
    { cloneFlags: allNamespaces & ~0x20000000 },
    { step: 'hostname', mode: 'stop', occurrence: 0 },
  );
  t.after(() => stop.handle.abort());
  const pidfd = await eventually('a pidfd', () => {
    const fd = stop.handle.pidfd();
    return fd >= 0 && fd;
  });
  const stat = () => readFileSync(`/proc/${pidOf(pidfd)}/stat`, 'utf8').split(') ')[1]?.[0];
  await eventually('init to stop', () => stat() === 'T');
  addon().close(pidfd);
  assert.equal(stop.handle.kill(18), true);
  assert.deepEqual(await stop.types(), ['running', 'exit']);
  await stop.close();
});

const pidOf = (pidfd: number) =>
  /^Pid:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'utf8'))?.[1];

test('the release build ignores faults', root, async () => {
  const plan = encodePlan({ steps: small, cloneFlags: 0 }, { step: 'umask', mode: 'error', occurrence: 0 });
  const run = startBytes(plan, { cloneFlags: allNamespaces, faults: false });
  assert.deepEqual(await run.types(), ['running', 'exit']);
  await run.close();
});

if (process.env.LC_INIT_VICTIM === '1') {
  start(small, { cloneFlags: allNamespaces }, { step: 'umask', mode: 'killParent', occurrence: 0 });
} else {
  test('killParent kills the process that started init', root, async () => {
    const victim = fork(process.argv[1] ?? '', {
      env: { ...process.env, LC_INIT_VICTIM: '1', LIBCONTAINER_TEST_FILTER: 'no such test' },
      stdio: 'ignore',
    });
    const [code, signal] = await within(once(victim, 'exit'), 'death of the victim');
    assert.deepEqual([code, signal], [null, 'SIGKILL']);
  });
}

test('init that loses its parent before the answer to ready ends', root, async () => {
  const run = start([{ kind: 'ready' }, ...execute('/bin/busybox', 'sleep', '100')], {
    cloneFlags: allNamespaces,
    askReady: true,
  });
  await run.event('ready');
  run.handle.abort();
  assert.equal((await run.end()).at(-1)?.type, 'exit');
  await run.close();
});

test('signal dispositions, mask, session and descriptors of the program are clean', root, async t => {
  const rootfs = makeRootfs(t);
  const script = 'grep ^Sig /proc/self/status; ls /proc/$$/fd; cat /proc/self/stat';
  const run = start([
    ...openRootfs(rootfs),
    proc,
    { kind: 'pivotRoot' },
    ...execute('/bin/sh', '-c', script),
  ]);
  const output = await run.output();
  assert.match(output, /^SigBlk:\s*0+$/m);
  assert.match(output, /^SigIgn:\s*0+$/m);
  assert.deepEqual(output.match(/^\d+$/gm), ['0', '1', '2']);
  const stat = output.trim().split('\n').at(-1)?.split(' ') ?? [];
  // The session is that of PID 1.
  assert.equal(stat[5], '1');
});

test(
  'a namespace file of another kind is refused by name, and of the right kind is joined',
  root,
  async () => {
    const wrong = await failure([{ kind: 'setns', type: 0x40000000, path: '/proc/self/ns/uts' }, ...small]);
    assert.deepEqual([wrong.step, wrong.reason, wrong.syscall], ['setns', 'ERR_NAMESPACE_KIND', 'ioctl']);
    const regular = await failure([{ kind: 'setns', type: 0x40000000, path: '/etc/passwd' }, ...small]);
    assert.equal(regular.reason, 'ERR_NAMESPACE_KIND');
    const uts = start(
      [
        { kind: 'setns', type: 0x4000000, path: `/proc/${process.pid}/ns/uts` },
        ...execute('/bin/readlink', '/proc/self/ns/uts'),
      ],
      { cloneFlags: 0x20000 },
    );
    assert.equal((await uts.output()).trim(), readlinkSync('/proc/self/ns/uts'));
  },
);

test('waitStart by fifo and by release', root, async t => {
  const rootfs = makeRootfs(t);
  const fifo = join(rootfs, '..', 'exec.fifo');
  await addon().files([{ op: 'mkfifo', path: fifo, mode: 0o622, uid: 0, gid: 0 }], true);
  const O_PATH = 0x200000;
  const steps = (wait: Step): Step[] => [
    ...openRootfs(rootfs),
    proc,
    { kind: 'pivotRoot' },
    { kind: 'user', uid: 1000, gid: 1000, groups: [], skipSetgroups: false, keepStdioOwner: true },
    wait,
    ...execute('/bin/id', '-u'),
  ];
  const byFifo = start(steps({ kind: 'waitStart', fifoSlot: 0 }), { slots: [{ path: fifo, flags: O_PATH }] });
  await byFifo.event('waiting');
  assert.equal(
    byFifo.events.some(event => event.type === 'running'),
    false,
  );
  assert.equal(readFileSync(fifo, 'latin1'), '0');
  assert.equal((await byFifo.output()).trim(), '1000');

  const byRelease = start(steps({ kind: 'waitStart' }));
  await byRelease.event('waiting');
  byRelease.handle.release();
  assert.equal((await byRelease.output()).trim(), '1000');
});

test('why a program cannot run is told by reason', root, async t => {
  const rootfs = makeRootfs(t);
  const file = (name: string, content: string | Buffer, mode = 0o755) =>
    writeFileSync(join(rootfs, name), content, { mode });
  file('bin/plain', 'text', 0o644);
  file('bin/script', '#!/bin/nothing\n');
  file('bin/crlf', '#!/bin/sh\r\necho\r\n');
  file('bin/noshebang', 'echo hello\n');
  const busybox = readFileSync(join(rootfs, 'bin/busybox'));
  const foreign = Buffer.from(busybox);
  foreign.writeUInt16LE(0xf00d, 18);
  file('bin/foreign', foreign);
  file('bin/dynamic', dynamicElf('/lib/nothing.so'));
  symlinkSync('/nowhere', join(rootfs, 'bin/dangling'));
  const reason = async (name: string, wait: boolean): Promise<string[]> => {
    const steps: Step[] = [
      ...openRootfs(rootfs),
      { kind: 'pivotRoot' },
      { kind: 'findExecutable', name, searchPath: '/bin:/usr/bin' },
    ];
    if (wait) steps.push({ kind: 'waitStart' });
    steps.push({ kind: 'exec', args: [name], env: [], setHome: false, preservedFds: 0 });
    const failed = await failure(steps);
    return [failed.step, failed.reason];
  };
  const expected: [string, string, boolean][] = [
    ['nothing', 'ERR_EXEC_NOT_FOUND', true],
    ['/bin/nothing', 'ERR_EXEC_NO_FILE', true],
    ['/bin/dangling', 'ERR_EXEC_NO_FILE', true],
    ['/bin/sh/x', 'ERR_EXEC_NO_FILE', true],
    ['/bin', 'ERR_EXEC_PERMISSION', true],
    ['plain', 'ERR_EXEC_PERMISSION', true],
    ['/bin/plain', 'ERR_EXEC_PERMISSION', true],
    ['script', 'ERR_EXEC_INTERPRETER', false],
    ['/bin/crlf', 'ERR_EXEC_INTERPRETER', false],
    ['noshebang', 'ERR_EXEC_FORMAT', false],
    ['foreign', 'ERR_EXEC_FORMAT', false],
    ['dynamic', 'ERR_EXEC_INTERPRETER', false],
  ];
  for (const [name, code, early] of expected) {
    assert.deepEqual(await reason(name, false), [early ? 'findExecutable' : 'exec', code], name);
    // Text without #! is only known by execve.
    if (name !== 'noshebang')
      assert.deepEqual(await reason(name, true), ['findExecutable', code], `${name}, created`);
  }
});

/** An x86-64 or arm64 ELF executable with nothing but a PT_INTERP segment. */
function dynamicElf(interpreter: string): Buffer {
  const elf = Buffer.alloc(64 + 56 + interpreter.length + 1);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(process.arch === 'arm64' ? 183 : 62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(3, 64);
  elf.writeBigUInt64LE(120n, 72);
  elf.writeBigUInt64LE(BigInt(interpreter.length + 1), 96);
  elf.write(interpreter, 120);
  return elf;
}
