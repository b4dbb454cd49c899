import assert from 'node:assert/strict';
import { signalName, signalNumber } from '../../lib/signals.ts';
import { test } from '../harness/test.ts';

test('signalNumber takes names with and without SIG, in any case, and numbers', () => {
  for (const [given, expected] of [
    ['TERM', 15],
    ['SIGTERM', 15],
    ['sigkill', 9],
    ['9', 9],
    [64, 64],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['RTMAX-1', 63],
  ] as const)
    assert.equal(signalNumber(given), expected, String(given));
});

test('signalNumber refuses what no signal is, and quotes it', () => {
  for (const bad of [
    '',
    'SIG',
    'NOPE',
    '0',
    '65',
    '-1',
    '1.5',
    'RTMIN+31',
    'RTMAX-40',
    0,
    65,
    1.5,
    Number.NaN,
  ])
    assert.throws(() => signalNumber(bad), { code: 'ERR_SIGNAL_UNKNOWN' }, String(bad));
  assert.throws(() => signalNumber('NOPE'), { message: 'unknown signal "NOPE"' });
});

test('signalName is the inverse of signalNumber for all 64', () => {
  for (let number = 1; number <= 64; number++)
    if (number !== 32 && number !== 33) assert.equal(signalNumber(signalName(number)), number);
  assert.equal(signalName(9), 'SIGKILL');
  assert.equal(signalName(37), 'SIGRTMIN+3');
});
