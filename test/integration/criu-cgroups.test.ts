/** Checkpoint and restore in each layout of cgroups: what a container has is there again afterwards, in its cgroup. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { makeDirectory } from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { counter, counting, requires } from './criu-fixture.ts';

const timeoutMs = 60_000;

test('a counting process is checkpointed and restored twice, in its cgroup, with its mounts', {
  requires,
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const [first, second] = [makeDirectory(t), makeDirectory(t)];
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  const stages: string[] = [];
  const result = await container.checkpoint({
    imagePath: first,
    onProgress: ({ stage }) => stages.push(stage),
  });
  assert.equal(await container.status(), 'stopped');
  assert.ok((result.statistics?.pagesWritten ?? 0) > 0, JSON.stringify(result.statistics));
  assert.ok(stages.includes('post-dump') && stages.at(-1) === 'done', stages.join());
  assert.deepEqual((await container.wait()).status, {
    kind: 'signaled',
    signal: 'SIGKILL',
    coreDumped: false,
  });
  await container.destroy();
  const reached = on.count();

  const process = on.sh(counting);
  const restored = await on.factory.restore(container.id, on.config, process, { imagePath: first });
  assert.equal(await restored.status(), 'running');
  assert.ok((await on.further()) > reached);
  const { pid } = await restored.ociState();
  const own = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trimEnd().split('\n');
  for (const line of own.filter(row => !row.includes('::') || own.length === 1))
    assert.ok(line.endsWith(`/${container.id}`), line);
  assert.ok((await restored.processes()).includes(pid));
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
  assert.match(mounts, / \/fixed ro,nosuid/);
  assert.match(mounts, / \/data rw/);
  assert.equal(readFileSync(`/proc/${pid}/root/fixed/word`, 'utf8'), 'fixed');
  // Masked files read as empty, as before.
  assert.equal(readFileSync(`/proc/${pid}/root/proc/keys`, 'utf8'), '');
  // A process beside it, in the same namespaces.
  const beside = on.sh('[ "$(cat /proc/1/comm)" = sh ] && cat /data/count >/dev/null');
  await restored.run(beside);
  assert.deepEqual(await beside.wait(), { kind: 'exited', code: 0 });

  await restored.checkpoint({ imagePath: second });
  await restored.destroy();
  const again = await on.factory.restore(container.id, on.config, on.sh(counting), { imagePath: second });
  await on.further();
  let stopped = 0;
  again.on('stopped', () => {
    stopped += 1;
  });
  await again.signal('KILL');
  const end = await within(again.wait(), 'the end of the restored process');
  assert.deepEqual(end.status, { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  assert.equal(stopped, 1);
  // Known to another object too, from the exit record.
  const other = await on.factory.load(container.id);
  assert.deepEqual((await other.wait()).status, end.status);
  await again.destroy();
});
