import assert from 'node:assert/strict';
import { join } from 'node:path';
import { projectRoot } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';

interface Row {
  readonly file: string;
  readonly name: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  readonly reason?: string;
  readonly error?: string;
}
interface LaneRecord {
  readonly leaks: readonly string[];
  readonly second: readonly string[];
  readonly tests: readonly Row[];
}
interface Judgement {
  readonly lines: readonly string[];
  readonly problems: readonly string[];
  readonly notes: readonly string[];
}

async function judge(change: (lane: string) => Partial<LaneRecord> | undefined): Promise<Judgement> {
  const module = (await import(join(projectRoot, 'scripts/lanes.mjs'))) as {
    judge: (records: Map<string, LaneRecord>) => Judgement;
  };
  const records = new Map<string, LaneRecord>();
  for (const lane of ['host', 'v2', 'systemd', 'v1', 'systemd-v1']) {
    const changed = change(lane);
    if (changed !== undefined)
      records.set(lane, { leaks: [], second: [], tests: [row('a', 'passed')], ...changed });
  }
  return module.judge(records);
}
const row = (name: string, result: Row['result'], reason?: string): Row => ({
  file: 'test/x.test.ts',
  name,
  result,
  ...(reason === undefined ? {} : { reason }),
});

test('judge() prints one line per lane and finds nothing wrong with good lanes', async () => {
  const { lines, problems } = await judge(() => ({ tests: [row('a', 'passed'), row('b', 'passed')] }));
  assert.deepEqual(problems, []);
  assert.deepEqual(lines, [
    'host: 2 passed, 0 failed, 0 skipped',
    'v2: 2 passed, 0 failed, 0 skipped',
    'systemd: 2 passed, 0 failed, 0 skipped',
    'v1: 2 passed, 0 failed, 0 skipped',
    'systemd-v1: 2 passed, 0 failed, 0 skipped',
  ]);
});

test('judge() finds a test that ran in no lane, with the reasons', async () => {
  const { problems } = await judge(() => ({
    tests: [row('a', 'passed'), row('b', 'skipped', 'requires moon: new')],
  }));
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? '', /ran nowhere: test\/x.test.ts › b[\s\S]*host: requires moon: new/);
});

test('judge() accepts a test that one lane skipped and another ran', async () => {
  const { problems } = await judge(lane => ({
    tests: [row('a', 'passed'), row('b', lane === 'v2' ? 'passed' : 'skipped', 'requires cgroup-v2: v1')],
  }));
  assert.deepEqual(problems, []);
});

test('judge() finds a missing lane, an empty one, a failure, a leak', async () => {
  const { problems, notes } = await judge(lane => {
    if (lane === 'v1') return undefined;
    if (lane === 'systemd') return { tests: [row('a', 'skipped', 'x')] };
    if (lane === 'v2')
      return { tests: [{ ...row('a', 'failed'), error: 'Error: broken limit' }, row('c', 'passed')] };
    if (lane === 'systemd-v1') return {};
    return { leaks: ['cgroup /sys/fs/cgroup/pids/left'], second: ['test/x.test.ts › a'] };
  });
  assert.equal(problems.filter(p => /lane v1 has no results/.test(p)).length, 1);
  assert.equal(problems.filter(p => /lane systemd ran nothing/.test(p)).length, 1);
  assert.equal(problems.filter(p => /v2: .*› a\n\s+Error: broken limit/.test(p)).length, 1);
  assert.equal(problems.filter(p => /lane host leaked cgroup/.test(p)).length, 1);
  assert.equal(problems.length, 4);
  assert.match(notes[0] ?? '', /host: passed only at the second try/);
});

test('conformance: what an ordinary user proved is told beside the lane, and claims need a property', async () => {
  const { joinResults } = (await import(join(projectRoot, 'scripts/conformance.mjs'))) as {
    joinResults: (
      list: string[],
      records: object[],
    ) => { rows: Map<string, Map<string, Set<string>>>; unknown: string[] };
  };
  const row = { file: 'f', name: 'n', result: 'passed', proves: ['a', 'b'] };
  const { rows, unknown } = joinResults(
    ['a', 'a[].x', 'c'],
    [
      { lane: 'host', tests: [row, { ...row, result: 'failed', name: 'm' }] },
      { lane: 'v2', tests: [{ ...row, uid: 65534 }] },
    ],
  );
  const lanesOf = (property: string) => [...(rows.get(property)?.get('f › n') ?? [])];
  assert.deepEqual(lanesOf('a'), ['host', 'v2', 'rootless']);
  assert.deepEqual(lanesOf('a[].x'), ['host', 'v2', 'rootless']);
  assert.equal(rows.get('c')?.size, 0);
  assert.deepEqual(unknown, ['f › n: b', 'f › m: b']);
});
