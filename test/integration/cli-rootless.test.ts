/** nrunc of an ordinary user: `spec --rootless`, the global option --rootless, the state below XDG_RUNTIME_DIR. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { containerId, makeDirectory, rootfs } from '../harness/bundle.ts';
import type { Requirement } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { errorMessage, nruncPath, type Result, start } from './cli-fixture.ts';

/** A bundle of `nrunc spec --rootless`, whose program is this script, and nrunc with a runtime directory of its own. */
async function ofUser(t: TestContext, script: string) {
  const bundle = makeDirectory(t);
  const runtime = makeDirectory(t);
  const id = containerId('rootless');
  const nrunc = (...words: readonly string[]): Promise<Result> =>
    start(nruncPath, words, { cwd: bundle, env: { XDG_RUNTIME_DIR: runtime } }).ended();
  t.after(() => nrunc('delete', '--force', id));
  const made = await nrunc('spec', '--rootless');
  assert.equal(made.code, 0, made.stderr);
  const file = join(bundle, 'config.json');
  const spec = JSON.parse(readFileSync(file, 'utf8'));
  Object.assign(spec.process, { terminal: false, args: ['/bin/sh', '-c', script] });
  spec.root.path = rootfs;
  writeFileSync(file, JSON.stringify(spec));
  return { nrunc, id, runtime };
}

const requires: readonly Requirement[] = ['not-root', 'userns'];

test('an ordinary user: nrunc spec --rootless runs as it is, its state is below XDG_RUNTIME_DIR', {
  requires,
  proves: ['linux.uidMappings', 'linux.gidMappings', 'linux.namespaces[user]'],
}, async t => {
  const { nrunc, id, runtime } = await ofUser(t, 'echo $(id -u) $(hostname); exit 7');
  for (const option of [[], ['--rootless=auto'], ['--rootless', 'true']]) {
    const result = await nrunc(...option, 'run', id);
    assert.deepEqual([result.code, result.stdout], [7, '0 runc\n'], result.stderr);
    assert.ok(existsSync(join(runtime, 'libcontainer')));
  }
});

test('an ordinary user: a created container is started, entered, signalled and deleted by commands of their own', {
  requires,
}, async t => {
  const { nrunc, id } = await ofUser(t, 'exec sleep 1000');
  const steps: readonly (readonly [words: readonly string[], code: number, output: RegExp])[] = [
    [['create', id], 0, /^$/],
    [['state', id], 0, /"status": "created"/],
    [['start', id], 0, /^$/],
    [['list', '-q'], 0, new RegExp(`^${id}\\n$`)],
    [['exec', id, 'sh', '-c', 'id -u; exit 3'], 3, /^0\n$/],
    [['delete', id], 1, /^$/],
    [['kill', id, 'KILL'], 0, /^$/],
    [['delete', '--force', id], 0, /^$/],
    [['list', '-q'], 0, /^$/],
  ];
  for (const [words, code, output] of steps) {
    const result = await nrunc(...words);
    assert.equal(result.code, code, `${words.join(' ')}: ${result.stderr}`);
    assert.match(result.stdout, output, words.join(' '));
  }
});

test('an ordinary user: --rootless=false wants cgroups, which nobody has given to it', {
  requires: [...requires, 'not-delegated'],
}, async t => {
  const { nrunc, id, runtime } = await ofUser(t, 'true');
  const result = await nrunc('--rootless=false', 'run', id);
  assert.equal(result.code, 1);
  assert.match(errorMessage(result), /cgroup/);
  assert.match(errorMessage(result), /EACCES|EROFS|EPERM/);
  assert.equal(existsSync(join(runtime, 'libcontainer', id)), false);
});
