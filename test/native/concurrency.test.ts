import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { eventually, waitFor, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { addon, descriptors, Run, standInPath } from './stand-in.ts';

const script = (code: number) => ['send R', 'expect G', 'send X', 'close', `exit ${code}`];

function addonPath(): string {
  addon();
  const path = readFileSync('/proc/self/maps', 'utf8').match(/\/\S+libcontainer\.node/)?.[0];
  assert.ok(path !== undefined);
  return path;
}

/** Children of this process that are dead and not waited for. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function zombies(): string[] {
  const found: string[] = [];
  for (const task of readdirSync('/proc/self/task')) {
    // A thread or a child can end between the list and the look at it.
    for (const pid of readIfThere(`/proc/self/task/${task}/children`).trim().split(' ')) {
      if (pid === '') continue;
      const status = readIfThere(`/proc/${pid}/status`);
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
`;
type Message = { readonly type: string; readonly pid?: number; readonly status?: number };

function worker(t: TestContext, mode: string) {
  const started = new Worker(workerSource, {
    eval: true,
    workerData: { addon: addonPath(), init: standInPath(), mode },
  });
  t.after(() => started.terminate());
  const messages: Message[] = [];
  started.on('message', (event: Message) => messages.push(event));
  /** The first event of this type, also when it came before somebody asked. */
  const message = (type: string) =>
    eventually(`message ${type}`, () => messages.find(event => event.type === type));
  return { started, message };
}

const alive = (pid: number) => addon().startTime(pid) !== null;

test('a Worker has an instance of its own and ends when its container has ended', async t => {
  const { started, message } = worker(t, 'run');
  const exited = waitFor<[number]>(started, 'exit');
  assert.equal((await message('exit')).status, 7);
  assert.equal((await exited)[0], 0);
});

test('terminating a Worker kills children that are not ready, and only those; the others are reaped later', async t => {
  const leaving = worker(t, 'leave');
  const unready = worker(t, 'unready');
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

/** A process of its own with the addon and `spawn(plan, onEvent)`. */
function runNode(script: string): Promise<{ readonly code: unknown; readonly output: string }> {
  const source = `
    const m = { exports: {} };
    process.dlopen(m, ${JSON.stringify(addonPath())});
    m.exports.configure({ init: ${JSON.stringify(standInPath())} });
    const quiet = m.exports.open('/dev/null', 2, 0);
    const spawn = (plan, onEvent) => m.exports.spawn({ before: [], plan: Buffer.from(plan), cloneFlags: 0,
      stdio: [quiet, quiet, quiet], preserved: [], slots: [], askReady: false, faults: false }, onEvent);
    ${script}`;
  return new Promise(resolve =>
    execFile(process.execPath, ['-e', source], { timeout: 60_000 }, (error, stdout) =>
      resolve({ code: error === null ? 0 : (error.code ?? error.signal), output: stdout }),
    ),
  );
}

test('a process that exits leaves what is running', async t => {
  const result = await runNode(
    `spawn('send R\\nexpect G\\nsend W\\npause', event => {
      if (event.type === 'waiting') { console.log(event.pid); process.exit(3); }
    });`,
  );
  assert.equal(result.code, 3);
  const pid = Number(result.output);
  t.after(() => process.kill(pid, 'SIGKILL'));
  assert.ok(alive(pid), 'the child past ready lives on');
});

test('an unref’d handle does not keep the process, and its child lives on', async t => {
  const result = await runNode(
    `const handle = spawn('send R\\nexpect G\\nsend W\\npause', event => {
      if (event.type !== 'waiting') return;
      console.log(event.pid);
      handle.unref();
    });`,
  );
  assert.equal(result.code, 0);
  const pid = Number(result.output);
  t.after(() => process.kill(pid, 'SIGKILL'));
  assert.ok(alive(pid));
});

test('a handle keeps the process until its child is gone', async () => {
  const result = await runNode(
    `spawn('send R\\nexpect G\\nsend X\\nclose\\nexit 5', event => {
      if (event.type === 'exit') console.log(event.status);
    });`,
  );
  assert.deepEqual(result, { code: 0, output: '5\n' });
});

test('a listener that throws is an uncaught exception, and the next event still comes', async () => {
  const result = await runNode(
    `process.on('uncaughtException', error => console.log('uncaught', error.message));
    spawn('send R\\nexpect G\\nsend X\\nclose\\nexit 0', event => { throw new Error(event.type); });`,
  );
  assert.deepEqual(result, { code: 0, output: 'uncaught ready\nuncaught running\nuncaught exit\n' });
});

test('Workers that end in the middle of everything leave no child, thread or descriptor of the addon', async t => {
  await new Run(script(0)).close();
  const lock = `${process.env.TMPDIR ?? '/tmp'}/lc-worker-lock-${process.pid}`;
  t.after(() => rmSync(lock, { force: true }));
  const source = `
    const { workerData, parentPort } = require('node:worker_threads');
    const m = { exports: {} };
    process.dlopen(m, workerData.addon);
    const addon = m.exports;
    addon.configure({ init: workerData.init });
    const quiet = addon.open('/dev/null', 2, 0);
    const job = plan => ({ before: [], plan: Buffer.from(plan), cloneFlags: 0, stdio: [quiet, quiet, quiet], preserved: [],
      slots: [], askReady: false, faults: false });
    const plans = ['send R\\nexpect G\\nsend X\\nclose\\nexit 0', 'send S\\\\x0a\\\\x01a\\nexpect G'];
    for (let i = 0; i < 6; i++) addon.spawn(job(plans[i % 2]), () => undefined);
    const watched = addon.eventfd();
    addon.watch(watched, 1, () => undefined);
    addon.close(watched);
    addon.close(quiet);
    addon.lock(workerData.lock, 60000).catch(() => undefined);
    addon.files([{ op: 'unlink', path: '/nonexistent/file' }], false).catch(() => undefined);
    parentPort.postMessage('busy');`;
  const before = { threads: readdirSync('/proc/self/task').length, fds: descriptors().size };
  for (let round = 0; round < 8; round++) {
    const workers = Array.from(
      { length: 3 },
      () => new Worker(source, { eval: true, workerData: { addon: addonPath(), init: standInPath(), lock } }),
    );
    await Promise.all(
      workers.map(async (started, i) => {
        await waitFor(started, 'message');
        // Some at once, some a few turns later, when events are on their way.
        for (let turn = 0; turn < i * round; turn++) await new Promise(resolve => setImmediate(resolve));
        await started.terminate();
      }),
    );
  }
  await eventually('as many threads, descriptors and children as before', () => {
    const children = readdirSync('/proc/self/task').flatMap(task =>
      readIfThere(`/proc/self/task/${task}/children`).trim().split(' ').filter(Boolean),
    );
    return (
      children.length === 0 &&
      readdirSync('/proc/self/task').length === before.threads &&
      // A lock that was just taken belongs to the Worker's JavaScript, which is gone: one of each round at most.
      descriptors().size <= before.fds + 8
    );
  });
});
