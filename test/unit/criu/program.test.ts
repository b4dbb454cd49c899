import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readDescriptors } from '../../../lib/criu/dump.ts';
import { findCriu, requireVersion, unable } from '../../../lib/criu/program.ts';
import { CriuError } from '../../../lib/errors.ts';
import { makeDirectory } from '../../harness/bundle.ts';
import { test } from '../../harness/test.ts';

/** A program that complains as CRIU's check does. */
function complaining(directory: string): string {
  const path = join(directory, 'criu');
  writeFileSync(path, '#!/bin/sh\necho "Error (criu/x.c:1): no $3" >&2\nexit 1\n', { mode: 0o755 });
  return path;
}

test('criu is looked for in absolute directories only', t => {
  const directory = makeDirectory(t);
  assert.throws(() => findCriu(['', '.', 'bin', directory]), { code: 'ERR_CRIU_MISSING' });
  assert.equal(findCriu(['', directory, complaining(directory)].reverse()), join(directory, 'criu'));
});

test('a CRIU that is too old is told with both versions', () => {
  requireVersion({ path: '/criu', version: 31500 }, 31500, 'it');
  assert.throws(() => requireVersion({ path: '/criu', version: 31104 }, 31500, 'it'), {
    code: 'ERR_CRIU_VERSION',
    message: 'CRIU is too old: it needs 3.15.0, /criu is 3.11.4',
  });
});

test("a CRIU that cannot work is told in its own check's words", async t => {
  const error = await unable(complaining(makeDirectory(t)), 'uffd-noncoop');
  assert.equal(error.code, 'ERR_CRIU_UNABLE');
  assert.deepEqual(error.reasons, ['Error (criu/x.c:1): no uffd-noncoop']);
});

test('an image without descriptors.json is none, and a hostile one is refused', t => {
  const image = makeDirectory(t);
  assert.throws(() => readDescriptors(image), { code: 'ERR_CRIU_IMAGE' });
  writeFileSync(join(image, 'descriptors.json'), '{"0":"pipe:[1]"}');
  assert.throws(() => readDescriptors(image), { code: 'ERR_CRIU_IMAGE' });
  writeFileSync(join(image, 'descriptors.json'), '["/dev/null","pipe:[1]","pipe:[1]"]');
  assert.deepEqual(readDescriptors(image), ['/dev/null', 'pipe:[1]', 'pipe:[1]']);
});

test('the error of CRIU has its first reason and the path of its log', () => {
  const at = { operation: 'dump', reasons: ['no such thing', 'failed'], logPath: '/i/dump.log' } as const;
  assert.equal(new CriuError('ERR_CRIU', at).message, 'CRIU failed: dump: no such thing; log: /i/dump.log');
});
