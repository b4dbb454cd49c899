/** The 25 things that re-implementations of runc get wrong most (test/traps.json): each has a test that names it. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';

test('each of the 25 traps has a test that names it', () => {
  const names: unknown = JSON.parse(readFileSync(join(projectRoot, 'test/traps.json'), 'utf8'));
  assert.ok(Array.isArray(names) && names.length === 25);
  const named = new Set<number>();
  for (const file of readdirSync(join(projectRoot, 'test'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.test.ts')) continue;
    const text = readFileSync(join(projectRoot, 'test', file), 'utf8');
    for (const [, list = ''] of text.matchAll(/\btrap: \[?([\d, ]+)/g))
      for (const number of list.split(',')) named.add(Number(number));
  }
  const missing = names.flatMap((name, index) => (named.has(index + 1) ? [] : [`${index + 1}: ${name}`]));
  assert.deepEqual(missing, []);
});
