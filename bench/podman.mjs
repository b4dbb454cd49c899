// node bench/podman.mjs [--count N] [--at-once N]: containers through Podman with runc, nrunc and the front before a server
// (docs/adr/0026), in turn: N in a row, then some at once; wall time, failures, and what is left. As root; the image is made
// of build/rootfs.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { leaksSince, snapshot } from '../scripts/leaks.mjs';
import { median, percentile, shuffle } from './statistics.mjs';
import { root } from './workspace.mjs';

const { values: options } = parseArgs({
  options: { count: { type: 'string', default: '100' }, 'at-once': { type: 'string', default: '20' } },
});
delete process.env.NODE_EXTRA_CA_CERTS;
delete process.env.NODE_OPTIONS;
const systemd = existsSync('/run/systemd/system');
const directory = mkdtempSync('/run/bench-podman-');
const nrunc = join(directory, 'nrunc');
writeFileSync(nrunc, `#!${process.execPath}\nrequire(${JSON.stringify(join(root, 'dist/nrunc.cjs'))});\n`);
chmodSync(nrunc, 0o755);
const front = join(directory, 'front');
copyFileSync(join(root, 'build/front/nrunc-front'), front);
copyFileSync(nrunc, `${front}-node`);
const server = spawn(nrunc, ['serve'], { stdio: ['ignore', 'ignore', 'inherit'] });
const runtimes = { runc: execFileSync('which', ['runc'], { encoding: 'utf8' }).trim(), nrunc, front };
const words = [
  ...[
    '--root',
    join(directory, 'storage'),
    '--runroot',
    join(directory, 'run'),
    '--tmpdir',
    join(directory, 'tmp'),
  ],
  ...['--storage-driver', 'overlay', '--events-backend', 'none', '--log-level', 'error'],
  ...['--cgroup-manager', systemd ? 'systemd' : 'cgroupfs'],
];
const image = 'localhost/bench:1';
const run = path => [
  ...words,
  '--runtime',
  path,
  'run',
  '--rm',
  '--ulimit',
  'nofile=1000:1000',
  '--ulimit',
  'nproc=4000:4000',
  '--network',
  'none',
  image,
  '/bin/true',
];

function once(path) {
  const begun = process.hrtime.bigint();
  const { status, stderr } = spawnSync('podman', run(path), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`podman run: exit status ${status}: ${stderr}`);
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

async function atOnce(path, count) {
  const begun = process.hrtime.bigint();
  const codes = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise(resolve => {
          spawn('podman', run(path), { stdio: 'ignore' }).once('exit', resolve);
        }),
    ),
  );
  const failed = codes.filter(code => code !== 0).length;
  if (failed > 0) throw new Error(`${failed} of ${count} at once failed`);
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

const states = () =>
  existsSync('/run/libcontainer')
    ? readdirSync('/run/libcontainer').filter(name => !name.startsWith('@'))
    : [];
try {
  const importing = ['-c', 'tar -C "$0" -c . | podman "$@"', join(root, 'build/rootfs')];
  execFileSync('sh', [...importing, ...words, 'import', '-q', '-', image], { stdio: 'ignore' });
  for (const path of Object.values(runtimes)) once(path);
  const before = snapshot();
  const times = { runc: [], nrunc: [], front: [] };
  for (let at = 0; at < Number(options.count); at++)
    for (const name of shuffle(Object.keys(runtimes))) times[name].push(once(runtimes[name]));
  const together = {};
  for (const name of Object.keys(runtimes))
    together[name] = await atOnce(runtimes[name], Number(options['at-once']));
  const leaks = (await leaksSince(before)).filter(leak => !leak.startsWith('descriptor '));
  for (const name of Object.keys(runtimes))
    console.log(
      `${name}: ${options.count} in a row: median ${median(times[name]).toFixed(0)} ms, p99 ${percentile(times[name], 0.99).toFixed(0)} ms; ` +
        `${options['at-once']} at once: ${together[name].toFixed(0)} ms`,
    );
  for (const name of ['nrunc', 'front'])
    console.log(
      `${name} / runc: ${(median(times[name]) / median(times.runc)).toFixed(2)} in a row, ${(together[name] / together.runc).toFixed(2)} at once`,
    );
  console.log(`left: ${leaks.length} leaks, ${states().length} states`);
  for (const leak of leaks) console.log(`leak: ${leak}`);
} finally {
  server.kill('SIGTERM');
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${directory}/`));
  for (const point of mounts.reverse()) spawnSync('umount', ['-l', point]);
  rmSync(directory, { recursive: true, force: true });
}
