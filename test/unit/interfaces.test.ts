import assert from 'node:assert/strict';
import { parseInterfaces } from '../../lib/container-stats.ts';
import { test } from '../harness/test.ts';

const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
eth0:1:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
odd
`;

test('parseInterfaces() takes the first four numbers of each direction, with all their digits', () => {
  const [lo, eth0, ...more] = parseInterfaces(text);
  assert.deepEqual(more, []);
  assert.deepEqual([lo?.name, lo?.rxBytes, lo?.txDropped], ['lo', 0n, 0n]);
  assert.deepEqual(eth0, {
    name: 'eth0:1',
    rxBytes: 18446744073709551615n,
    rxPackets: 2n,
    rxErrors: 3n,
    rxDropped: 4n,
    txBytes: 9n,
    txPackets: 10n,
    txErrors: 11n,
    txDropped: 12n,
  });
  assert.deepEqual(parseInterfaces(''), []);
});
