// node scripts/sweep.mjs [--all | --sample N] [--config NAME] [--match 'COMPONENT: KIND'] [--seed N] [--seconds N]: holds init before its k-th system
// call that takes a path, swaps one component of a path that a container controls (or mounts something over it), lets it go
// on, perhaps for one call only, and compares the host with before. Every k, every component, every kind of swap: --all
// (hours), in an order that the seed makes, so that what --seconds cuts off is a sample; --sample N takes N of them per
// configuration. First in a VM: what it looks for would be a hole, and would reach this host.
// --dry holds and swaps nothing. All of it is in a mount namespace of its own, below a tmpfs that has peers.
// A container that runs or is refused is fine; a canary that changed, a mount that stayed or a secret that was printed is not.
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { testProgram } from './programs.mjs';
import { configurations, files } from './sweep-configurations.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values: options } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    sample: { type: 'string', default: '60' },
    config: { type: 'string', default: '' },
    match: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '36000' },
    checkout: { type: 'string', default: root },
    verbose: { type: 'boolean', default: false },
    dry: { type: 'boolean', default: false },
  },
});
const checkout = options.checkout;
if (process.env.LIBCONTAINER_SWEEP_APART !== '1') {
  const words = ['--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)];
  const env = { ...process.env, LIBCONTAINER_SWEEP_APART: '1' };
  const { status, error } = spawnSync('unshare', words, { stdio: 'inherit', env });
  if (error) throw error;
  process.exit(status ?? 1);
}
function must(...words) {
  const { status, stderr } = spawnSync(words[0], words.slice(1), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`sweep: ${words.join(' ')}: ${stderr}`);
}
const deadline = Date.now() + Number(options.seconds) * 1000;

const base = mkdtempSync(join(tmpdir(), 'libcontainer-sweep-'));
must('mount', '-t', 'tmpfs', 'tmpfs', base);
must('mount', '--make-shared', base);
const state = join(base, 'state');
const bundle = join(base, 'bundle');
const rootfs = join(bundle, 'rootfs');
const volume = join(base, 'volume');
const kept = join(base, 'kept');
const canary = join(base, 'canary');
/** What somebody who shares mounts with the container may put over a path of it. */
const planted = join(base, 'planted');
const secret = 'secret of the host';

/** What a swap could reach: a tree with the names that a runtime makes, changes or removes. */
function makeCanary() {
  for (const name of ['dir/inner', 'bin', 'pts', 'b', 'etc', 'dev', 'n'])
    mkdirSync(join(canary, name), { recursive: true });
  for (const name of ['file', 'null', 'ptmx', 'console', 'dir/file', 'etc/passwd', 'bin/sh', 'x'])
    writeFileSync(join(canary, name), `${secret}\n`, { mode: 0o755 });
}

function look(directory) {
  const row = name => {
    const at = join(directory, name);
    const { ino, mode, uid, gid, size, mtimeNs, ctimeNs, nlink } = lstatSync(at, { bigint: true });
    return [name, ino, mode, uid, gid, size, nlink, mtimeNs, ctimeNs].join(' ');
  };
  return ['', ...readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()].map(row).join('\n');
}

const sysctls = [
  'kernel/core_pattern',
  'kernel/domainname',
  'kernel/hostname',
  'kernel/sysrq',
  'vm/overcommit_memory',
  'vm/stat_interval',
];
/** What the container's program tries to change: nothing suffers from another value until it is put back. */
const interval = readFileSync('/proc/sys/vm/stat_interval', 'utf8');
const host = () => ({
  canary: look(canary),
  kept: look(kept),
  mounts: readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => line.includes(base))
    .join('\n'),
  sysctls: sysctls
    .map(name => `/proc/sys/${name}`)
    .map(file => (existsSync(file) ? readFileSync(file, 'utf8') : ''))
    .join(''),
  null: lstatSync('/dev/null', { bigint: true }).ino + lstatSync('/dev/ptmx', { bigint: true }).ino,
});

/** The tree that the container controls, as it is before each run. */
function makeTree() {
  rmSync(rootfs, { recursive: true, force: true });
  rmSync(volume, { recursive: true, force: true });
  const image = join(checkout, 'build/rootfs/bin/busybox');
  const store = join(base, 'busybox');
  if (!existsSync(store)) copyFileSync(image, store);
  for (const [place, tree] of [
    [rootfs, files.rootfs],
    [volume, files.volume],
  ])
    for (const [name, content] of Object.entries(tree)) {
      const at = join(place, name);
      mkdirSync(dirname(at), { recursive: true });
      if (content === undefined) mkdirSync(at, { recursive: true });
      else if (content.startsWith('-> ')) symlinkSync(content.slice(3), at);
      else writeFileSync(at, content, { mode: 0o755 });
    }
  linkSync(store, join(rootfs, 'bin/busybox'));
}

/** What an attacker puts in the place of a component; the old one stays beside it. */
const swaps = {
  'link to the canary': at =>
    symlinkSync(
      existsSync(`${at}.old`) && !lstatSync(`${at}.old`).isDirectory() ? join(canary, 'file') : canary,
      at,
    ),
  'relative link out': at => symlinkSync(join('../../../../../../../../../../..', canary), at),
  'link to the root': at => symlinkSync('/', at),
  'link to a new name': at => symlinkSync(join(canary, 'made'), at),
  'link to /proc/self/root': at => symlinkSync('/proc/self/root', at),
  'link to /proc/1/root of the canary': at => symlinkSync(`/proc/1/root${canary}`, at),
  'a file': at => writeFileSync(at, 'swapped'),
  'a directory': at => mkdirSync(at),
  nothing: () => undefined,
};
/** Seen by one call only: what looks afterwards whether all is well finds the old one again. */
const forOneCall = {
  'for one call, link to the canary': 'link to the canary',
  'for one call, link to the root': 'link to the root',
  'for one call, link to a new name': 'link to a new name',
};
/** A mount that arrives in the namespace of the container. */
const mounts = {
  'tmpfs mounted over': () => 'tmpfs',
  'a foreign volume mounted over': at =>
    existsSync(at) && !lstatSync(at).isDirectory() ? join(planted, 'file') : planted,
  'a sysctl of the host mounted over': () => '/proc/sys/vm/stat_interval',
};
const kinds = [...Object.keys(swaps), ...Object.keys(forOneCall), ...Object.keys(mounts)];
/** Over anything else than a file of procfs it would be the container's own program that writes to it. */
const applies = ({ component, kind }) =>
  kind !== 'a sysctl of the host mounted over' || component.startsWith('proc/sys/');

const placeOf = component => join(component.startsWith('volume/') ? base : rootfs, component);

function swap(component, kind) {
  const at = placeOf(component);
  try {
    renameSync(at, `${at}.old`);
  } catch (error) {
    // Not there (yet), or something above it is already gone: it is planted.
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR' && error.code !== 'EBUSY') throw error;
  }
  try {
    swaps[kind](at);
  } catch (error) {
    if (!['EEXIST', 'ENOENT', 'ENOTDIR'].includes(error.code)) throw error;
  }
}

function swapBack(component) {
  const at = placeOf(component);
  rmSync(at, { force: true });
  try {
    renameSync(`${at}.old`, at);
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
  }
}

/** What is done when init is held the first time, the second time. */
function actsOf({ component, kind }) {
  if (kind in swaps) return [() => swap(component, kind)];
  if (kind in forOneCall) return [() => swap(component, forOneCall[kind]), () => swapBack(component)];
  const target = component.replace(/^volume\//, 'data/');
  return [engine => engine.mount(mounts[kind](placeOf(component)), target)];
}

/** A mount that was made before init had cut itself off has come to us, too: that is the attacker's doing, not init's. */
function unmountStrays() {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${rootfs}/`) || point.startsWith(`${volume}/`));
  for (const point of points.reverse()) must('umount', '--lazy', point);
}

/** Lines of a stream, one at a time. */
function lineReader(stream) {
  const iterator = createInterface({ input: stream })[Symbol.asyncIterator]();
  return async () => {
    const { value, done } = await iterator.next();
    if (done) throw new Error('sweep: the driver ended');
    return value;
  };
}

class Engine {
  constructor() {
    const words = [
      process.execPath,
      join(checkout, 'scripts/sweep-driver.mjs'),
      join(checkout, 'dist/index.mjs'),
      state,
    ];
    const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, ...env } = process.env;
    this.child = spawn(testProgram('sweep', checkout), words, {
      stdio: ['pipe', 'pipe', 'inherit', 'pipe', 'pipe'],
      env,
    });
    this.answer = lineReader(this.child.stdout);
    this.event = lineReader(this.child.stdio[4]);
    this.count = 0;
  }
  tell(line) {
    this.child.stdio[3].write(`${line}\n`);
  }
  /** Starts once; the acts come at the k-th call, when there is one, and at those behind it. */
  async run(configuration, k, acts) {
    const id = `sweep-${process.pid}-${++this.count}`;
    const request = JSON.stringify({ id, bundle, enter: configuration.enter === true });
    if (configuration.enter) {
      await this.arm(-1);
      this.child.stdin.write(`${request}\n`);
      const standing = JSON.parse(await this.answer());
      if (standing.standing !== true) return { ...standing, hit: false, calls: 0 };
      await this.arm(k);
      this.child.stdin.write('go\n');
    } else {
      await this.arm(k);
      this.child.stdin.write(`${request}\n`);
    }
    const answer = this.answer();
    let hits = 0;
    for (;;) {
      const event = this.next ?? this.event();
      this.next = event;
      const first = await Promise.race([answer.then(() => 'answer'), event]);
      if (first === 'answer') break;
      this.next = undefined;
      await acts[hits++]?.(this);
      this.tell(hits < acts.length ? 'next' : 'go');
    }
    const result = JSON.parse(await answer);
    this.tell('count');
    const counted = await this.take();
    return { ...result, hit: hits > 0, calls: Number(counted.split(' ')[1]) };
  }
  async mount(source, target) {
    this.tell(`mount\t${source}\t${target}\t${rootfs}`);
    await this.event();
  }
  async take() {
    const event = this.next ?? this.event();
    this.next = undefined;
    return event;
  }
  async arm(k) {
    this.tell(`arm ${k}`);
    await this.take();
  }
  close() {
    this.child.stdin.end();
    this.child.stdio[3].end();
  }
}

/** mulberry32: the same sample for the same seed. */
function random(seed) {
  let at = seed >>> 0;
  return () => {
    at = (at + 0x6d2b79f5) >>> 0;
    let value = Math.imul(at ^ (at >>> 15), at | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

function every(calls, components, next) {
  const cases = [];
  for (let k = 0; k < calls; k++)
    for (const component of components)
      for (const kind of kinds)
        if (applies({ component, kind }) && `${component}: ${kind}`.includes(options.match))
          cases.push({ k, component, kind });
  for (let at = cases.length - 1; at > 0; at--) {
    const other = Math.floor(next() * (at + 1));
    [cases[at], cases[other]] = [cases[other], cases[at]];
  }
  return cases;
}

async function sweep(engine, name, configuration) {
  const spec = configuration.spec({ rootfs, volume, kept });
  mkdirSync(bundle, { recursive: true });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  makeTree();
  const plain = await engine.run(configuration, -1, []);
  if (plain.outcome !== 'ran' || !plain.output.includes('looked'))
    throw new Error(`sweep: ${name} does not run as it is: ${JSON.stringify(plain)}`);
  const before = host();
  const found = [];
  const counts = { ran: 0, refused: 0, missed: 0 };
  const whole = every(
    plain.calls,
    configuration.components,
    random(Number(options.seed) + name.length * 7919),
  );
  const cases = options.all ? whole : whole.slice(0, Number(options.sample));
  let done = 0;
  for (const one of cases) {
    if (Date.now() > deadline) break;
    done += 1;
    makeTree();
    const result = await engine.run(configuration, one.k, options.dry ? [() => undefined] : actsOf(one));
    if (one.kind in mounts) unmountStrays();
    counts[result.hit ? result.outcome : 'missed'] += 1;
    const after = host();
    const problems = Object.keys(before).filter(key => String(before[key]) !== String(after[key]));
    if ((result.output ?? '').includes(secret)) problems.push('secret');
    if (options.verbose || problems.length > 0)
      console.log(
        `${problems.length > 0 ? 'HIT' : 'ok '} ${name} k=${one.k} ${one.component}: ${one.kind}: ${result.outcome} ${result.code ?? ''}`,
      );
    if (problems.length > 0) {
      writeFileSync('/proc/sys/vm/stat_interval', interval);
      found.push({ ...one, problems });
      console.log(
        JSON.stringify(
          { problems, before, after, result },
          (_, value) => (typeof value === 'bigint' ? String(value) : value),
          1,
        ),
      );
      rmSync(canary, { recursive: true, force: true });
      makeCanary();
      Object.assign(before, host());
    }
  }
  console.log(
    `sweep: ${name}: ${plain.calls} calls, ${done} of ${whole.length} cases (${counts.ran} ran, ${counts.refused} refused, ${counts.missed} ended before the call): ${found.length} reached the host`,
  );
  return found.length;
}

for (const directory of [state, bundle, canary, join(kept, 'dir')])
  mkdirSync(directory, { recursive: true, mode: 0o755 });
makeCanary();
// With no peer: over one that has, its owner could mount on the host himself.
mkdirSync(planted);
must('mount', '-t', 'tmpfs', 'tmpfs', planted);
must('mount', '--make-private', planted);
for (const name of ['self/attr/exec', 'sys/net/ipv4/ip_default_ttl', 'file', 'dir/file', 'a/b/file']) {
  mkdirSync(dirname(join(planted, name)), { recursive: true });
  writeFileSync(join(planted, name), 'planted');
}
writeFileSync(join(kept, 'file'), 'kept');
writeFileSync(join(kept, 'dir/file'), 'kept');
let bad = 0;
const engine = new Engine();
try {
  for (const [name, configuration] of Object.entries(configurations))
    if (name.includes(options.config)) bad += await sweep(engine, name, configuration);
} finally {
  engine.close();
}
must('umount', '--lazy', base);
rmSync(base, { recursive: true, force: true });
process.exitCode = bad > 0 ? 1 : 0;
