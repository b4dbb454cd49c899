/** Events of real containers reach their listeners, quickly, and a listener that leaves takes everything with it. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { hostLayout } from '../../lib/cgroups/layout.ts';
import { type ContainerEvent, LibcontainerError } from '../../lib/index.ts';
import type { SpecDocument } from '../harness/bundle.ts';
import { eventually, slowness, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

const MiB = 1024 * 1024;
const v2 = hostLayout().kind === 'v2';

interface Limits {
  readonly memory?: { readonly limit: number; readonly swap: number };
  readonly pids?: { readonly limit: number };
  readonly unified?: { readonly [file: string]: string };
}

const limited = (t: TestContext, limits: Limits, writable = false): Promise<Fixture> =>
  fixture(t, {
    writable,
    patch: (spec: SpecDocument) => {
      spec.linux.resources = { ...spec.linux.resources, ...limits };
      return undefined;
    },
  });

/** Collects until the stream ends, into a list that may be looked at meanwhile. */
async function all(
  stream: AsyncIterable<ContainerEvent>,
  events: ContainerEvent[] = [],
): Promise<ContainerEvent[]> {
  for await (const event of stream) events.push(event);
  return events;
}

/** The first event of this type, and when it came. */
async function first(stream: AsyncIterable<ContainerEvent>, type: ContainerEvent['type']) {
  for await (const event of stream) if (event.type === type) return { event, at: performance.now() };
  throw new Error(`the stream ended without ${type}`);
}

function reportDelay(t: TestContext, what: string, delayMs: number): void {
  t.diagnostic(`${what}: ${delayMs.toFixed(1)} ms`);
  console.log(`${what}: ${delayMs.toFixed(1)} ms`);
  assert.ok(delayMs < 100 * slowness, `${what} took ${delayMs} ms`);
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test('an OOM kill reaches a listener within 100 ms', {
  requires: ['root', 'probe', 'controller:memory'],
}, async t => {
  const { create, process } = await limited(t, { memory: { limit: 16 * MiB, swap: 16 * MiB } });
  const container = await create();
  const events = all(container.events());
  const oom = first(container.notifyOOM(), 'oom');
  const eater = process({ args: ['/bin/probe', 'eat', String(64 * MiB)] });
  await container.run(eater);
  const status = await eater.wait();
  const ended = performance.now();
  assert.deepEqual(status.kind === 'signaled' && status.signal, 'SIGKILL');
  reportDelay(t, 'OOM kill to event', (await within(oom, 'oom')).at - ended);
  const list = await within(events, 'the end of the events');
  assert.ok(list.some(e => e.type === 'memory' && e.event === 'oom_kill' && e.total === 1n));
  const exit = list.find(e => e.type === 'exit');
  assert.ok(exit?.type === 'exit' && exit.init && exit.oomKilled);
  assert.equal(list.filter(e => e.type === 'empty').length, 1);
  await container.destroy();
});

test('a fork that the pids limit refuses reaches a listener within 100 ms', {
  requires: ['root', 'probe', 'controller:pids'],
}, async t => {
  const { create, process } = await limited(t, { pids: { limit: 6 } });
  const container = await create();
  const heard = new Promise<{ at: number; total: bigint }>(resolve => {
    container.once('pidsMax', ({ total }) => resolve({ at: performance.now(), total }));
  });
  const forker = process({ args: ['/bin/probe', 'fork', '20'], stdout: 'pipe' });
  await container.run(forker);
  let printed = 0;
  forker.stdout?.once('data', () => {
    printed = performance.now();
  });
  const { at, total } = await within(heard, 'pidsMax');
  await eventually('the line of the probe', () => printed > 0);
  assert.ok(total >= 1n);
  reportDelay(t, 'refused fork to event', at - printed);
  await container.signal('KILL');
  await forker.wait();
  await container.destroy();
});

test('frozen, thawed, exit and empty come in order, whoever freezes', { requires: ['root'] }, async t => {
  const { create, factory, sh } = await limited(t, {});
  const container = await create();
  const stream = container.events();
  const process = sh('read line', { stdin: 'pipe' });
  await container.run(process);
  const other = await factory.load(container.id);
  const heard: ContainerEvent[] = [];
  const seen = all(other.events(), heard);
  await container.pause();
  // A watcher of the kernel's state sees what stands when it looks: thawed at once, there was nothing to tell.
  await eventually('frozen, by the other object', () => heard.some(e => e.type === 'frozen'));
  await other.resume();
  process.stdin?.end();
  await process.wait();
  const types = (await within(all(stream), 'the end of the events')).map(e => e.type);
  assert.deepEqual(
    types.filter(type => type !== 'memory'),
    ['frozen', 'thawed', 'exit', 'empty'],
  );
  const loaded = await within(seen, 'the end of the events of the other object');
  assert.deepEqual(
    loaded.map(e => e.type).filter(type => type === 'frozen' || type === 'thawed'),
    ['frozen', 'thawed'],
  );
  const exit = loaded.find(e => e.type === 'exit');
  assert.ok(exit?.type === 'exit' && exit.init);
  assert.deepEqual(exit.status, { kind: 'exited', code: 1 }, 'the monitor has recorded it');
  assert.equal((await container.events().next()).done, true, 'a stopped container has no more events');
  await container.destroy();
});

test('a listener that leaves gives back its descriptors', { requires: ['root'] }, async t => {
  const { create, sh } = await limited(t, {});
  const container = await create();
  const process = sh('read line', { stdin: 'pipe' });
  await container.run(process);
  await turn();
  const before = openDescriptors();
  const settled = () => eventually('as many descriptors as before', () => openDescriptors() === before);

  const controller = new AbortController();
  const stream = container.events({ signal: controller.signal });
  assert.ok(openDescriptors() > before);
  const next = stream.next();
  controller.abort(new Error('enough'));
  await assert.rejects(next, /enough/);
  await assert.rejects(stream.next(), /enough/);
  await settled();

  const returned = container.events();
  await returned.return?.();
  assert.equal((await returned.next()).done, true);
  await settled();

  {
    await using scoped = container.events();
    assert.ok(openDescriptors() > before);
    void scoped;
  }
  await settled();

  const listener = (): void => undefined;
  container.on('frozen', listener).on('oom', listener);
  assert.ok(openDescriptors() > before);
  container.off('frozen', listener);
  assert.ok(openDescriptors() > before);
  container.off('oom', listener);
  await settled();

  const once = new Promise<void>(resolve => {
    container.once('frozen', resolve);
  });
  await container.pause();
  await within(once, 'frozen');
  await container.resume();
  await settled();

  assert.throws(() => container.events({ signal: AbortSignal.abort(new Error('before')) }), /before/);
  process.stdin?.end();
  await process.wait();
  await container.destroy();
  assert.equal((await container.events().next()).done, true);
});

test('pressure in the form of the other layout is refused', { requires: ['root'] }, async t => {
  const { create } = await limited(t, {});
  const container = await create();
  const trigger = { kind: 'some', stallUs: 50_000, windowUs: 1_000_000 } as const;
  assert.throws(
    () => container.notifyMemoryPressure(v2 ? 'low' : trigger),
    (error: unknown) => error instanceof LibcontainerError && error.code === 'ERR_UNSUPPORTED',
  );
});

test('a memory stall fires the PSI trigger of the caller', {
  requires: ['root', 'probe', 'cgroup-v2', 'controller:memory', 'psi'],
}, async t => {
  const { create, process } = await limited(t, { unified: { 'memory.high': String(8 * MiB) } });
  const container = await create();
  const stream = container.notifyMemoryPressure({ kind: 'some', stallUs: 50_000, windowUs: 1_000_000 });
  const eater = process({ args: ['/bin/probe', 'eat', String(64 * MiB)] });
  await container.run(eater);
  const { event } = await within(first(stream, 'pressure'), 'pressure');
  assert.ok(event.type === 'pressure' && 'trigger' in event && event.trigger.resource === 'memory');
  await container.signal('KILL');
  await eater.wait();
  await container.destroy();
});

test('thresholds that the kernel refuses reach the caller, and the container runs', {
  requires: ['root', 'cgroup-v2', 'psi'],
}, async t => {
  const { create, sh } = await limited(t, {});
  const container = await create();
  const process = sh('read line', { stdin: 'pipe' });
  const stream = container.notifyMemoryPressure({ kind: 'some', stallUs: 5, windowUs: 1 });
  await container.run(process);
  await assert.rejects(within(stream.next(), 'a refusal'), { code: 'ERR_CGROUP' });
  process.stdin?.end();
  await process.wait();
  await container.destroy();
});

test('page cache over the limit gives pressure level low', {
  requires: ['root', 'cgroup-v1', 'controller:memory', 'lane:host'],
}, async t => {
  const { create, sh } = await limited(t, { memory: { limit: 16 * MiB, swap: 16 * MiB } }, true);
  const container = await create();
  const pressure = first(container.notifyMemoryPressure('low'), 'pressure');
  const writer = sh('dd if=/dev/zero of=/big bs=1M count=96 2>/dev/null; rm /big');
  await container.run(writer);
  const { event } = await within(pressure, 'pressure');
  assert.ok(event.type === 'pressure' && 'level' in event && event.level === 'low');
  await writer.wait();
  await container.destroy();
});
