/** A sample of the sweep (scripts/sweep.mjs): another one for each day, so that in time all of it is seen. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

test('a component of a path that is swapped between two system calls of init leads nowhere on the host', {
  requires: ['root', 'seccomp', 'lane:host'],
  timeoutMs: 120_000,
}, async () => {
  const day = Math.floor(Date.now() / 86_400_000);
  const words = ['--sample', '8', '--seed', String(day), '--seconds', '90', '--checkout', projectRoot];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(projectRoot, 'scripts/sweep.mjs'), ...words],
    { timeout: 100_000 * slowness },
  );
  const lines = stdout.trim().split('\n');
  assert.equal(lines.length, 6, stdout);
  for (const line of lines) assert.match(line, /^sweep: .* [1-9]\d* of \d+ cases .*: 0 reached the host$/);
});
