/** run(): a whole program. Facts from inside by busybox, from outside by /proc. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import type { ExitStatus } from '../../lib/index.ts';
import { eventually, text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

test('run, wait, destroy is a whole program; events come in order and once', {
  requires: ['root'],
}, async t => {
  const { create, sh, factory, root } = await fixture(t);
  const container = await create();
  const events: string[] = [];
  for (const name of ['created', 'started', 'stopped', 'destroyed'] as const)
    container.on(name, () => events.push(name));
  let status: ExitStatus | undefined;
  container.on('exit', event => {
    status = event.status;
    assert.equal(event.init, true);
    assert.equal(event.oomKilled, false);
  });
  assert.equal(await container.status(), 'stopped');
  assert.equal(existsSync(container.directory), false, 'create() makes nothing on disk');

  const process = sh('echo out; echo err >&2; read line; echo "heard $line"; exit 7', {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  await container.run(process);
  assert.equal(await container.status(), 'running');
  const pid = process.pid ?? 0;
  assert.equal((await container.ociState()).pid, pid);
  assert.deepEqual(await container.processes(), [pid]);
  assert.notEqual(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync('/proc/self/ns/pid'));
  assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^NSpid:\t\d+\t1$/m);

  process.stdin?.end('you\n');
  const [out, err] = await Promise.all([
    text(process.stdout ?? assert.fail()),
    text(process.stderr ?? assert.fail()),
  ]);
  assert.equal(out, 'out\nheard you\n');
  assert.equal(err, 'err\n');
  assert.deepEqual(await process.wait(), { kind: 'exited', code: 7 });
  assert.deepEqual(await process.wait(), { kind: 'exited', code: 7 });
  assert.equal(await container.status(), 'stopped');
  assert.equal((await container.ociState()).pid, 0);
  assert.deepEqual(
    (await factory.list()).map(row => row.status),
    ['stopped'],
  );

  await container.destroy();
  assert.deepEqual(events, ['started', 'stopped', 'destroyed']);
  assert.deepEqual(status, { kind: 'exited', code: 7 });
  assert.deepEqual(readdirSync(root), []);
  await assert.rejects(container.destroy(), { code: 'ERR_CONTAINER_NOT_EXIST' });
});

test('exit by a signal says which one', { requires: ['rootless'] }, async t => {
  const { create, sh } = await fixture(t);
  const container = await create();
  const process = sh('trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done', { stdout: 'pipe' });
  await container.run(process);
  const output = text(process.stdout ?? assert.fail());
  process.signal('KILL');
  assert.deepEqual(await within(process.wait(), 'exit'), {
    kind: 'signaled',
    signal: 'SIGKILL',
    coreDumped: false,
  });
  await output;
  assert.throws(() => process.signal('TERM'), {
    code: 'ERR_CONTAINER_NOT_RUNNING',
    message: 'os: process already finished',
  });
  await assert.rejects(container.signal('TERM'), { code: 'ERR_CONTAINER_NOT_RUNNING' });
  await container.destroy();
});

test('streams of the caller: copied in and out, all written when wait() resolves', {
  requires: ['rootless'],
}, async t => {
  const { create, process } = await fixture(t);
  const container = await create();
  const sink = new PassThrough();
  const size = 300_000;
  const seen = text(sink, 20_000);
  const cat = process({ args: ['/bin/cat'], stdin: Readable.from([Buffer.alloc(size, 'x')]), stdout: sink });
  await container.run(cat);
  assert.deepEqual(await within(cat.wait(), 'exit of cat', 20_000), { kind: 'exited', code: 0 });
  sink.end();
  assert.equal((await seen).length, size);
  await container.destroy();
});

test('a descriptor that is not open is refused by name; a stream that fails costs nobody the exit status', {
  requires: ['rootless'],
}, async t => {
  const { create, process, sh } = await fixture(t);
  const container = await create();
  for (const name of ['stdin', 'stdout', 'stderr'] as const)
    await assert.rejects(container.run(process({ [name]: 999_999 })), {
      code: 'ERR_ARGUMENT',
      message: new RegExp(`process\\.${name}: 999999 is no open descriptor`),
    });
  await assert.rejects(container.run(process({ stdout: 'pipe', preservedFds: [0, 999_999] })), {
    code: 'ERR_ARGUMENT',
    message: /process\.preservedFds: 999999/,
  });
  const sink = new PassThrough();
  const failed = new Promise<Error>(resolve => sink.once('error', resolve));
  const writer = sh('echo x; read line; exit 3', { stdin: 'pipe', stdout: sink });
  await container.run(writer);
  sink.destroy(new Error('sink'));
  assert.equal((await within(failed, 'the error of the sink')).message, 'sink');
  writer.stdin?.end('\n');
  assert.deepEqual(await within(writer.wait(), 'exit'), { kind: 'exited', code: 3 });
  await container.destroy();
});

test('only 0, 1, 2 and the preserved descriptors reach the program', {
  trap: 7,
  requires: ['rootless'],
}, async t => {
  const { output } = await fixture(t);
  const list = await output('ls -l /proc/self/fd | sed -n "s/.* \\([0-9]*\\) -> \\(.*\\)/\\1 \\2/p"', {
    preservedFds: [1],
  });
  assert.deepEqual(
    list
      .trim()
      .split('\n')
      .map(line => line.split(' ')[0]),
    ['0', '1', '2', '3'],
  );
  assert.match(list, /^0 \/dev\/null$/m);
});

test('a Process is started once; a start that failed gives it back', { requires: ['rootless'] }, async t => {
  const { create, process } = await fixture(t);
  const container = await create();
  const bad = process({ args: ['/not/there'] });
  await assert.rejects(container.run(bad), { code: 'ERR_EXEC_NO_FILE', step: 'findExecutable' });
  assert.equal(await container.status(), 'stopped');
  const good = process();
  await container.run(good);
  await assert.rejects(container.run(good), { code: /ERR_ARGUMENT|ERR_CONTAINER_NOT_RUNNING/ });
  await good.wait();
  await assert.rejects(container.run(process()), { code: 'ERR_CONTAINER_NOT_RUNNING' });
  await container.destroy();
});

test('AbortSignal before and during a start takes everything back', { requires: ['rootless'] }, async t => {
  const { create, process, root } = await fixture(t, {
    patch: spec => ({
      ...spec,
      hooks: { createRuntime: [{ path: '/bin/sleep', args: ['sleep', hookSeconds] }] },
    }),
  });
  const container = await create();
  const reason = new Error('no more');
  await assert.rejects(
    container.run(process(), { signal: AbortSignal.abort(reason) }),
    error => error === reason,
  );
  const abort = new AbortController();
  const running = container.run(process(), { signal: abort.signal });
  await eventually(
    'a state directory with the intent',
    async () => (await container.status()) === 'creating',
  );
  await eventually('the intent on disk', () => existsSync(`${container.directory}/state.json`));
  await eventually('the hook', () => sleeping().length > 0);
  abort.abort(reason);
  await assert.rejects(within(running, 'rejection after the abort'), error => error === reason);
  assert.deepEqual(readdirSync(root), []);
  assert.deepEqual(sleeping(), [], 'the hook was killed with its process group');
  await container.destroy();
});

/** Of this run's hook alone: other runs of this test may be on the machine. */
const hookSeconds = `98761.${process.pid}`;

/** Processes of the hook. */
function sleeping(): string[] {
  return readdirSync('/proc').filter(name => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8') === `sleep\0${hookSeconds}\0`;
    } catch {
      return false;
    }
  });
}

test('OOM kill of init is told by the exit event', { requires: ['root', 'controller:memory'] }, async t => {
  const { create, sh } = await fixture(t, {
    patch: spec => {
      spec.linux.resources = {
        ...spec.linux.resources,
        memory: { limit: 16 * 1024 * 1024, swap: 16 * 1024 * 1024 },
      };
      return spec;
    },
  });
  const container = await create();
  const seen = new Promise<boolean>(resolve => container.on('exit', event => resolve(event.oomKilled)));
  const process = sh('exec tail /dev/zero');
  await container.run(process);
  const status = await within(process.wait(), 'the OOM kill', 20_000);
  assert.deepEqual(status, { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  assert.equal(await within(seen, 'the exit event'), true);
  await container.destroy();
});

test('await using closes the object, not the container', { requires: ['rootless'] }, async t => {
  const { create, sh, factory } = await fixture(t);
  const container = await create();
  const { id } = container;
  const process = sh('sleep 1000');
  await container.run(process);
  await container[Symbol.asyncDispose]();
  const again = await factory.load(id);
  const stopped = new Promise<void>(resolve => again.on('stopped', () => resolve()));
  assert.equal(await again.status(), 'running');
  await again.signal('KILL');
  await within(stopped, 'stopped of a loaded container');
  await process.wait();
  await again.destroy();
});
