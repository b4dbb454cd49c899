/**
 * What a process leaves that was killed in the middle of an operation, put there by hand, and that reconcile() and the
 * next operation clear it. scripts/kill-storm.mjs does the same with real kills at random times.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Container, LinuxFactory } from '../../lib/index.ts';
import { binding } from '../../lib/native/binding.ts';
import { fifoPath, statePath } from '../../lib/state.ts';
import { type Intent, intentPath, writeIntent } from '../../lib/state-intent.ts';
import { containerId } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

/** Of a process that never was: pid 1 was not started at tick 1. */
const dead = { pid: 1, start: 1 };

async function running(on: Fixture): Promise<{ container: Container; ended: Promise<unknown> }> {
  const container = await on.create();
  const process = on.process({ args: ['/bin/sleep', '1000'] });
  await container.run(process);
  return { container, ended: process.wait() };
}
const leave = (container: Container, intent: Intent): void => {
  assert.ok(writeIntent(container.directory, intent, dead));
};
const noIntent = (container: Container): void => {
  assert.equal(existsSync(intentPath(container.directory)), false);
};

test('killed while pausing, or while a signal had frozen the container: it is thawed', {
  trap: 21,
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const { container } = await running(on);
  for (const intent of [{ operation: 'pause' }, { operation: 'signal', signal: 15 }] as const) {
    await container.pause();
    leave(container, intent);
    assert.deepEqual(await on.factory.reconcile(), []);
    assert.equal(await container.status(), 'running', intent.operation);
    noIntent(container);
  }
  // One of a process that lives is not touched, and neither is a container that somebody has paused.
  await container.pause();
  const self = { pid: process.pid, start: Number(binding().startTime(process.pid)) };
  assert.ok(writeIntent(container.directory, { operation: 'signal', signal: 15 }, self));
  await on.factory.reconcile();
  assert.equal(await container.status(), 'paused');
  await container.destroy({ force: true });
});

test('killed while writing limits: the limits and the record are those that were asked for', {
  requires: ['root', 'controller:pids'],
}, async t => {
  const on = await fixture(t);
  const { container } = await running(on);
  const resources = { ...container.config.resources, pids: { limit: 77 } };
  leave(container, { operation: 'set', resources, skipDevices: false });
  writeFileSync(`${statePath(container.directory)}.tmp`, 'half a rec');
  await on.factory.reconcile();
  const { cgroup_paths: paths } = await container.state();
  assert.equal(readFileSync(join(paths.pids ?? paths[''] ?? '', 'pids.max'), 'utf8').trim(), '77');
  assert.equal((await on.factory.load(container.id)).config.resources.pids?.limit, 77);
  assert.deepEqual(readdirSync(container.directory).sort(), ['exit.json', 'state.json']);
  await container.destroy({ force: true });
});

test('killed while destroying: reconcile() finishes it', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const { container, ended } = await running(on);
  leave(container, { operation: 'destroy' });
  assert.deepEqual(await new LinuxFactory({ root: on.root }).reconcile(), [container.id]);
  await within(ended, 'the end of the program');
  assert.equal(existsSync(container.directory), false);
});

test('killed before the exec fifo was removed: the container is running, not created', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const { container } = await running(on);
  writeFileSync(fifoPath(container.directory), '');
  assert.equal(await container.status(), 'running');
  await on.factory.reconcile();
  assert.deepEqual(readdirSync(container.directory).sort(), ['exit.json', 'state.json']);
  await container.destroy({ force: true });
});

test('killed after init was released and before its byte was read: the program runs', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t, {
    // A shared pid namespace: an init that is not process 1 of one would die of SIGPIPE.
    patch: spec => {
      spec.linux.namespaces = spec.linux.namespaces?.filter(({ type }) => type !== 'pid');
      return spec;
    },
  });
  const container = await on.create();
  const process = on.process({ args: ['/bin/sh', '-c', 'exit 42'] });
  await container.start(process);
  let ended = false;
  const status = process.wait().finally(() => {
    ended = true;
  });
  // Whether init has its byte written before the end of the reader is up to the scheduler; it must not matter. One that
  // comes before init has opened its end releases nobody: so it comes again.
  await eventually('the end of the program', () => {
    if (!ended) binding().close(binding().open(fifoPath(container.directory), 0o4000, 0));
    return ended;
  });
  assert.deepEqual(await status, { kind: 'exited', code: 42 });
  await container.destroy();
});

test('killed before the first record or after the last: the directory goes, and its ID is free at once', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const id = containerId();
  const directory = join(on.root, id);
  mkdirSync(directory);
  writeFileSync(`${statePath(directory)}.tmp`, '{"id"');
  assert.deepEqual(await on.factory.reconcile(), [id]);
  mkdirSync(directory);
  const container = await on.factory.create(id, on.config);
  const process = on.process();
  await container.run(process);
  await process.wait();
  await container.destroy();
  assert.deepEqual(readdirSync(on.root), []);
});
