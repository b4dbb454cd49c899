// node bench/first-output.mjs [--rounds N]: from the decision to run a program to the first byte that it writes, seen from
// Node: a taken container of a warm pool, a cold run(), sandbox(), and crun and bwrap as child processes, interleaved. Root only.
// With NODE_EXTRA_CA_CERTS Node 20 reads certificates at its start, which is none of these.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { percentile, shuffle } from './statistics.mjs';
import { root, rootfs } from './workspace.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' } } });
const rounds = Number(values.rounds);
const require = createRequire(import.meta.url);
const { LinuxFactory, Process, defaultSpecText, configFromSpec } = require(join(root, 'dist/index.cjs'));
const { sandbox } = require(join(root, 'dist/sandbox.cjs'));

const args = ['/bin/echo', 'x'];
const directory = mkdtempSync('/run/libcontainer-bench-');
const spec = JSON.parse(defaultSpecText());
spec.root = { path: rootfs, readonly: true };
spec.process = { ...spec.process, terminal: false, args };
const config = await configFromSpec(spec, directory);
const factory = new LinuxFactory({ root: join(directory, 'state') });
const pool = factory.pool(config, { size: 8 });
const bundle = join(directory, 'bundle');
mkdirSync(bundle);
writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));

let count = 0;
const id = () => `bench-${process.pid}-${count++}`;
const firstByte = stream => new Promise(resolve => stream.once('data', resolve));

async function child(file, words) {
  const start = performance.now();
  const running = spawn(file, words, { stdio: ['ignore', 'pipe', 'ignore'] });
  const exit = new Promise(resolve => running.once('exit', resolve));
  await firstByte(running.stdout);
  const took = performance.now() - start;
  await exit;
  return took;
}

const candidates = {
  'pool: take, run': async () => {
    const start = performance.now();
    const taken = await pool.take();
    const byte = firstByte(taken.process.stdout);
    await taken.run({ args });
    await byte;
    const took = performance.now() - start;
    await taken.process.wait();
    await taken[Symbol.asyncDispose]();
    return took;
  },
  'run(), cold': async () => {
    const start = performance.now();
    const container = await factory.create(id(), config);
    const program = new Process({ ...config.process, stdout: 'pipe' });
    await container.run(program);
    await firstByte(program.stdout);
    const took = performance.now() - start;
    await program.wait();
    await container.destroy();
    return took;
  },
  'sandbox(), cold, to its result': async () => {
    const start = performance.now();
    await sandbox(args);
    return performance.now() - start;
  },
  bwrap: () =>
    child(
      'bwrap',
      [
        '--ro-bind',
        rootfs,
        '/',
        '--proc',
        '/proc',
        '--dev',
        '/dev',
        '--unshare-all',
        '--die-with-parent',
      ].concat(args),
    ),
  'crun run': () => child('crun', ['--root', join(directory, 'crun'), 'run', '--bundle', bundle, id()]),
};
for (const name of ['bwrap', 'crun'])
  if (spawnSync('which', [name]).status !== 0) delete candidates[name === 'crun' ? 'crun run' : name];
// crun refuses a hybrid host.
if (
  'crun run' in candidates &&
  spawnSync('crun', ['--root', join(directory, 'crun'), 'run', '--bundle', bundle, id()]).status !== 0
)
  delete candidates['crun run'];

const figures = Object.fromEntries(Object.keys(candidates).map(name => [name, []]));
for (let round = -5; round < rounds; round++)
  for (const name of shuffle(Object.keys(candidates))) {
    await pool.full();
    const took = await candidates[name]();
    if (round >= 0) figures[name].push(took);
  }
await pool.close();
rmSync(directory, { recursive: true, force: true });
console.log('| From the decision to the first byte of output | p50 ms | p99 ms |\n| --- | --- | --- |');
for (const [name, list] of Object.entries(figures))
  console.log(`| ${name} | ${percentile(list, 0.5).toFixed(2)} | ${percentile(list, 0.99).toFixed(2)} |`);
