import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { eventually, waitFor, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { addon, descriptors, Run, standInPath } from './stand-in.ts';

const script = (code: number) => ['send R', 'expect G', 'send X', 'close', `exit ${code}`];

function addonPath(): string {
  addon();
  const path = readFileSync('/proc/self/maps', 'utf8').match(/\/\S+libcontainer\.node/)?.[0];
  assert.ok(path !== undefined);
  return path;
}

/** Children of this process that are dead and not waited for. */
function zombies(): string[] {
  const found: string[] = [];
  for (const task of readdirSync('/proc/self/task')) {
    for (const pid of readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim().split(' ')) {
      if (pid === '') continue;
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      if (/^State:\tZ/m.test(status)) found.push(pid);
    }
  }
  return found;
}

test('100 jobs at once beside child_process: every status is right, nothing is left', {
  timeoutMs: 60_000,
}, async () => {
  await new Run(script(0)).close();
  await waitFor(spawn('true'), 'exit');
  const before = descriptors().size;
  const jobs = Array.from({ length: 100 }, (_, i) => new Run(script(i)));
  const commands = Array.from({ length: 30 }, (_, i) =>
    waitFor<[number | null]>(spawn('sh', ['-c', `exit ${i}`], { stdio: 'ignore' }), 'exit', 60_000),
  );
  for (const [i, job] of jobs.entries()) {
    assert.deepEqual((await job.end()).at(-1), {
      type: 'exit',
      kind: 'exited',
      status: i,
      coreDumped: false,
    });
    await job.close();
  }
  for (const [i, command] of commands.entries()) assert.equal((await command)[0], i);
  assert.deepEqual(zombies(), []);
  await eventually('the same number of descriptors', () => descriptors().size === before);
});

const workerSource = `
const { workerData, parentPort } = require('node:worker_threads');
const module_ = { exports: {} };
process.dlopen(module_, workerData.addon);
const addon = module_.exports;
const quiet = addon.open('/dev/null', 2, 0);
addon.configure({ init: workerData.init });
const run = lines => addon.spawn(
  { before: [], plan: Buffer.from(lines.join('\\n')), cloneFlags: 0, stdio: [quiet, quiet, quiet], preserved: [], slots: [], askReady: false, faults: false },
  event => parentPort.postMessage(event),
);
if (workerData.mode === 'run') run(['send R', 'expect G', 'send X', 'close', 'exit 7']);
if (workerData.mode === 'leave') run(['send R', 'expect G', 'send W', 'pause']);
if (workerData.mode === 'unready') run(['send S\\\\x0a\\\\x01a', 'expect G', 'pause']);
if (workerData.mode === 'unref') { run(['send R', 'expect G', 'send W', 'pause']).unref(); }
`;
type Message = { readonly type: string; readonly pid?: number; readonly status?: number };

function worker(mode: string) {
  const started = new Worker(workerSource, {
    eval: true,
    workerData: { addon: addonPath(), init: standInPath(), mode },
    stdout: true,
  });
  started.stdout.resume();
  const messages: Message[] = [];
  const message = (type: string) =>
    within(
      new Promise<Message>(resolve => {
        started.on('message', (event: Message) => {
          messages.push(event);
          if (event.type === type) resolve(event);
        });
      }),
      `message ${type}`,
    );
  return { started, message, messages };
}

const alive = (pid: number) => addon().startTime(pid) !== null;

test('a Worker has an instance of its own and ends when its container has ended', async () => {
  const { started, message } = worker('run');
  const exited = waitFor<[number]>(started, 'exit');
  assert.equal((await message('exit')).status, 7);
  assert.equal((await exited)[0], 0);
});

test('terminating a Worker kills children that are not ready, and only those; the others are reaped later', async t => {
  const leaving = worker('leave');
  const unready = worker('unready');
  const left = (await leaving.message('waiting')).pid ?? 0;
  const lost = (await unready.message('sync')).pid ?? 0;
  t.after(() => {
    if (alive(left)) process.kill(left, 'SIGKILL');
  });
  assert.ok(alive(left) && alive(lost));
  await within(Promise.all([leaving.started.terminate(), unready.started.terminate()]), 'end of the Workers');
  await eventually('the child that was not ready is gone', () => !alive(lost));
  assert.ok(alive(left), 'the child past ready lives on');
  process.kill(left, 'SIGKILL');
  await eventually('both are reaped', () => zombies().length === 0 && !alive(left));
});

test('a process that exits leaves what is running', async t => {
  const source = `
    const m = { exports: {} };
    process.dlopen(m, ${JSON.stringify(addonPath())});
    m.exports.configure({ init: ${JSON.stringify(standInPath())} });
    const quiet = m.exports.open('/dev/null', 2, 0);
    m.exports.spawn({ before: [], plan: Buffer.from('send R\\nexpect G\\nsend W\\npause'), cloneFlags: 0, stdio: [quiet, quiet, quiet],
      preserved: [], slots: [], askReady: false, faults: false }, event => {
      if (event.type === 'waiting') { console.log(event.pid); process.exit(3); }
    });`;
  const result = await new Promise<{ code: number | string | null | undefined; output: string }>(resolve =>
    execFile(process.execPath, ['-e', source], { timeout: 60_000 }, (error, stdout) =>
      resolve({ code: error?.code, output: stdout }),
    ),
  );
  assert.equal(result.code, 3);
  const pid = Number(result.output);
  t.after(() => process.kill(pid, 'SIGKILL'));
  assert.ok(alive(pid), 'the child past ready lives on');
});

test('a handle keeps the event loop until its child is gone, unless it is unref’d', async t => {
  const { started, message } = worker('unref');
  // 'waiting' may come after the Worker has ended by itself: both are fine, the end is what counts.
  const exited = waitFor<[number]>(started, 'exit');
  const seen = message('waiting').catch(() => undefined);
  assert.equal((await exited)[0], 0);
  const pid = (await Promise.race([seen, Promise.resolve(undefined)]))?.pid;
  t.after(() => {
    if (pid !== undefined && alive(pid)) process.kill(pid, 'SIGKILL');
  });
});

test('a listener that throws is an uncaught exception, and the next event still comes', async () => {
  const source = `
    const m = { exports: {} };
    process.dlopen(m, ${JSON.stringify(addonPath())});
    m.exports.configure({ init: ${JSON.stringify(standInPath())} });
    process.on('uncaughtException', error => console.log('uncaught', error.message));
    m.exports.spawn({ before: [], plan: Buffer.from('send R\\nexpect G\\nsend X\\nclose\\nexit 0'), cloneFlags: 0,
      stdio: [quiet, quiet, quiet], preserved: [], slots: [], askReady: false, faults: false }, event => { throw new Error(event.type); });`;
  const output = await new Promise<string>((resolve, reject) =>
    execFile(process.execPath, ['-e', source], { timeout: 60_000 }, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    ),
  );
  assert.equal(output, 'uncaught ready\nuncaught running\nuncaught exit\n');
});
