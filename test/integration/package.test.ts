/** What a program that depends on the package gets: the same objects by import and by require, and types for both. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';

/** A directory whose node_modules has this package. */
function dependent(t: TestContext): string {
  const directory = makeDirectory(t);
  mkdirSync(join(directory, 'node_modules'));
  symlinkSync(projectRoot, join(directory, 'node_modules/libcontainer'));
  symlinkSync(join(projectRoot, 'node_modules/@types'), join(directory, 'node_modules/@types'));
  writeFileSync(join(directory, 'package.json'), '{ "private": true }');
  return directory;
}

test('no built file knows where it was built', { requires: ['lane:host'] }, () => {
  const built = join(projectRoot, 'dist');
  const files = readdirSync(built, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
  assert.ok(files.some(({ name }) => name.endsWith('.cache')));
  const paths = files.map(({ parentPath, name }) => join(parentPath, name));
  assert.deepEqual(
    paths.filter(path => readFileSync(path).includes(join(projectRoot, 'build'))),
    [],
  );
});

test('import and require give the same objects', { requires: ['lane:host'] }, t => {
  const directory = dependent(t);
  const program = `
    import * as imported from 'libcontainer';
    import { createRequire } from 'node:module';
    const required = createRequire(import.meta.url)('libcontainer');
    const names = Object.keys(required);
    console.log(JSON.stringify([
      names.length > 10,
      names.filter(name => imported[name] !== required[name]),
      Object.keys(imported).filter(name => !names.includes(name)),
      typeof required.LinuxFactory,
    ]));`;
  writeFileSync(join(directory, 'program.mjs'), program);
  const output = execFileSync(process.execPath, ['program.mjs'], { cwd: directory }).toString();
  assert.deepEqual(JSON.parse(output), [true, [], [], 'function']);
});

test('libcontainer/spec and the JSON Schema come with the package', { requires: ['lane:host'] }, t => {
  const directory = dependent(t);
  const program = `
    import { parseSpec, specSchema } from 'libcontainer/spec';
    import { createRequire } from 'node:module';
    const require = createRequire(import.meta.url);
    const spec = parseSpec({ ociVersion: '1.3.0', root: { path: 'rootfs' }, unknown: 1 });
    let code;
    try { parseSpec({ ociVersion: 7 }); } catch (error) { code = error.code; }
    console.log(JSON.stringify([
      spec,
      code,
      require('libcontainer/spec').specSchema === specSchema,
      Object.keys(require('libcontainer/config.schema.json').properties).includes('linux'),
    ]));`;
  writeFileSync(join(directory, 'program.mjs'), program);
  const output = execFileSync(process.execPath, ['program.mjs'], { cwd: directory }).toString();
  const spec = { ociVersion: '1.3.0', root: { path: 'rootfs' } };
  assert.deepEqual(JSON.parse(output), [spec, 'ERR_SPEC_INVALID', true, true]);
});

const body = `
  const config: Config = await loadConfig('/bundle');
  await using container: Container = await new LinuxFactory().create('id', config);
  if (config.process === undefined) throw new Error('no process');
  const process = new Process({ ...config.process, stdout: 'pipe' });
  await container.run(process, { signal: AbortSignal.timeout(1000) });
  for await (const chunk of process.stdout ?? []) console.log(String(chunk));
  const status: ExitStatus = await process.wait();
  if (status.kind === 'exited') status.code satisfies number;
  else if (status.kind === 'signaled') status.signal satisfies SignalName;
  else status.kind satisfies 'unknown';
  container.on('exit', event => event.oomKilled satisfies boolean);
  for await (const { cpu } of container.stats({ intervalMs: 1000 })) cpu satisfies object;
  // @ts-expect-error: no number
  await container.destroy({ force: 1 });`;
const names =
  'type Config, type Container, type ExitStatus, LinuxFactory, loadConfig, Process, type SignalName';

test('both ways are typed, with strict and without skipLibCheck', {
  requires: ['lane:host'],
  timeoutMs: 120_000,
}, t => {
  const directory = dependent(t);
  const head = `import { ${names} } from 'libcontainer';\n`;
  writeFileSync(join(directory, 'a.mts'), `${head}${body}\n`);
  writeFileSync(join(directory, 'b.cts'), `${head}export async function main(): Promise<void> {${body}\n}\n`);
  const compiler = join(projectRoot, 'node_modules/typescript/bin/tsc');
  const options =
    '--noEmit --strict --module nodenext --target es2022 --lib es2023,esnext.disposable --types node';
  const words = [compiler, ...options.split(' '), 'a.mts', 'b.cts'];
  const { status, stdout } = spawnSync(process.execPath, words, { cwd: directory });
  assert.deepEqual([status, String(stdout)], [0, '']);
});
