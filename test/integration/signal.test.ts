/** Whom Container.signal reaches: init, or every process, also frozen ones and those of a shared pid namespace. */
import assert from 'node:assert/strict';
import type { Container, Process } from '../../lib/index.ts';
import { within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fromOutside } from './exec-facts.ts';
import { type Fixture, fixture } from './fixture.ts';

const idle = ['/bin/probe', 'sleep'];

/** `probe trap` in the container; `next` is the name of the next signal that it gets. */
async function listening(on: Fixture, container: Container, first = false) {
  const process = on.process({ args: ['/bin/probe', 'trap', '7'], stdout: 'pipe' });
  await (first ? container.run(process) : container.start(process));
  const stream = process.stdout ?? assert.fail();
  const parts = stream.iterator({ destroyOnReturn: false });
  let rest = '';
  const next = async (): Promise<string> => {
    while (!rest.includes('\n')) rest += String((await within(parts.next(), 'a signal')).value);
    const [line = ''] = rest.split('\n');
    rest = rest.slice(line.length + 1);
    return line;
  };
  assert.equal(await next(), 'ready');
  return { process, next, close: () => stream.destroy() };
}

test('signal: all is every process, frozen ones when they are thawed; otherwise it is the first', {
  requires: ['root', 'probe'],
  trap: 20,
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const init = await listening(on, container, true);
  const all = [init, await listening(on, container), await listening(on, container)];
  await container.signal('USR1');
  await container.signal('USR2', { all: true });
  // The others had nothing before it.
  assert.equal(await init.next(), 'USR1');
  for (const one of all) assert.equal(await one.next(), 'USR2');
  await container.pause();
  await container.signal('HUP', { all: true });
  assert.equal(await container.status(), 'paused');
  await container.resume();
  for (const one of all) assert.equal(await one.next(), 'HUP');
  await container.signal('TERM', { all: true });
  for (const { process, close } of all.reverse()) {
    // The pid namespace may end before those that did not run yet.
    const status = await within(process.wait(), 'exit');
    if (process === init.process) assert.deepEqual(status, { kind: 'exited', code: 7 });
    close();
  }
  await container.destroy();
});

const died = { kind: 'signaled', signal: 'SIGKILL', coreDumped: false };

test('signal: KILL in the pid namespace of another container kills all of this one, frozen too, and none of that', {
  requires: ['root', 'probe'],
  trap: 20,
  timeoutMs: 60_000,
}, async t => {
  const pod = await fixture(t);
  const holder = await pod.create();
  const init = pod.process({ args: idle });
  await holder.run(init);
  const on = await fixture(t, {
    patch: spec => {
      for (const namespace of spec.linux.namespaces)
        if (namespace.type === 'pid') Object.assign(namespace, { path: `/proc/${init.pid}/ns/pid` });
      return spec;
    },
  });
  for (const [frozen, all] of [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ]) {
    const container = await on.create();
    const processes: Process[] = [1, 2, 3].map(() => on.process({ args: idle }));
    const [first = assert.fail(), ...further] = processes;
    await container.run(first);
    for (const process of further) await container.start(process);
    assert.equal((await container.processes()).length, 3);
    if (frozen) await container.pause();
    await container.signal('KILL', { all: all === true });
    for (const process of processes) assert.deepEqual(await within(process.wait(), 'death'), died);
    await container.destroy();
    assert.equal(await holder.status(), 'running');
    assert.equal(fromOutside(init.pid).cwd, '/');
  }
  await holder.destroy({ force: true });
});
