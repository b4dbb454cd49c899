import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { reasons } from '../../../lib/errors.ts';
import { projectRoot } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';

const script = (name: string) => import(join(projectRoot, 'scripts', name));

test('docs/errors.md has every code with its sentence and hint, and no other', () => {
  const page = readFileSync(join(projectRoot, 'docs/errors.md'), 'utf8');
  const rows = page.split('\n').filter(line => line.startsWith('| `ERR_'));
  assert.deepEqual(
    rows.map(line => line.split('`')[1]),
    Object.keys(reasons),
  );
  for (const [code, [sentence, hint]] of Object.entries(reasons)) {
    const line = rows.find(r => r.includes(`\`${code}\``)) ?? '';
    for (const text of [sentence, hint])
      assert.ok(line.includes(text.replaceAll('<', '&lt;').replaceAll('|', '\\|')), `${code}: ${text}`);
  }
});

test('documents name only files, links and npm scripts that exist', async () => {
  const { checkDocs } = (await script('check-docs.mjs')) as { checkDocs: () => Promise<string[]> };
  assert.deepEqual(await checkDocs(), []);
});

test('imports in lib/ go one way', async () => {
  const { checkLayers } = (await script('check-layers.mjs')) as { checkLayers: () => string[] };
  assert.deepEqual(checkLayers(), []);
});
