/** The package as it is published: installed into an empty project, without scripts and without a compiler. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';

const manifest = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly files: readonly string[];
  readonly scripts: { readonly [name: string]: string };
  readonly dependencies: { readonly [name: string]: string };
  readonly exports: { readonly [path: string]: unknown };
};
const options = { requires: ['root', 'lane:host'], timeoutMs: 180_000 } as const;

function npm(cwd: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync('npm', words, { cwd, encoding: 'utf8' });
  assert.equal(status, 0, `npm ${words.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

/** What `npm pack` makes of this checkout, without the rebuild; the checkout's own dist stays as it is. */
function tarball(t: TestContext): string {
  const directory = makeDirectory(t);
  const files = manifest.files.filter(name => !name.startsWith('!'));
  for (const name of ['package.json', 'README.md', 'LICENSE', ...files])
    cpSync(join(projectRoot, name), join(directory, name), { recursive: true });
  const native = join(directory, `dist/native/linux-${process.arch}`);
  mkdirSync(native, { recursive: true });
  copyFileSync(join(projectRoot, 'build/Release/libcontainer.node'), join(native, 'libcontainer.node'));
  copyFileSync(join(projectRoot, 'build/init/init'), join(native, 'init'));
  copyFileSync(join(projectRoot, 'build/front/nrunc-front'), join(native, 'nrunc-front'));
  npm(directory, 'pack', '--ignore-scripts', '--loglevel=error');
  return join(directory, `libcontainer-${manifest.version}.tgz`);
}

/** A project with the package and its dependencies, the latter from this checkout: no registry is asked. */
function project(t: TestContext, file: string): string {
  const directory = makeDirectory(t);
  writeFileSync(join(directory, 'package.json'), '{ "private": true }');
  const dependencies = Object.keys(manifest.dependencies).map(name =>
    join(projectRoot, 'node_modules', name),
  );
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error', '--offline'];
  npm(directory, 'install', '--ignore-scripts', ...quiet, file, ...dependencies);
  return directory;
}

test('the tarball, installed with --ignore-scripts, runs the example of the README and nrunc', options, t => {
  const file = tarball(t);
  const bytes = statSync(file).size;
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < 2 << 20, `${bytes} bytes`);
  for (const script of ['install', 'preinstall', 'postinstall', 'prepare'])
    assert.ok(!(script in manifest.scripts), script);
  const directory = project(t, file);
  const installed = join(directory, 'node_modules/libcontainer');
  // All but zod is in the bundles, and zod is there for the types of libcontainer/spec.
  const beside = readdirSync(join(directory, 'node_modules')).filter(name => !name.startsWith('.'));
  assert.deepEqual(beside.sort(), ['libcontainer', 'zod']);
  assert.deepEqual(readdirSync(join(installed, 'dist/native')), [`linux-${process.arch}`]);
  assert.ok(!readdirSync(installed).includes('binding.gyp'));
  const readme = readFileSync(join(installed, 'README.md'), 'utf8');
  const example = /```js\n([\s\S]*?from 'libcontainer\/sandbox'[\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(example !== undefined, 'the README has an example of libcontainer/sandbox');
  writeFileSync(join(directory, 'example.mjs'), example);
  const out = execFileSync(process.execPath, ['example.mjs'], { cwd: directory, encoding: 'utf8' });
  assert.equal(out, '0 42\n');
  writeFileSync(
    join(directory, 'b.cjs'),
    "const { sandbox } = require('libcontainer/sandbox'); sandbox(['true']).then(r => console.log(r.exitCode));",
  );
  assert.equal(execFileSync(process.execPath, ['b.cjs'], { cwd: directory, encoding: 'utf8' }), '0\n');
  const nrunc = join(directory, 'node_modules/.bin/nrunc');
  assert.equal(
    execFileSync(nrunc, ['sandbox', '--', 'sh', '-c', 'echo $((6*7))'], { encoding: 'utf8' }),
    '42\n',
  );
});

test('publint and attw have nothing to say about the tarball', options, t => {
  const file = tarball(t);
  for (const [name, ...words] of [
    ['publint', 'run', '--strict', file],
    ['attw', '--quiet', file],
  ]) {
    const program = join(projectRoot, 'node_modules/.bin', name ?? '');
    const { status, stdout, stderr } = spawnSync(program, words, { encoding: 'utf8' });
    assert.equal(status, 0, `${name}: ${stdout}${stderr}`);
  }
});

test('in a Worker the package works as in the main thread', options, t => {
  const directory = project(t, tarball(t));
  writeFileSync(
    join(directory, 'worker.mjs'),
    `import { Worker, isMainThread, parentPort } from 'node:worker_threads';
     import { sandbox } from 'libcontainer/sandbox';
     const run = async () => (await sandbox(['echo', 'hello'])).stdout;
     if (isMainThread) {
       const worker = new Worker(new URL(import.meta.url));
       worker.on('message', async text => console.log(text, await run()));
     } else parentPort.postMessage(await run());`,
  );
  const out = execFileSync(process.execPath, ['worker.mjs'], { cwd: directory, encoding: 'utf8' });
  assert.equal(out, 'hello\n hello\n\n');
});

for (const platform of ['darwin', 'win32'])
  test(`on ${platform} everything imports; the first use is a typed error with a hint`, options, t => {
    const directory = makeDirectory(t);
    const program = `
      Object.defineProperty(process, 'platform', { value: '${platform}' });
      if ('${platform}' === 'win32') delete process.geteuid;
      const names = ${JSON.stringify(Object.keys(manifest.exports).filter(name => !name.endsWith('.json')))};
      for (const name of names) require(require('node:path').join('libcontainer', name));
      const { LinuxFactory, defaultSpecText } = require('libcontainer');
      JSON.parse(defaultSpecText());
      require('libcontainer/spec').parseSpec({ ociVersion: '1.3.0', root: { path: 'x' } });
      const { sandbox } = require('libcontainer/sandbox');
      (async () => {
        const seen = [];
        for (const use of [() => sandbox(['true']), () => new LinuxFactory({ root: '/x' }).list().then(() => { throw { code: 'none' }; })])
          await use().catch(error => seen.push(error.code, typeof error.hint));
        console.log(JSON.stringify(seen.slice(0, 2)));
      })();`;
    mkdirSync(join(directory, 'node_modules'));
    cpSync(projectRoot, join(directory, 'node_modules/libcontainer'), {
      recursive: true,
      filter: path => !/\/(node_modules|build|\.git|test)$/.test(path) || path === projectRoot,
    });
    writeFileSync(join(directory, 'a.cjs'), program);
    const out = execFileSync(process.execPath, ['a.cjs'], { cwd: directory, encoding: 'utf8' });
    assert.deepEqual(JSON.parse(out), ['ERR_PLATFORM', 'string']);
  });
