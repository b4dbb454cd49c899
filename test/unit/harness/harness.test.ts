import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { leaksSince, snapshot } from '../../../scripts/leaks.mjs';
import { eventually, waitFor, within } from '../../harness/deadline.ts';
import { missing } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';

test('missing() names the requirement and what it saw', () => {
  assert.equal(missing('file:/proc/self/status'), undefined);
  assert.match(missing('file:/no/such/file') ?? '', /^requires file:\/no\/such\/file: .*does not exist$/);
  assert.match(missing('kernel:99.0') ?? '', /^requires kernel:99.0: the kernel is \d/);
});

test('within() rejects with what was waited for', async () => {
  await assert.rejects(
    within(new Promise(() => undefined), 'the end of days', 1),
    /the end of days did not happen/,
  );
  assert.equal(await within(Promise.resolve(7), 'seven'), 7);
});

test('waitFor() gives the arguments of the event', async () => {
  const emitter = new EventEmitter();
  const waiting = waitFor<[number, string]>(emitter, 'exit');
  emitter.emit('exit', 3, 'x');
  assert.deepEqual(await waiting, [3, 'x']);
});

test('eventually() gives the first answer', async () => {
  let turns = 0;
  assert.equal(await eventually('third turn', () => (++turns === 3 ? 'here' : undefined)), 'here');
});

test('a descriptor that stays open is a leak', async () => {
  const before = snapshot();
  const fd = openSync('/proc/self/status', 'r');
  const leaks = await leaksSince(before, 0);
  closeSync(fd);
  assert.deepEqual(leaks.filter(leak => leak.startsWith('descriptor')).length, 1);
  assert.deepEqual(
    (await leaksSince(before, 0)).filter(leak => leak.startsWith('descriptor')),
    [],
  );
});
