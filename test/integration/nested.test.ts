/** The suite inside a container of our own (scripts/nested.mjs): containers in containers. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join, relative } from 'node:path';
import { slowness, waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

/** On a slow machine a sample: containers of root, of an ordinary user, and in user namespaces. */
const files =
  slowness > 1
    ? 'run userns-maps'
    : 'run exec lifecycle hooks namespaces userns userns-join userns-maps rootless spec-mounts idmap cgroups signal';

test('the suite passes inside a container of our own, as root and as an ordinary user', {
  requires: ['root', 'probe', 'userns'],
  timeoutMs: 170_000,
}, async () => {
  // The tests of a whole lane are bundled already.
  const bundles = relative(projectRoot, dirname(dirname(process.argv[1] ?? assert.fail())));
  const names = files.split(' ').map(name => `test/integration/${name}.test.ts`);
  const words = [join(projectRoot, 'scripts/nested.mjs'), '--bundles', bundles, ...names];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', part => {
    output += part;
  });
  const [code] = await waitFor<[number | null]>(child, 'exit', 160_000);
  assert.equal(code, 0, output.slice(-16_000));
  const [, passed] = /^nested: (\d+) passed, 0 failed, \d+ skipped$/m.exec(output) ?? [];
  assert.ok(Number(passed) > 10, output.slice(-16_000));
  assert.match(output, /^nested, as uid 65534: [1-9]\d* passed, 0 failed/m);
});
