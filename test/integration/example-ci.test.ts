/** examples/ci: layers, what is run again and what is not, limits, and what a failure leaves. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, rootfs } from '../harness/bundle.ts';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import './warm.ts';

const command = 'node scripts/example.mjs ci';

interface Bench {
  readonly files: string;
  readonly directory: string;
  /** Exit code and the lines that tell of steps, without times. */
  run(...steps: object[]): {
    readonly status: number | null;
    readonly output: string;
    readonly steps: readonly string[];
  };
}

function bench(t: TestContext): Bench {
  const files = makeDirectory(t);
  const directory = join(files, 'ci');
  mkdirSync(join(files, 'src'));
  writeFileSync(join(files, 'src/input'), 'one\n');
  const run: Bench['run'] = (...steps) => {
    const file = join(files, 'pipeline.json');
    writeFileSync(file, JSON.stringify({ rootfs, steps }));
    const [, ...words] = command.split(' ');
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...words, file, '--directory', directory],
      {
        cwd: projectRoot,
        encoding: 'utf8',
        timeout: 30_000 * slowness,
      },
    );
    const told = stdout.match(/^[✓✗] .*$/gm) ?? [];
    // Whatever came of it, nothing is left but whole layers and logs.
    assert.deepEqual(readdirSync(join(directory, 'state')), [], stderr);
    for (const name of readdirSync(join(directory, 'layers'))) assert.match(name, /^[0-9a-f]{64}$/);
    return {
      status,
      output: `${stdout}${stderr}`,
      steps: told.map(line => line.replace(/ in [\d.]+ s/, '')),
    };
  };
  return { files, directory, run };
}

const requires = ['root', 'overlay', 'controller:memory', 'controller:pids', 'lane:host'] as const;

test('ci: steps stand on each other, and only what depends on a change is run again', {
  requires,
  timeoutMs: 60_000,
}, t => {
  const { files, directory, run } = bench(t);
  const sources = { name: 'sources', copy: { src: '/src' } };
  const build = {
    name: 'build',
    run: 'mkdir /out; cp /src/input /out/result; rm -r /home; echo "built $KIND"',
    env: { KIND: 'it' },
  };
  const check = { name: 'check', run: 'cat /out/result; test ! -e /home; id -u' };
  const first = run(sources, build, check);
  assert.equal(first.status, 0, first.output);
  assert.deepEqual(first.steps, ['✓ sources: passed', '✓ build: passed', '✓ check: passed']);
  assert.match(first.output, /^built it\n/m);
  assert.match(first.output, /^one\n0\n/m);
  assert.equal(readFileSync(join(directory, 'logs/check.log'), 'utf8'), 'one\n0\n');
  assert.ok(existsSync(join(rootfs, 'home')), 'the root file system is as it was');

  assert.deepEqual(run(sources, build, check).steps, [
    '✓ sources: cached',
    '✓ build: cached',
    '✓ check: cached',
  ]);
  const other = { ...check, run: 'cat /out/result; echo again' };
  assert.deepEqual(run(sources, build, other).steps, [
    '✓ sources: cached',
    '✓ build: cached',
    '✓ check: passed',
  ]);
  // A limit changes no result.
  assert.deepEqual(run(sources, { ...build, pids: 99 }, other).steps.slice(1), [
    '✓ build: cached',
    '✓ check: cached',
  ]);
  writeFileSync(join(files, 'src/input'), 'two\n');
  const changed = run(sources, build, other);
  assert.deepEqual(changed.steps, ['✓ sources: passed', '✓ build: passed', '✓ check: passed']);
  assert.match(changed.output, /^two\nagain\n/m);
});

test('ci: a step that fails, takes too long, or wants too much ends the pipeline and has no layer', {
  requires,
}, t => {
  const { directory, run } = bench(t);
  const after = { name: 'after', run: 'echo never' };
  const fails = run({ name: 'good' }, { name: 'fails', run: 'echo before; false; echo behind' }, after);
  assert.deepEqual([fails.status, fails.steps], [1, ['✓ good: passed', '✗ fails: failed, status 1']]);
  assert.equal(readFileSync(join(directory, 'logs/fails.log'), 'utf8'), 'before\n');
  const layers = readdirSync(join(directory, 'layers'));
  assert.equal(layers.length, 1);
  assert.deepEqual(run({ name: 'code', run: 'exit 42' }, after).status, 42);
  const slow = run({ name: 'slow', run: 'sleep 1000', timeoutMs: 200 }, after);
  assert.deepEqual([slow.status, slow.steps], [137, ['✗ slow: timed out, status 137']]);
  const big = run(
    { name: 'big', run: 'dd if=/dev/zero of=/dev/null bs=64M count=1', memoryBytes: 8 << 20 },
    after,
  );
  assert.deepEqual(big.steps, [`✗ big: out of memory, status ${big.status}`]);
  assert.notEqual(big.status, 0);
  assert.deepEqual(readdirSync(join(directory, 'layers')), layers);
});

test('ci: the pipeline of the README', { requires, timeoutMs: 60_000 }, t => {
  assert.ok(readFileSync(join(projectRoot, 'README.md'), 'utf8').includes(`\`${command}\``));
  const directory = makeDirectory(t);
  const pipeline = join(directory, 'pipeline.json');
  cpSync(join(projectRoot, 'examples/ci'), directory, { recursive: true });
  const [, ...words] = command.split(' ');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...words, pipeline, '--directory', join(directory, 'ci')],
    { cwd: projectRoot, encoding: 'utf8', timeout: 30_000 * slowness },
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^4 different words\n✓ build: passed in [\d.]+ s\nall is well\n✓ test: passed/m);
});
