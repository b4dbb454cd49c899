/** What the README shows is executed: the commands, the library example, the console example in a terminal. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBundle, makeDirectory } from '../harness/bundle.ts';
import { slowness, text, waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { busyboxLayer, dockerArchive } from './image-fixture.ts';

const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
const blocks = (language: string) =>
  [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].filter(m => m[1] === language).map(m => m[2] ?? '');

function commands(): string[] {
  return blocks('sh').flatMap(block =>
    block
      .split('\n')
      .map(line => line.replace(/\s+#.*$/, ''))
      .filter(line => line !== ''),
  );
}

test('README: the front door is two commands, one of them the tests that run now', () => {
  assert.deepEqual(commands().slice(0, 2), ['npm run demo', 'npm test']);
});

for (const command of commands().filter(line => line !== 'npm test'))
  test(`README: ${command}`, { requires: ['root', 'lane:host'], timeoutMs: 120_000 }, () => {
    const result = spawnSync('sh', ['-c', command], {
      cwd: projectRoot,
      encoding: 'utf8',
      timeout: 110_000 * slowness,
    });
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
    assert.notEqual(result.stdout, '');
  });

test('README: the library example', { requires: ['root', 'lane:host'] }, async t => {
  const bundle = makeBundle(t, { process: { args: ['/bin/echo', 'hello'] } });
  const example = blocks('js').find(block => block.includes('LinuxFactory')) ?? '';
  assert.ok(example.includes("'/containers/web'"));
  // Inside of the checkout `libcontainer` is this package, by the exports of its package.json.
  const directory = join(projectRoot, 'build/readme');
  mkdirSync(directory, { recursive: true });
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'example.mjs'), example.replace('/containers/web', bundle));
  const run = spawn(process.execPath, [join(directory, 'example.mjs')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, error, [status]] = await Promise.all([
    text(run.stdout),
    text(run.stderr),
    waitFor(run, 'exit'),
  ]);
  assert.equal(status, 0, error);
  assert.equal(out, "web-1: hello\n\n{ kind: 'exited', code: 0 }\n");
});

test('README: the sandbox in five lines', { requires: ['root', 'lane:host'] }, async t => {
  const example = blocks('js').find(block => block.includes("'libcontainer/sandbox'")) ?? '';
  const directory = join(projectRoot, 'build/readme-sandbox');
  mkdirSync(directory, { recursive: true });
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'example.mjs'), example);
  const { stdout, stderr } = spawnSync(process.execPath, [join(directory, 'example.mjs')], {
    encoding: 'utf8',
  });
  assert.equal(stdout, '0 42\n', stderr);
});

test('README: the image that lies on the disk', { requires: ['root', 'overlay', 'lane:host'] }, async t => {
  const example = blocks('js').find(block => block.includes("'libcontainer/rootfs'")) ?? '';
  const directory = join(projectRoot, 'build/readme-image');
  mkdirSync(directory, { recursive: true });
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'example.mjs'), example);
  const config = { Entrypoint: ['/bin/sh', '-c'], Cmd: ['echo of an image'] };
  writeFileSync(join(directory, 'image.tar'), dockerArchive([busyboxLayer()], 'test:latest', config));
  const { stdout, stderr } = spawnSync(process.execPath, ['example.mjs'], {
    cwd: directory,
    encoding: 'utf8',
  });
  assert.equal(stdout, 'of an image\n\n', stderr);
});

test('README: the console example', { requires: ['root', 'lane:host'] }, async t => {
  const directory = makeDirectory(t);
  const lines = (blocks('console')[0] ?? '')
    .split('\n')
    .filter(line => line.startsWith('# '))
    .map(line =>
      line
        .slice(2)
        .replaceAll('/containers/web', directory)
        .replaceAll('nrunc ', `node ${projectRoot}/dist/nrunc.cjs `),
    );
  assert.equal(lines.length, 2);
  // A shell in a terminal: script(1) makes one.
  const command = `cd ${projectRoot} && ${lines.join(' && ')}`;
  const run = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const all = text(run.stdout, 20_000);
  run.stdin.end('echo "I am $$ in $(hostname)"\nexit 5\n');
  const [out, [status]] = await Promise.all([all, waitFor(run, 'exit', 20_000)]);
  assert.match(out, /I am 1 in runc/);
  assert.equal(status, 5, out);
});
