/** A sample of the sweep (scripts/sweep.mjs): another one for each day, so that in time all of it is seen. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

const options = { requires: ['root', 'seccomp', 'lane:host'], timeoutMs: 180_000 } as const;

/** Its lines, one for each configuration. */
async function sweep(...words: string[]): Promise<string[]> {
  const all = [join(projectRoot, 'scripts/sweep.mjs'), ...words, '--checkout', projectRoot];
  const { stdout } = await promisify(execFile)(process.execPath, all, { timeout: 170_000 * slowness });
  return stdout.trim().split('\n');
}
const nothing = /^sweep: .* [1-9]\d* of \d+ cases .*: 0 reached the host$/;

test(
  'a component of a path that is swapped between two system calls of init leads nowhere on the host',
  options,
  async () => {
    const day = Math.floor(Date.now() / 86_400_000);
    const lines = await sweep('--sample', '8', '--seed', String(day), '--seconds', '90');
    assert.equal(lines.length, 6, lines.join('\n'));
    for (const line of lines) assert.match(line, nothing);
  },
);

test(
  'a mount point that is away for one system call of init: read-only paths below it are not passed over',
  options,
  async () => {
    const which = ['--config', 'sysctl', '--match', 'proc: for one call, link to the canary'];
    const lines = await sweep('--all', ...which, '--seconds', '150');
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', nothing);
  },
);
