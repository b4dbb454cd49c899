// node scripts/sweep.mjs [--all | --sample N] [--config NAME] [--seed N] [--seconds N]: holds init before its k-th system
// call that takes a path, swaps one component of a path that a container controls, lets it go on, and compares the host with
// before. Every k, every component, every kind of swap: --all (hours); --sample N takes N of them per configuration, chosen
// by the seed. First in a VM: what it looks for would be a hole, and would reach this host.
// --dry holds and swaps nothing.
// A container that runs or is refused is fine; a canary that changed, a mount that stayed or a secret that was printed is not.
import { spawn } from 'node:child_process';
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
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '36000' },
    checkout: { type: 'string', default: root },
    verbose: { type: 'boolean', default: false },
    dry: { type: 'boolean', default: false },
  },
});
const checkout = options.checkout;
const deadline = Date.now() + Number(options.seconds) * 1000;

const base = mkdtempSync(join(tmpdir(), 'libcontainer-sweep-'));
const state = join(base, 'state');
const bundle = join(base, 'bundle');
const rootfs = join(bundle, 'rootfs');
const volume = join(base, 'volume');
const kept = join(base, 'kept');
const canary = join(base, 'canary');
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
];
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

function swap(component, kind) {
  const at = join(component.startsWith('volume/') ? base : rootfs, component);
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
  /** Starts once; `act` at the k-th call, when there is one. */
  async run(configuration, k, act) {
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
    let hit = false;
    const event = this.next ?? this.event();
    this.next = undefined;
    const first = await Promise.race([answer.then(() => 'answer'), event.then(line => line)]);
    if (first === 'answer') this.next = event;
    else {
      hit = true;
      act();
      this.tell('go');
    }
    const result = JSON.parse(await answer);
    this.tell('count');
    const counted = await this.take();
    return { ...result, hit, calls: Number(counted.split(' ')[1]) };
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

function* all(calls, components) {
  for (let k = 0; k < calls; k++)
    for (const component of components) for (const kind of Object.keys(swaps)) yield { k, component, kind };
}
function* sample(calls, components, number, next) {
  const pick = list => list[Math.floor(next() * list.length)];
  const kinds = Object.keys(swaps);
  for (let i = 0; i < number; i++)
    yield { k: Math.floor(next() * calls), component: pick(components), kind: pick(kinds) };
}

async function sweep(engine, name, configuration) {
  const spec = configuration.spec({ rootfs, volume, kept });
  mkdirSync(bundle, { recursive: true });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  makeTree();
  const plain = await engine.run(configuration, -1, () => undefined);
  if (plain.outcome !== 'ran' || !plain.output.includes('looked'))
    throw new Error(`sweep: ${name} does not run as it is: ${JSON.stringify(plain)}`);
  const before = host();
  const found = [];
  const counts = { ran: 0, refused: 0, missed: 0 };
  const cases = options.all
    ? all(plain.calls, configuration.components)
    : sample(
        plain.calls,
        configuration.components,
        Number(options.sample),
        random(Number(options.seed) + name.length * 7919),
      );
  let done = 0;
  for (const one of cases) {
    if (Date.now() > deadline) break;
    done += 1;
    makeTree();
    const result = await engine.run(configuration, one.k, () => options.dry || swap(one.component, one.kind));
    counts[result.hit ? result.outcome : 'missed'] += 1;
    const after = host();
    const problems = Object.keys(before).filter(key => String(before[key]) !== String(after[key]));
    if ((result.output ?? '').includes(secret)) problems.push('secret');
    if (options.verbose || problems.length > 0)
      console.log(
        `${problems.length > 0 ? 'HIT' : 'ok '} ${name} k=${one.k} ${one.component}: ${one.kind}: ${result.outcome} ${result.code ?? ''}`,
      );
    if (problems.length > 0) {
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
  const whole = plain.calls * configuration.components.length * Object.keys(swaps).length;
  console.log(
    `sweep: ${name}: ${plain.calls} calls, ${done} of ${whole} cases (${counts.ran} ran, ${counts.refused} refused, ${counts.missed} ended before the call): ${found.length} reached the host`,
  );
  return found.length;
}

for (const directory of [state, bundle, canary, join(kept, 'dir')])
  mkdirSync(directory, { recursive: true, mode: 0o755 });
makeCanary();
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
rmSync(base, { recursive: true, force: true });
process.exitCode = bad > 0 ? 1 : 0;
