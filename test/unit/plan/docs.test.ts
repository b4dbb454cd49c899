/** docs/start-sequence.md against the plans: its tables have every step, in an order that every plan follows. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';
import { cases } from './cases.ts';

const [, standardText = '', setnsText = '', doneText = ''] = readFileSync(
  join(projectRoot, 'docs/start-sequence.md'),
  'utf8',
).split(/^## (?:A container's|A process that is exec'd|Something done).*$/m);
const rows = (text: string): string[] => [...text.matchAll(/^\| `(\w+)` \|/gm)].map(([, name = '']) => name);
const tables = { standard: rows(standardText), setns: rows(setnsText) };

/** One name per run of equal steps; the links of the v1 cgroup mount are part of the mounts. */
function sequence(name: string): string[] {
  const kinds: string[] = (cases[name] ?? assert.fail)().steps.map(({ kind }) => kind);
  const lastMount = kinds.lastIndexOf('mount');
  return kinds
    .filter((kind, index) => !(kind === 'symlink' && index < lastMount))
    .filter((kind, index, all) => kind !== all[index - 1]);
}

const used = { standard: new Set<number>(), setns: new Set<number>() };
for (const name of Object.keys(cases)) {
  const table = name.startsWith('exec') ? 'setns' : 'standard';
  test(`docs/start-sequence.md has the order of ${name}`, () => {
    let row = -1;
    for (const kind of sequence(name)) {
      const next = tables[table].indexOf(kind, row + 1);
      assert.ok(next >= 0, `no row for ${kind} behind ${tables[table][row] ?? 'the head'}`);
      used[table].add(next);
      row = next;
    }
  });
}

test('docs/start-sequence.md has no row that no plan has', () => {
  for (const table of ['standard', 'setns'] as const) {
    assert.deepEqual(
      tables[table].filter((_, index) => !used[table].has(index)),
      [],
    );
  }
});

test('docs/start-sequence.md has every step of the protocol', () => {
  const proto = readFileSync(join(projectRoot, 'proto/init.proto'), 'utf8');
  const oneof = proto.slice(proto.indexOf('oneof kind {'), proto.indexOf('message Empty'));
  const steps = [...oneof.matchAll(/^\s+\w+ (\w+) = \d+;/gm)].map(([, name = '']) =>
    name.replace(/_(\w)/g, (__, letter: string) => letter.toUpperCase()),
  );
  assert.ok(steps.length > 40);
  const known = new Set([...tables.standard, ...tables.setns, ...rows(doneText)]);
  assert.deepEqual(
    steps.filter(step => !known.has(step)),
    [],
  );
});
