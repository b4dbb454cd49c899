// npm run demo: real containers on the default config that `nrunc spec` writes, looked at from inside and from outside.
// Every line that says "ok" was checked; anything that is off, or left behind, makes the exit status 1.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { leaksSince, snapshot } from './leaks.mjs';
import { setUp } from './setup.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const nrunc = join(root, 'dist/nrunc.cjs');
const mebibyte = 1024 * 1024;
let off = 0;

const title = text => console.log(`\n${text}`);
function check(what, seen, expected) {
  const good = expected instanceof RegExp ? expected.test(String(seen)) : String(seen) === String(expected);
  if (!good) off += 1;
  const shown = String(seen).trim().replaceAll('\n', ' ');
  console.log(`  ${good ? 'ok ' : 'OFF'} ${what}: ${shown}${good ? '' : `, expected ${expected}`}`);
}

async function collect(stream) {
  let text = '';
  for await (const part of stream) text += part;
  return text;
}

/** The lines `name=value` that the program inside the container wrote. */
const facts = text =>
  Object.fromEntries(
    text
      .split('\n')
      .filter(line => /^\w+=/.test(line))
      .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

// What the program in the container looks at. It waits for a line on stdin, so that we can look from outside meanwhile.
const inside = `
echo "pid=$$"; echo "hostname=$(hostname)"; echo "uid=$(id -u)"
for n in pid mnt uts ipc net cgroup; do echo "ns_$n=$(readlink /proc/self/ns/$n)"; done
echo "root=$(ls / | tr '\\n' ' ')"
echo "rootmount=$(awk '$2 == "/" { print $4 }' /proc/mounts)"
if echo x 2>/dev/null > /written; then echo write=worked; else echo write=refused; fi
echo "processes=$(ls /proc | grep -c '^[0-9]')"; echo "interfaces=$(ls /sys/class/net | tr '\\n' ' ')"
echo "nnp=$(awk '/NoNewPrivs/ { print $2 }' /proc/self/status)"
echo "caps=$(awk '/CapEff/ { print $2 }' /proc/self/status)"
i=0; while [ $i -lt 40 ]; do (sleep 30 &) 2>/dev/null || break; i=$((i + 1)); done; echo "forks=$i"
echo "errors go here" >&2
echo ready
read line; echo "heard=$line"; exit 7
`;

function makeBundle(work) {
  const bundle = join(work, 'bundle');
  mkdirSync(bundle);
  cpSync(join(root, 'build/rootfs'), join(bundle, 'rootfs'), { recursive: true, verbatimSymlinks: true });
  execFileSync(process.execPath, [nrunc, 'spec', '--bundle', bundle]);
  const path = join(bundle, 'config.json');
  const spec = JSON.parse(readFileSync(path, 'utf8'));
  spec.process.terminal = false;
  spec.linux.resources = { ...spec.linux.resources, memory: { limit: 64 * mebibyte }, pids: { limit: 16 } };
  writeFileSync(path, JSON.stringify(spec, undefined, 2));
  return bundle;
}

function readLimit(paths, v1, v2) {
  const [controller, file] = v1;
  const directory = paths[controller] ?? paths[''];
  const path = paths[controller] === undefined || existsSync(join(directory, v2)) ? v2 : file;
  return readFileSync(join(directory, path), 'utf8').trim();
}

async function lookAtContainer({ LinuxFactory, Process, loadConfig }, bundle, stateRoot) {
  const factory = new LinuxFactory({ root: stateRoot });
  const config = await loadConfig(bundle);
  const container = await factory.create('demo-library', config);
  const started = performance.now();
  const program = new Process({
    ...config.process,
    args: ['/bin/sh', '-c', inside],
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const plan = await container.plan(program);
  await container.run(program);
  const startMs = performance.now() - started;
  const errors = collect(program.stderr);
  let text = '';
  const ready = new Promise((resolve, reject) => {
    program.stdout.on('data', data => {
      text += data;
      if (text.includes('ready\n')) resolve();
    });
    program.stdout.once('end', () => reject(new Error(`the program ended before it was ready: ${text}`)));
  });
  const outputEnd = new Promise(resolve => program.stdout.once('end', resolve));
  await ready;

  title('From inside (what the program in the container reads)');
  const seen = facts(text);
  check('it is PID', seen.pid, 1);
  check('hostname', seen.hostname, config.hostname ?? 'runc');
  check('user', seen.uid, 0);
  check('root file system', seen.root, /bin dev etc/);
  check('root is mounted', seen.rootmount, /^ro\b/);
  check('writing to it was', seen.write, 'refused');
  check('network interfaces', seen.interfaces.trim(), 'lo');
  check('NoNewPrivs', seen.nnp, 1);
  check('effective capabilities', seen.caps, '0000000020000420');
  check('processes it could fork under the limit of 16', seen.forks, /^([0-9]|1[0-5])$/);

  title('From outside (the host looks at the same container)');
  const state = await container.state();
  const pid = program.pid;
  check('status', await container.status(), 'running');
  check('host pid of init', pid, /^\d{2,}$/);
  check(
    'NSpid',
    /^NSpid:\s+(.*)$/m
      .exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
      .split('\t')
      .at(-1),
    1,
  );
  for (const { type } of config.namespaces) {
    const name = { network: 'net', mount: 'mnt' }[type] ?? type;
    const theirs = readlinkSync(`/proc/${pid}/ns/${name}`);
    check(
      `${name} namespace is its own and as seen inside`,
      theirs !== readlinkSync(`/proc/self/ns/${name}`) && theirs === seen[`ns_${name}`],
      true,
    );
  }
  check(
    'memory limit in the kernel',
    readLimit(state.cgroup_paths, ['memory', 'memory.limit_in_bytes'], 'memory.max'),
    64 * mebibyte,
  );
  check('pids limit in the kernel', readLimit(state.cgroup_paths, ['pids', 'pids.max'], 'pids.max'), 16);
  check('processes in the cgroup', (await container.processes()).length, /^([2-9]|1[0-6])$/);

  program.stdin.write('hello from the host\n');
  program.stdin.end();
  const status = await program.wait();
  await outputEnd;
  title('Streams and exit status');
  check('stdin reached it', facts(text).heard, 'hello from the host');
  check('stderr came apart from stdout', (await errors).trim(), 'errors go here');
  check('exit status', JSON.stringify(status), '{"kind":"exited","code":7}');
  check('status after the exit', await container.status(), 'stopped');
  await container.destroy();

  title(`Start plan and the time of each step (start in all: ${startMs.toFixed(2)} ms)`);
  const times = program.durationsNs;
  plan.steps.forEach((step, index) => {
    const { kind, ...fields } = step;
    const words = Object.entries(fields).filter(
      ([, v]) => ['string', 'number', 'boolean'].includes(typeof v) && v !== '' && v !== 0 && v !== false,
    );
    const text = words.map(([name, value]) => `${name}=${value}`).join(' ');
    console.log(
      `  ${String(index).padStart(3)} ${`${((times[index] ?? 0) / 1000).toFixed(1)} µs`.padStart(12)}  ${kind} ${text}`.slice(
        0,
        118,
      ),
    );
  });
  check('steps with a measured time', times.filter(ns => ns > 0).length > plan.steps.length / 2, true);
}

async function exceedMemory({ LinuxFactory, Process, loadConfig }, bundle, stateRoot) {
  title('A container that takes more memory than its limit');
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root: stateRoot }).create('demo-memory', config);
  const program = new Process({ ...config.process, args: ['/bin/tail', '/dev/zero'] });
  await container.run(program);
  check('its end', JSON.stringify(await program.wait()), /"signaled","signal":"(SIG)?KILL"/);
  await container.destroy();
}

function useCommandLine(bundle, stateRoot) {
  title('The same through the command line');
  const call = (...args) => {
    const result = spawnSync(process.execPath, [nrunc, '--root', stateRoot, ...args], {
      encoding: 'utf8',
      cwd: bundle,
      timeout: 60_000,
    });
    return { status: result.status, out: result.stdout.trim(), err: result.stderr.trim() };
  };
  const path = join(bundle, 'config.json');
  const spec = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(
    path,
    JSON.stringify({
      ...spec,
      process: { ...spec.process, args: ['/bin/sh', '-c', 'echo "pid $$ on $(hostname)"; exit 3'] },
    }),
  );
  const run = call('run', 'demo-cli');
  check('nrunc run: output', run.out || run.err, `pid 1 on ${spec.hostname}`);
  check('nrunc run: exit status', run.status, 3);
  writeFileSync(path, JSON.stringify({ ...spec, process: { ...spec.process, args: ['/bin/sleep', '600'] } }));
  // Its output goes nowhere: a pipe that the container holds would not end before it.
  const create = spawnSync(process.execPath, [nrunc, '--root', stateRoot, 'create', 'demo-created'], {
    cwd: bundle,
    stdio: 'ignore',
    timeout: 60_000,
  });
  check('nrunc create', create.status, 0);
  check('nrunc state', JSON.parse(call('state', 'demo-created').out || '{}').status, 'created');
  check('nrunc start', call('start', 'demo-created').status, 0);
  check('nrunc list', call('list', '--quiet').out, 'demo-created');
  check('nrunc state', JSON.parse(call('state', 'demo-created').out || '{}').status, 'running');
  check('nrunc delete --force', call('delete', '--force', 'demo-created').status, 0);
  check('nrunc list', call('list', '--quiet').out, '');
}

await setUp({});
if (process.geteuid() !== 0) {
  console.error('demo: containers need root: sudo npm run demo');
  process.exit(1);
}
const library = await import('../dist/index.mjs');
const before = snapshot();
const work = mkdtempSync(join(tmpdir(), 'libcontainer-demo-'));
const stateRoot = mkdtempSync('/run/libcontainer-demo-');
try {
  const bundle = makeBundle(work);
  await lookAtContainer(library, bundle, stateRoot);
  await exceedMemory(library, bundle, stateRoot);
  useCommandLine(bundle, stateRoot);
} catch (error) {
  off += 1;
  console.error(error);
  for (const id of ['demo-library', 'demo-memory', 'demo-cli', 'demo-created'])
    spawnSync(process.execPath, [nrunc, '--root', stateRoot, 'delete', '--force', id], {
      stdio: 'ignore',
      timeout: 60_000,
    });
} finally {
  rmSync(work, { recursive: true, force: true });
  rmSync(stateRoot, { recursive: true, force: true });
}
title('Everything is destroyed');
// Only what is ours: a machine that runs containers makes cgroups and processes of its own meanwhile.
const ours = leak => /demo-|^process \d+ \((init|sh|tail|sleep)\)/.test(leak);
const leaks = (await leaksSince(before)).filter(leak => !leak.startsWith('descriptor ') && ours(leak));
check('cgroups, mounts, processes and directories left', leaks.join('; ') || 'none', 'none');
console.log(
  off === 0 ? '\nThe demo is all right.' : `\n${off} ${off === 1 ? 'thing is' : 'things are'} off.`,
);
process.exitCode = off === 0 ? 0 : 1;
