/** A sample of the kill storm (scripts/kill-storm.mjs): a daemon dies by SIGKILL amid its work, the next one reconciles. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { makeStateRoot } from '../harness/bundle.ts';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

const kills = slowness === 1 ? 10 : 3;
const seed = process.env.LIBCONTAINER_SEED ?? String(Date.now() % 1_000_000);
/** An operation of a slow machine takes longer: a kill after 150 ms would always hit the first ones. */
const longestMs = 150 * slowness;

test('a daemon killed at any time loses nothing and leaves nothing that the next one does not take back', {
  requires: ['root'],
  timeoutMs: 60_000,
}, async t => {
  t.diagnostic(`kill storm of seed ${seed}`);
  const words = [
    '--kills',
    kills,
    '--seed',
    seed,
    '--state',
    makeStateRoot(t),
    '--longest',
    longestMs,
    '--verbose',
  ];
  const script = join(projectRoot, 'scripts/kill-storm.mjs');
  const { code, text } = await new Promise<{ code: unknown; text: string }>(resolve => {
    execFile(
      process.execPath,
      [script, ...words.map(String)],
      // SIGTERM: it then ends after the present round and cleans up.
      { timeout: 50_000 * slowness, encoding: 'utf8' },
      (error, stdout, stderr) =>
        resolve({ code: error?.code ?? error?.signal ?? 0, text: `${stdout}${stderr}` }),
    );
  });
  assert.equal(code, 0, `seed ${seed}: ${text}`);
  assert.match(text, new RegExp(`^kills: ${kills} \\(seed ${seed}\\)$`, 'm'), text);
  assert.match(text, /^problems: 0$/m, text);
  for (const line of text.trim().split('\n').slice(-7)) t.diagnostic(line);
});
