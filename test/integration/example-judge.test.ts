/** examples/judge.ts against programs that behave and programs that do not. */
import assert from 'node:assert/strict';
import { judge, type Verdict } from '../../examples/judge.ts';
import { within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import './warm.ts';

const programs: { readonly [name: string]: readonly [source: string, ...verdicts: Verdict[]] } = {
  'the sum': ['read a b; echo $((a + b))', 'accepted'],
  'a wrong sum': ['read a b; echo $((a - b))', 'wrong answer'],
  'a crash': ['exit 1', 'runtime error'],
  'an endless loop': ['while :; do :; done', 'time limit'],
  'a flood': ['while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done', 'output limit'],
  'too much memory': ['head -c 500M /dev/zero | tail -c 500M | wc -c; echo 3', 'memory limit'],
  'a fork bomb': ['b() { b & b & wait; }; b; sleep 1000', 'time limit', 'runtime error'],
  'a look around': ['cat /etc/shadow && echo 3', 'runtime error'],
};

for (const [name, [source, ...verdicts]] of Object.entries(programs))
  test(`judge: ${name} is ${verdicts.join(' or ')}`, {
    requires: ['root', 'controller:memory', 'controller:pids', 'lane:host'],
    timeoutMs: 60_000,
  }, async () => {
    const judged = await within(
      judge(['sh', '-c'], source, [{ input: '1 2\n', output: '3\n' }]),
      'the verdict',
      30_000,
    );
    assert.equal(judged.length, 1);
    assert.ok(judged[0] !== undefined && verdicts.includes(judged[0].verdict), JSON.stringify(judged));
    assert.ok((judged[0]?.peakMemoryBytes ?? 0) <= 64 << 20);
  });
