/** useSandbox(): in files of node:test that run at the same time, with a runner that is killed, and with hooks of others. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Sandbox } from '../../lib/sandbox/sandbox.ts';
import { useSandbox } from '../../lib/testing/testing.ts';
import { makeStateRoot } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import './warm.ts';

const host = { requires: ['root', 'lane:host'], timeoutMs: 60_000 } as const;

/** Inside of the checkout `libcontainer` is this package, by the exports of its package.json. */
function testFiles(t: TestContext, name: string, files: { readonly [name: string]: string }): string[] {
  const directory = join(projectRoot, 'build', `fixture-${name}`);
  mkdirSync(directory, { recursive: true });
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return Object.entries(files).map(([file, text]) => {
    writeFileSync(join(directory, file), text);
    return join(directory, file);
  });
}

const head = (root: string): string => `
  import assert from 'node:assert/strict';
  import { test } from 'node:test';
  import { useSandbox } from 'libcontainer/testing';
  const box = useSandbox({ root: ${JSON.stringify(root)} });`;
const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: _2, ...env } = process.env;
const left = (root: string): string[] => readdirSync(root).filter(name => name.startsWith('sandbox-'));

test('node:test: each file has a sandbox of its own, and none is left', host, t => {
  const root = makeStateRoot(t);
  const text = `${head(root)}
    test('write', async () => {
      await box().files.write('/tmp/x', box().id);
      assert.equal((await box().run(['cat', '/tmp/x'])).stdout, box().id);
    });
    test('the same one', async () => assert.equal(await box().files.readText('/tmp/x'), box().id));`;
  const files = testFiles(t, 'files', { 'a.test.mjs': text, 'b.test.mjs': text });
  const { status, stdout } = spawnSync(process.execPath, ['--test', ...files], { encoding: 'utf8', env });
  assert.equal(status, 0, stdout);
  assert.match(stdout, /pass 4/);
  assert.deepEqual(left(root), []);
});

test('a runner that is killed leaves nothing', host, async t => {
  const root = makeStateRoot(t);
  const text = `${head(root)}
    test('hangs', async () => {
      process.stdout.write('ready\\n');
      await box().run(['sleep', '1000']);
    });`;
  const [file = ''] = testFiles(t, 'killed', { 'a.test.mjs': text });
  const runner = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'ignore'], env });
  t.after(() => runner.kill('SIGKILL'));
  for await (const chunk of runner.stdout ?? []) if (String(chunk).includes('ready')) break;
  assert.equal(left(root).length, 1);
  runner.kill('SIGKILL');
  await eventually('its removal', () => left(root).length === 0);
});

test('hooks of the caller or of Jest; a scope of one test; outside of tests', {
  requires: ['rootless'],
}, async t => {
  const root = makeStateRoot(t);
  const hooks: { [name: string]: () => Promise<void> } = {};
  const hook = (name: string) => (work: () => Promise<void>) => {
    hooks[name] = work;
  };
  const globals = globalThis as { [name: string]: unknown };
  for (const name of ['beforeEach', 'afterEach']) globals[name] = hook(name);
  t.after(() => {
    for (const name of ['beforeEach', 'afterEach']) delete globals[name];
  });
  const box = useSandbox({ root, scope: 'test' });
  assert.throws(box, { code: 'ERR_TEST_RUNNER' });
  await hooks.beforeEach?.();
  assert.ok(box() instanceof Sandbox);
  const first = box().id;
  await hooks.afterEach?.();
  assert.throws(box, { code: 'ERR_TEST_RUNNER' });
  await hooks.beforeEach?.();
  assert.notEqual(box().id, first);
  await hooks.afterEach?.();
  const own = useSandbox({ root, hooks: { before: hook('before'), after: hook('after') } });
  await hooks.before?.();
  assert.equal((await own().run(['true'])).exitCode, 0);
  await hooks.after?.();
});
