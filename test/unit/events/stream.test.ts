import assert from 'node:assert/strict';
import type { ContainerEvent, OomEvent } from '../../../lib/events/event.ts';
import { EventQueue } from '../../../lib/events/stream.ts';
import { test } from '../../harness/test.ts';

const isOom = (event: ContainerEvent): event is OomEvent => event.type === 'oom';
const oom = (kills: bigint): OomEvent => ({ type: 'oom', kills });

function queue(signal?: AbortSignal) {
  const stops: string[] = [];
  const events = new EventQueue<OomEvent>(isOom, () => stops.push('stop'), signal);
  return { events, stops };
}

test('events are kept until they are read, and then handed on directly', async () => {
  const { events, stops } = queue();
  events.receive(oom(1n));
  events.receive({ type: 'frozen' });
  events.receive(oom(2n));
  assert.deepEqual(await events.next(), { done: false, value: oom(1n) });
  assert.deepEqual(await events.next(), { done: false, value: oom(2n) });
  const [third, fourth] = [events.next(), events.next()];
  events.receive(oom(3n));
  events.finish();
  assert.deepEqual(await third, { done: false, value: oom(3n) });
  assert.deepEqual(await fourth, { done: true, value: undefined });
  assert.deepEqual(stops, ['stop']);
});

test('what is queued at the end can still be read', async () => {
  const { events } = queue();
  events.receive(oom(1n));
  events.finish();
  events.receive(oom(2n));
  const read: bigint[] = [];
  for await (const event of events) read.push(event.kills);
  assert.deepEqual(read, [1n]);
});

test('a break, return() and dispose stop it once', async () => {
  const { events, stops } = queue();
  events.receive(oom(1n));
  events.receive(oom(2n));
  for await (const event of events) if (event.kills === 1n) break;
  assert.deepEqual(stops, ['stop']);
  assert.equal((await events.next()).done, true);
  await events.return();
  await events[Symbol.asyncDispose]();
  assert.deepEqual(stops, ['stop']);
});

test('abort rejects who waits and who asks later, with the reason, and leaves no listener', async () => {
  const controller = new AbortController();
  const { events, stops } = queue(controller.signal);
  events.receive(oom(1n));
  assert.deepEqual((await events.next()).value, oom(1n));
  const [one, two] = [events.next(), events.next()];
  controller.abort(new Error('enough'));
  await assert.rejects(one, /enough/);
  await assert.rejects(two, /enough/);
  await assert.rejects(events.next(), /enough/);
  assert.deepEqual(stops, ['stop']);
  assert.equal((await events.return()).done, true);
  assert.equal((await events.next()).done, true);
});

test('a failure comes after what was told before it', async () => {
  const { events } = queue();
  events.receive(oom(1n));
  events.fail(new Error('refused'));
  assert.deepEqual((await events.next()).value, oom(1n));
  await assert.rejects(events.next(), /refused/);
});
