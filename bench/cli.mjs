// node bench/cli.mjs [--rounds N] [--nrunc FILE]… [--write]: what each command costs as a process of its own, from vfork to
// exit, against runc and crun; `nrunc-front` is the front before a server (docs/adr/0026). --nrunc: another executable to compare
// (other flags of node). --write: docs/performance-cli.md. The node of `node` runs an empty program: the floor of anything
// that is written for it.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { command, Helper } from './helper.mjs';
import { percentile, shuffle } from './statistics.mjs';
import { compileFloor, loadLibrary, makeBundle, makeWorkspace, root } from './workspace.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '100' },
    nrunc: { type: 'string', multiple: true, default: [] },
    write: { type: 'boolean', default: false },
  },
});
const isCgroup2 = path => existsSync(path) && statfsSync(path).type === 0x63677270;
// As bench/run.mjs: crun refuses a hybrid host. And extra certificates cost each start of Node 35 ms.
if (isCgroup2('/sys/fs/cgroup/unified')) {
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, ...env } = process.env;
  const script = fileURLToPath(new URL('v1-only.sh', import.meta.url));
  const words = [script, process.execPath, ...process.argv.slice(1)];
  process.exit(spawnSync('sh', words, { stdio: 'inherit', env }).status ?? 1);
}

const rounds = Number(options.rounds);
compileFloor();
const { directory: workspace, remove } = makeWorkspace();
process.once('exit', remove);
const bundle = makeBundle({ library: await loadLibrary(), workspace }, 'long', ['/bin/sleep', '100000']);

/** One file that names its interpreter, as docs/engines.md installs it. */
function installed() {
  const file = join(workspace, 'nrunc');
  writeFileSync(file, `#!${process.execPath}\nrequire(${JSON.stringify(join(root, 'dist/nrunc.cjs'))});\n`);
  chmodSync(file, 0o755);
  return file;
}

const served = join(workspace, 'front');
mkdirSync(served);
process.env.NRUNC_SOCKET = join(served, 'socket');

/** The front; what it leaves to Node is counted: it would be the wrong figure. */
function front() {
  const file = join(served, 'nrunc-front');
  copyFileSync(join(root, 'build/front/nrunc-front'), file);
  const left = `echo "$*" >> '${join(served, 'left')}'`;
  writeFileSync(
    `${file}-node`,
    `#!/bin/sh\n${left}\nexec '${process.execPath}' '${join(root, 'dist/nrunc.cjs')}' "$@"\n`,
  );
  for (const path of [file, `${file}-node`]) chmodSync(path, 0o755);
  return file;
}

async function startServer() {
  const words = [join(root, 'dist/nrunc.cjs'), 'serve', '--socket', process.env.NRUNC_SOCKET];
  const server = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] });
  while (!existsSync(process.env.NRUNC_SOCKET) && server.exitCode === null) await delay(10);
  return server;
}

const which = name => spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim();
const candidates = [
  ...['runc', 'crun'].map(which).filter(path => path !== ''),
  installed(),
  front(),
  ...options.nrunc,
];
const empty = join(workspace, 'empty.cjs');
writeFileSync(empty, '');
const names = candidates.map((path, at) =>
  candidates.findIndex(p => basename(p) === basename(path)) === at ? basename(path) : path,
);
const server = await startServer();
const helper = await Helper.start('commands');
const figures = new Map();
const add = (operation, name, microseconds) => {
  const row = figures.get(operation) ?? new Map();
  figures.set(operation, row);
  row.set(name, [...(row.get(name) ?? []), microseconds]);
};

async function ended(pid) {
  for (;;) {
    const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
    if (stat === '' || /\) [ZX] /.test(stat)) return;
    await delay(1);
  }
}

let count = 0;
async function round(path, name) {
  count += 1;
  const id = `bench-cli-${process.pid}-${count}`;
  const pidFile = join(workspace, `${id}.pid`);
  const state = join(workspace, `state-${name.replaceAll('/', '-')}`);
  mkdirSync(state, { recursive: true });
  const timed = async (operation, ...words) =>
    add(operation, name, await command(helper, [path, '--root', state, ...words]));
  await timed('create', 'create', '--bundle', bundle, '--pid-file', pidFile, id);
  await timed('state', 'state', id);
  await timed('start', 'start', id);
  await timed('exec', 'exec', id, '/bin/true');
  await timed('exec -d', 'exec', '--detach', id, '/bin/true');
  await timed('kill', 'kill', id, 'KILL');
  await ended(readFileSync(pidFile, 'utf8'));
  await timed('delete', 'delete', id);
  await timed('list', 'list', '-q');
}

try {
  for (let at = 0; at < rounds + 2; at++) {
    // The first two rounds bring the files into memory.
    if (at === 2) figures.clear();
    for (const index of shuffle([...candidates.keys()])) await round(candidates[index], names[index]);
    add('node', 'node', await command(helper, [process.execPath, empty]));
  }
} finally {
  await helper.stop();
  server.kill('SIGTERM');
  for (const [at, path] of candidates.entries()) {
    const state = join(workspace, `state-${names[at].replaceAll('/', '-')}`);
    if (!existsSync(state)) continue;
    const left = execFileSync(path, ['--root', state, 'list', '-q'], { encoding: 'utf8' });
    for (const id of left.split('\n').filter(text => text !== ''))
      spawnSync(path, ['--root', state, 'delete', '--force', id]);
  }
}

const ms = microseconds => (microseconds / 1000).toFixed(1);
const cell = values =>
  values === undefined ? '' : `${ms(percentile(values, 0.5))} (${ms(percentile(values, 0.99))})`;
const operations = [...figures.keys()].filter(name => name !== 'node');
/** Median of the ratios of the rounds to those of runc. */
function ratio(row, name) {
  const [ours, runc] = [row.get(name), row.get('runc')];
  if (ours === undefined || runc === undefined) return '';
  return percentile(
    ours.map((value, at) => value / runc[at]),
    0.5,
  ).toFixed(2);
}
const sums = new Map();
for (const name of names)
  sums.set(
    name,
    figures
      .get('create')
      .get(name)
      .map((value, at) => value + figures.get('start').get(name)[at]),
  );
figures.set('create + start', sums);
operations.push('create + start');
const rows = operations.map(name => {
  const row = figures.get(name);
  const [runc, ours] = ['runc', 'nrunc'].map(one => row.get(one));
  const more = runc === undefined ? '' : ms(percentile(ours, 0.5) - percentile(runc, 0.5));
  return [
    name,
    ...names.map(one => cell(row.get(one))),
    more,
    ratio(row, 'nrunc'),
    ratio(row, 'nrunc-front'),
  ];
});
const head = ['', ...names, 'nrunc − runc', 'nrunc / runc', 'front / runc'];
const line = cells => `| ${cells.join(' | ')} |`;
const table = [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
const node = cell(figures.get('node').get('node'));
const text = `An empty program of node: ${node}.\n\n${table}\n`;
console.log(text);
const left = join(served, 'left');
if (existsSync(left)) {
  const words = readFileSync(left, 'utf8')
    .split('\n')
    .map(line => line.split(' ')[2]);
  const all = [...new Set(words)].filter(word => word !== undefined);
  console.log(
    `the front left to Node: ${all.map(word => `${word} ${words.filter(one => one === word).length}`).join(', ')}`,
  );
}
if (options.write)
  writeFileSync(
    join(root, 'docs/performance-cli.md'),
    `# Performance of the command line

Written by \`node bench/cli.mjs --write\`. Linux ${release()}, ${arch()}, ${cpus().length} processors, Node ${process.version}, ${rounds} rounds,
${new Date().toISOString().slice(0, 10)}. Median milliseconds of a command as a process, from vfork to exit, and p99; all in one run, in random order.
\`nrunc\` is installed as [engines.md](engines.md) says; \`nrunc-front\` is the front before \`nrunc serve\`, which leaves \`exec\` in the
foreground to Node. The ratios are medians of the rounds' ratios. What the library costs in a daemon is in [performance.md](performance.md).

${text}`,
  );
