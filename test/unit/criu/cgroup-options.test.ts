/** Options of cgroup2 that a killed process could not put back (lib/criu/cgroup-options.ts). */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  cgroupMount,
  type Keeper,
  keepingCgroupOptions,
  recoverCgroupOptions,
} from '../../../lib/criu/cgroup-options.ts';

const self = { pid: 100, start: 1 };
const dead = { pid: 200, start: 2 };
const now = cgroupMount(readFileSync('/proc/self/mountinfo', 'utf8'));
const without = now === undefined ? 'no cgroup2 is mounted' : false;

function keeper(t: { after(done: () => void): void }): Keeper {
  const directory = mkdtempSync(join(tmpdir(), 'keeper-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return { file: join(directory, 'note'), self, lives: ({ pid }) => pid !== dead.pid };
}

test('the options are noted as long as CRIU is at work', { skip: without }, async t => {
  const on = keeper(t);
  const work = async (): Promise<unknown> => JSON.parse(readFileSync(on.file, 'utf8'));
  assert.deepEqual(await keepingCgroupOptions(on, work), { ...now, ...self });
  assert.equal(existsSync(on.file), false);
  await assert.rejects(
    keepingCgroupOptions(on, () => Promise.reject(new Error('dump'))),
    /dump/,
  );
  assert.equal(existsSync(on.file), false);
});

test('several at once: the note goes with the last', { skip: without }, async t => {
  const on = keeper(t);
  const ends: (() => void)[] = [];
  const works = [1, 2].map(() =>
    keepingCgroupOptions(on, () => new Promise<void>(resolve => ends.push(resolve))),
  );
  ends[0]?.();
  await works[0];
  assert.equal(existsSync(on.file), true);
  ends[1]?.();
  await works[1];
  assert.equal(existsSync(on.file), false);
});

test('what a dead process has noted is put back, by the next one too; of a living one it stays', {
  skip: without,
}, async t => {
  const on = keeper(t);
  const noted = (owner: typeof self): void => writeFileSync(on.file, JSON.stringify({ ...now, ...owner }));
  noted(dead);
  await recoverCgroupOptions(on);
  assert.equal(existsSync(on.file), false);
  noted({ pid: 300, start: 3 });
  await recoverCgroupOptions(on);
  await keepingCgroupOptions(on, async () => undefined);
  assert.equal(JSON.parse(readFileSync(on.file, 'utf8')).pid, 300);
  noted(dead);
  const work = async (): Promise<unknown> => JSON.parse(readFileSync(on.file, 'utf8')).pid;
  assert.equal(await keepingCgroupOptions(on, work), self.pid);
  assert.equal(existsSync(on.file), false);
  // Torn: its writer had not started CRIU yet.
  writeFileSync(on.file, '{"poi');
  await recoverCgroupOptions(on);
  assert.equal(existsSync(on.file), false);
});
