import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { addon, descriptors, Run, standInPath } from './stand-in.ts';

const CLONE_NEWPID = 0x20000000;
const CLONE_NEWUTS = 0x04000000;
/** Waiting and Executing: durations 5 and 300. */
const durations = '\\x0a\\x03\\x05\\xac\\x02';
const complete = ['send R', 'expect G', `send X${durations}`, 'close', 'exit 0'];

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lc-spawn-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs all of `work` and expects the descriptors of this process to be the same after it. */
async function withoutLeak(work: () => Promise<void>): Promise<void> {
  // The first job starts the thread and seals init: its descriptors stay.
  await new Run(['exit 0']).close();
  const before = descriptors();
  await work();
  await eventually('the same descriptors as before', () => {
    const now = descriptors();
    return [...now].every(([fd, target]) => before.get(fd) === target) && now.size === before.size;
  }).catch((error: unknown) => {
    assert.fail(`${error}\nbefore ${[...before].join(' ')}\nafter ${[...descriptors()].join(' ')}`);
  });
}

test('events of a run come in order with pid, start time and durations', async () => {
  const run = new Run(complete);
  const running = await run.event('running');
  const events = await run.end();
  assert.deepEqual(
    events.map(event => event.type),
    ['ready', 'running', 'exit'],
  );
  assert.deepEqual(running.durationsNs, [5, 300]);
  assert.ok(running.pid > 1);
  assert.ok(running.startTime > 0n);
  assert.deepEqual(events[2], { type: 'exit', kind: 'exited', status: 0, coreDumped: false });
  assert.equal(await run.output(), 'G\n');
});

test('exit codes and signals are told apart', async () => {
  const exited = new Run(['exit 42']);
  const killed = new Run(['kill 9']);
  assert.deepEqual((await exited.end()).at(-1), {
    type: 'exit',
    kind: 'exited',
    status: 42,
    coreDumped: false,
  });
  assert.deepEqual((await killed.end()).at(-1), {
    type: 'exit',
    kind: 'signaled',
    status: 9,
    coreDumped: false,
  });
  await exited.close();
  await killed.close();
});

test('init that dies without a word is `died`, then `exit`', async () => {
  const run = new Run(['send R', 'expect G', 'kill 9']);
  const failed = await run.event('failed');
  assert.deepEqual([failed.stage, failed.index, failed.errno], ['died', -1, 0]);
  assert.deepEqual(await run.types(), ['ready', 'failed', 'exit']);
  await run.close();
});

test('what init reports as failed reaches JavaScript unchanged', async () => {
  // index 3, step "mount", syscall "mount", args "a", errno 1 (zigzag), reason "R", detail "d"
  const frame = 'E\\x08\\x03\\x12\\x05mount\\x1a\\x05mount\\x22\\x01a\\x28\\x02\\x32\\x01R\\x3a\\x01d';
  const run = new Run([`send ${frame}`, 'exit 1']);
  assert.deepEqual(await run.event('failed'), {
    type: 'failed',
    stage: 'init',
    index: 3,
    step: 'mount',
    syscall: 'mount',
    args: 'a',
    errno: 1,
    reason: 'R',
    detail: 'd',
  });
  assert.deepEqual(await run.types(), ['failed', 'exit']);
  await run.close();
});

test('what init says last is heard though it ends with an answer unread', async () => {
  // The kernel tells of the reset (ECONNRESET) before it hands out what was sent ahead of it.
  for (let round = 0; round < 50; round++) {
    const run = new Run(['send S\\x0a\\x01x', 'peek', 'send E\\x08\\x03\\x12\\x05mount', 'exit 1']);
    await run.event('sync');
    run.handle.answer('');
    assert.equal((await run.event('failed')).step, 'mount');
    assert.deepEqual(await run.types(), ['sync', 'failed', 'exit']);
    await run.close();
  }
});

test('a frame that is cut off, too long inside or of unknown type ends the child', async () => {
  for (const frame of [
    'E\\x12\\x7fx',
    'X\\x0a\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff',
    'Q',
    'S\\x0f',
  ]) {
    const run = new Run([`send ${frame}`, 'pause']);
    const failed = await run.event('failed');
    assert.equal(failed.errno, 74, frame);
    assert.deepEqual((await run.end()).at(-1), {
      type: 'exit',
      kind: 'signaled',
      status: 9,
      coreDumped: false,
    });
    await run.close();
  }
});

test('sync and an asked ready wait for the answer of JavaScript; the state arrives whole', async () => {
  const run = new Run(
    ['send S\\x0a\\x0dcreateRuntime', 'expect G', 'send R', 'expect G', 'send X', 'close', 'exit 0'],
    { askReady: true },
  );
  const sync = await run.event('sync');
  assert.equal(sync.name, 'createRuntime');
  assert.equal(sync.startTime, addon().startTime(sync.pid));
  run.handle.answer('x'.repeat(5000));
  await run.event('ready');
  run.handle.answer('{"status":"created"}');
  assert.deepEqual(await run.types(), ['sync', 'ready', 'running', 'exit']);
  const output = await run.output();
  assert.ok(output.includes(`${'x'.repeat(5000)}\n`));
  assert.ok(output.includes('{"status":"created"}\n'));
});

test('the spawner answers ready with the state, @PID@ replaced, after it wrote the state file', async t => {
  const at = scratch(t);
  const stateFile = {
    path: `${at}/state.json`,
    text: ['{"pid":', ',"start":"', '"}'],
    mode: 0o600,
    sync: true,
  } as const;
  const run = new Run(complete, { stateFile, askReady: false, readyState: '{"pid":@PID@,"again":@PID@}' });
  const { pid, startTime } = await run.event('ready');
  await run.end();
  assert.equal(readFileSync(stateFile.path, 'utf8'), `{"pid":${pid},"start":"${startTime}"}`);
  assert.equal(statSync(stateFile.path).mode & 0o7777, 0o600);
  assert.ok((await run.output()).endsWith(`{"pid":${pid},"again":${pid}}\n`));
});

test('a state file that cannot be written ends the child before it may go on', async t => {
  const path = `${scratch(t)}/none/state.json`;
  const run = new Run(complete, { stateFile: { path, text: ['', '', ''], mode: 0o600, sync: false } });
  const failed = await run.event('failed');
  assert.deepEqual(
    [failed.stage, failed.step, failed.syscall, failed.errno],
    ['init', 'stateFile', 'open', 2],
  );
  assert.deepEqual(await run.types(), ['failed', 'exit']);
  assert.equal(await run.output(), '');
});

test('waitStart via pipe: waiting, then release', async () => {
  const run = new Run(['send R', 'expect G', `send W${durations}`, 'expect L', 'send X', 'close', 'exit 0']);
  const waiting = await run.event('waiting');
  assert.deepEqual(waiting.durationsNs, [5, 300]);
  run.handle.release();
  assert.deepEqual(await run.types(), ['ready', 'waiting', 'running', 'exit']);
  await run.close();
});

test('the child sees its descriptors in the agreed layout and no others, whatever their numbers were', async () => {
  const script = ['fds', 'exit 0'];
  // Low numbers on purpose: stdio from 2, 1, 0 needs the detour over high ones.
  const [read, write] = addon().pipe();
  const leaked = openSync('/dev/full', 'r');
  const run = new Run(script, {
    preserved: [2, 0, read],
    slots: [write, { path: '/proc/self/status', flags: 0 }],
  });
  const rows = (await run.output())
    .trim()
    .split('\n')
    .map(line => line.split(' '));
  closeSync(leaked);
  addon().close(read);
  addon().close(write);
  assert.deepEqual(
    rows.map(row => Number(row[0])),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  const target = (fd: number) => rows[fd]?.[1] ?? '';
  assert.equal(target(3), target(2));
  assert.equal(target(4), target(0));
  assert.match(target(5), /^pipe:/);
  assert.match(target(6), /^socket:/);
  assert.match(target(7), /^\/memfd:libcontainer-plan/);
  assert.equal(target(8), target(5));
  assert.match(target(9), /^\/proc\/\d+\/status$/);
});

// What the host process ignores (Node: SIGPIPE) stays ignored over execve: init resets it.
test('signals: nothing is blocked or caught in the child', async () => {
  const run = new Run(['status', 'exit 0']);
  const output = await run.output();
  for (const field of ['SigBlk', 'SigCgt']) assert.match(output, new RegExp(`^${field}:\t0+$`, 'm'));
});

test('namespaces of cloneFlags are new, the events carry the pid of ours', {
  requires: ['root'],
}, async () => {
  const run = new Run(['status', 'exit 0'], { cloneFlags: CLONE_NEWPID | CLONE_NEWUTS });
  const output = await run.output();
  assert.match(output, /^NSpid:\t\d+\t1$/m);
});

test('pidNamespace: the child is born in it, and the next one is not', { requires: ['root'] }, async () => {
  const first = new Run(['send R', 'expect G', 'send W', 'expect L', 'exit 0'], { cloneFlags: CLONE_NEWPID });
  const { pid } = await first.event('waiting');
  const byPath = new Run(['status', 'exit 0'], { pidNamespace: `/proc/${pid}/ns/pid` });
  const outside = new Run(['status', 'exit 0']);
  assert.match(await byPath.output(), /^NSpid:\t\d+\t2$/m);
  assert.match(await outside.output(), /^NSpid:\t\d+$/m);
  first.handle.release();
  await first.close();
});

test('a job that fails before its child takes back its files and has no exit', async t => {
  const at = scratch(t);
  const before = [
    { op: 'mkdir', path: `${at}/c`, mode: 0o711, existing: 'error' },
    { op: 'put', path: `${at}/c/state.json`, data: '{}', mode: 0o600, sync: true },
  ] as const;
  const bad = new Run(complete, { before: [...before, { op: 'write', path: `${at}/x/y`, data: '' }] });
  const failed = await bad.event('failed');
  assert.deepEqual([failed.stage, failed.index, failed.step, failed.errno], ['prepare', 2, 'write', 2]);
  assert.deepEqual(await bad.types(), ['failed']);
  assert.ok(!existsSync(`${at}/c`));
  const noSlot = new Run(complete, { before, slots: [{ path: `${at}/none`, flags: 0 }] });
  assert.deepEqual((await noSlot.event('failed')).stage, 'spawn');
  assert.ok(!existsSync(`${at}/c`));
  const noClone = new Run(complete, { before, cgroup: '/tmp' });
  const clone = await noClone.event('failed');
  assert.deepEqual([clone.stage, clone.syscall, clone.reason], ['spawn', 'clone3', 'CLONE_INTO_CGROUP']);
  assert.ok(!existsSync(`${at}/c`));
  for (const run of [bad, noSlot, noClone]) await run.close();
});

test('an init that is no executable is a failure of execveat, without a zombie', async t => {
  addon().configure({ init: '/etc/passwd' });
  t.after(() => addon().configure({ init: standInPath() }));
  const run = new Run([]);
  const failed = await run.event('failed');
  assert.deepEqual([failed.stage, failed.syscall, failed.errno], ['spawn', 'execveat', 8]);
  assert.deepEqual(await run.types(), ['failed']);
  await run.close();
  assert.ok(
    !readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').includes(' '),
    'a child was left',
  );
});

test('the executable cannot be written by anybody who gets hold of it (CVE-2019-5736)', async () => {
  const run = new Run(['send R', 'expect G', 'send W', 'expect L', 'exit 0']);
  const { pid } = await run.event('waiting');
  assert.throws(
    () => openSync(`/proc/${pid}/exe`, 'r+'),
    (error: NodeJS.ErrnoException) => ['ETXTBSY', 'EPERM'].includes(error.code ?? ''),
  );
  run.handle.release();
  await run.close();
});

test('kill reaches the child until it is gone', async () => {
  const run = new Run(['send R', 'expect G', 'send W', 'pause']);
  await run.event('waiting');
  assert.equal(run.handle.kill(0), true);
  assert.equal(run.handle.kill(15), true);
  assert.deepEqual((await run.end()).at(-1), {
    type: 'exit',
    kind: 'signaled',
    status: 15,
    coreDumped: false,
  });
  assert.equal(run.handle.kill(0), false);
  assert.equal(run.handle.pidfd(), -1);
  await run.close();
});

test('abort ends a child at any time, also before it was made', async () => {
  const late = new Run(['send R', 'expect G', 'send W', 'pause']);
  await late.event('waiting');
  late.handle.abort();
  assert.deepEqual((await late.end()).at(-1), {
    type: 'exit',
    kind: 'signaled',
    status: 9,
    coreDumped: false,
  });
  late.handle.abort();
  await late.close();
  const early = new Run(['pause']);
  early.handle.abort();
  const last = (await early.end()).at(-1);
  assert.ok(last?.type === 'exit' || (last?.type === 'failed' && last.errno === 125), JSON.stringify(last));
  await early.close();
});

test('descriptors that init sends are CLOEXEC and the receiver’s', async () => {
  const run = new Run(['sendfd console 1', 'send R', 'expect G', 'send X', 'close', 'exit 0']);
  const event = await run.event('fd');
  assert.equal(event.name, 'console');
  assert.match(readFileSync(`/proc/self/fdinfo/${event.fd}`, 'utf8'), /^flags:\t0?2000001$/m);
  addon().close(event.fd);
  assert.deepEqual(await run.types(), ['fd', 'ready', 'running', 'exit']);
  await run.close();
});

test('no descriptor is left by jobs of any outcome', async t => {
  const at = scratch(t);
  await withoutLeak(async () => {
    const runs = [
      new Run(complete),
      new Run(['kill 9']),
      new Run(['send Q', 'pause']),
      new Run(complete, { slots: [{ path: `${at}/none`, flags: 0 }] }),
      new Run(complete, { before: [{ op: 'rmdir', path: '/proc' }] }),
      new Run(complete, { cgroup: '/tmp' }),
      new Run(complete, { slots: [0, { path: '/dev/null', flags: 0 }], preserved: [0, 1, 2] }),
    ];
    for (const run of runs) await run.close();
  });
});
