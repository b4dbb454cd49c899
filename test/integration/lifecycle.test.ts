/** Every operation of a Container in every status: the table of lib/lifecycle.ts is what really happens. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { Container, LinuxFactory } from '../../lib/index.ts';
import { allowed, type Status } from '../../lib/lifecycle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

type Row = 'start' | 'join' | 'exec' | 'signal' | 'pause' | 'resume' | 'set' | 'stats' | 'destroy';

/** Does the operation and what undoes it, so that the same container serves the whole row. */
const operations: { readonly [name in Row]: (container: Container, on: Fixture) => Promise<void> } = {
  join: async (container, { process }) => {
    const run = process();
    await container.start(run);
    assert.deepEqual(await within(run.wait(), 'exit'), { kind: 'exited', code: 0 });
  },
  start: async (container, { process }) => {
    // A second first process can only be asked for while there is none.
    await container.start(process());
  },
  exec: async container => container.exec(),
  // Of no effect on a shell that waits.
  signal: async container => container.signal('WINCH'),
  pause: async container => {
    await container.pause();
    assert.equal(await container.status(), 'paused');
    await container.resume();
  },
  resume: async container => {
    await container.resume();
    assert.notEqual(await container.status(), 'paused');
    await container.pause();
  },
  set: async container => container.set(container.config.resources),
  stats: async container => {
    await container.stats();
  },
  destroy: async container => container.destroy(),
};

async function attempt(work: Promise<void>): Promise<string> {
  try {
    await within(work, 'the operation', 20_000);
    return 'done';
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
    throw error;
  }
}

/** `start` is left out: in every status but the first it means `join`. `exec` and `destroy` change the status: last. */
const rows: readonly Row[] = ['join', 'signal', 'pause', 'resume', 'set', 'stats', 'exec', 'destroy'];

async function matrix(status: Status, container: Container, on: Fixture): Promise<void> {
  for (const row of rows) {
    assert.equal(await container.status(), status, `before ${row}`);
    const outcome = await attempt(operations[row](container, on));
    const expected = (allowed[row] as readonly Status[]).includes(status);
    assert.equal(outcome === 'done', expected, `${row} in status ${status}: ${outcome}`);
    if (!expected) assert.match(outcome, /^ERR_CONTAINER_/, `${row} in status ${status}`);
    if (expected && (row === 'exec' || row === 'destroy')) return;
  }
}

test('created: through exec() it runs, and destroy() kills it', { trap: 2, requires: ['root'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.start(on.sh('read line'));
  await matrix('created', container, on);
  assert.notEqual(await container.status(), 'created');

  const second = await on.create();
  const process = on.sh('exit 1');
  await second.start(process);
  await second.destroy();
  assert.deepEqual(await process.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  await container.destroy({ force: true });
});

test('running and paused', { requires: ['root'], timeoutMs: 60_000 }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.sh('read line', { stdin: 'pipe' });
  await container.run(process);
  await matrix('running', container, on);
  await container.pause();
  await matrix('paused', container, on);
  assert.equal(await container.status(), 'paused');
  // A frozen container dies when it is killed.
  await container.signal('KILL');
  assert.deepEqual(await within(process.wait(), 'death of a frozen container'), {
    kind: 'signaled',
    signal: 'SIGKILL',
    coreDumped: false,
  });
  await matrix('stopped', container, on);
});

test('destroy with force removes a paused container and is quiet about one that is gone', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  await container.pause();
  await container.destroy({ force: true });
  assert.equal(existsSync(container.directory), false);
  await container.destroy({ force: true });
  assert.deepEqual(await on.factory.list(), []);
});

test('an ID is unique in the process and on disk, and free after destroy', {
  requires: ['rootless'],
}, async t => {
  const on = await fixture(t);
  const first = await on.create();
  const { id } = first;
  const same = (factory: LinuxFactory): Promise<Container> => factory.create(id, on.config);
  await assert.rejects(same(on.factory), {
    code: 'ERR_CONTAINER_EXISTS',
    message: 'container with given ID already exists',
  });
  await first.start(on.process());
  await assert.rejects(same(on.factory), { code: 'ERR_CONTAINER_EXISTS' });
  await first.destroy();
  const second = await same(on.factory);
  await second.destroy();
  await assert.rejects(on.factory.load(id), {
    code: 'ERR_CONTAINER_NOT_EXIST',
    message: 'container does not exist',
  });
});

test('signal by name and number, KILL to all, and signals that are none', {
  trap: 20,
  requires: ['rootless'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.sh('trap "echo got usr1" USR1; echo ready; while :; do sleep 0.05; done', {
    stdout: 'pipe',
  });
  await container.run(process);
  const lines = (process.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
  const next = async (): Promise<string> => String((await within(lines.next(), 'a line')).value).trim();
  assert.equal(await next(), 'ready');
  await container.signal('SIGUSR1');
  assert.equal(await next(), 'got usr1');
  await assert.rejects(container.signal('BOGUS'), { code: 'ERR_SIGNAL_UNKNOWN' });
  await assert.rejects(container.signal(99), { code: 'ERR_SIGNAL_UNKNOWN' });
  await container.signal(9, { all: true });
  await within(process.wait(), 'exit');
  await container.signal('KILL', { all: true });
  process.stdout?.destroy();
  await container.destroy();
});

test("in the host's pid namespace KILL reaches every process, and destroy the ones that init left", {
  trap: 20,
  requires: ['root'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.namespaces = spec.linux.namespaces.filter(namespace => namespace.type !== 'pid');
      return spec;
    },
  });
  const container = await on.create();
  const process = on.sh('sleep 1000 & echo ready; wait', { stdout: 'pipe' });
  await container.run(process);
  const lines = (process.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
  await within(lines.next(), 'ready');
  assert.equal((await container.processes()).length, 2);
  await container.signal('KILL');
  await within(process.wait(), 'exit');
  await eventually('the end of the child', async () => (await container.processes()).length === 0);
  process.stdout?.destroy();
  await container.destroy();

  const second = await on.create();
  const short = on.sh('sleep 1000 & exit 0');
  await second.run(short);
  await short.wait();
  assert.equal(await second.status(), 'stopped');
  assert.equal((await second.processes()).length, 1);
  // Without its init the container still has a process that can be signalled.
  await second.signal('TERM', { all: true });
  await second.destroy();
  assert.equal(existsSync(second.directory), false);
});
