// node scripts/kill-storm.mjs [--kills N] [--seed S] [--state DIR] [--longest MS] [--verbose]
// The proof of crash safety: a daemon doing a random mix of all operations is killed with SIGKILL at a random time; the
// next daemon calls factory.reconcile(); then everything that the host knows about the containers of this state root is
// compared with what their records say. Exit status 1 when anything was lost, left, or cannot be used.
// --longest: a daemon is killed at most so long after its first operation began (default 150 ms).
import { fork } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultSpecText, LinuxFactory } from '../dist/index.mjs';
import { hierarchies, list, read, settled, total } from './kill-storm-host.mjs';

const { values: options } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    state: { type: 'string', default: '/run/libcontainer-storm' },
    longest: { type: 'string', default: '150' },
    verbose: { type: 'boolean', default: false },
  },
});
const project = join(dirname(fileURLToPath(import.meta.url)), '..');
const prefix = `storm-${process.pid}-`;
const ids = ['a', 'b', 'c', 'd'].map(letter => `${prefix}${letter}`);
mkdirSync(options.state, { recursive: true });
const workspace = mkdtempSync(join(options.state, prefix));
const root = join(workspace, 'root');
const journalPath = join(workspace, 'journal');
const longestMs = Number(options.longest);

const daemonGroups = hierarchies.map(point => join(point, `${prefix}daemon`));

function makeBundles() {
  return [true, false].map(privatePids => {
    const bundle = join(workspace, privatePids ? 'private' : 'shared');
    mkdirSync(bundle);
    const spec = JSON.parse(defaultSpecText());
    spec.process.terminal = false;
    spec.process.args = ['/bin/sleep', '1000'];
    spec.root.path = join(project, 'build/rootfs');
    if (!privatePids) spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
    return bundle;
  });
}

const daemons = new Set();
// As the daemon deals the two bundles out.
const shared = new Set(ids.filter((_, at) => at % 2 === 1));
const looked = { prefix, root, daemons, shared };
const problems = [];
let round = 0;
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    stopped = true;
  });
const problem = text => {
  problems.push(text);
  console.log(`round ${round}: ${text}`);
};

async function startDaemon(bundles) {
  const files = daemonGroups.map(path => `${path}/cgroup.procs`).join(':');
  const seed = Number(options.seed) * 100_003 + daemons.size + round;
  const child = fork(
    join(project, 'scripts/kill-storm-daemon.mjs'),
    [root, journalPath, seed, files, bundles.join(','), ids.join(',')],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: {} },
  );
  daemons.add(child.pid);
  const waiting = new Map();
  child.on('message', message => {
    if (message.type === 'odd') problem(`unexpected failure: ${message.text}`);
    waiting.get(message.type)?.(message);
  });
  const gone = new Promise(resolve => child.once('exit', resolve));
  const next = type =>
    Promise.race([
      new Promise(resolve => waiting.set(type, resolve)),
      gone.then(code => Promise.reject(new Error(`the daemon ended by itself: ${code}`))),
      after(60_000, undefined, { ref: false }).then(() =>
        Promise.reject(new Error(`no "${type}" of the daemon`)),
      ),
    ]);
  await next('loaded');
  const kill = async () => {
    child.kill('SIGKILL');
    await gone;
    daemons.delete(child.pid);
  };
  return { child, next, kill };
}

/** What was under way when the daemon died, and what it had acknowledged before. */
function readJournal() {
  const open = new Map();
  const last = new Map();
  for (const line of read(journalPath).split('\n')) {
    const [kind, mark, id, name, result] = line.split(' ');
    if (kind === 'B') open.set(mark, { id, name });
    else if (kind === 'E') {
      open.delete(mark);
      if (result === 'ok') last.set(id, [...(last.get(id) ?? []), name]);
    }
  }
  return { open: [...open.values()], last };
}

const ends = ['destroy', 'destroyForce'];
const pausers = new Set(['pause']);

/** Loads and uses every survivor; returns id → status. */
async function inspect(factory, before, journal) {
  const known = new Map();
  for (const row of await factory.list()) {
    known.set(row.id, row.status);
    if (!['created', 'running', 'paused', 'stopped'].includes(row.status))
      problem(`${row.id} is ${row.status}: ${row.error}`);
  }
  for (const id of ids) {
    const touching = journal.open.filter(one => one.id === id).map(one => one.name);
    const done = journal.last.get(id) ?? [];
    const history = [before.has(id) ? 'create' : undefined, ...done].filter(Boolean);
    const made = Math.max(history.lastIndexOf('create'), history.lastIndexOf('run'));
    const ended = history.some((name, at) => at > made && ends.includes(name));
    if (made >= 0 && !ended && !touching.some(name => ends.includes(name)) && !known.has(id))
      problem(`${id} is lost; done: ${history.join(' ')}; under way: ${touching.join(' ')}`);
    if (known.get(id) !== 'paused') continue;
    const wasPaused = before.get(id) === 'paused' && made <= 0;
    if (!wasPaused && ![...done, ...touching].some(name => pausers.has(name)))
      problem(`${id} was left frozen; done: ${history.join(' ')}; under way: ${touching.join(' ')}`);
  }
  return known;
}

async function use(factory, known) {
  for (const [id, status] of known) {
    try {
      const container = await factory.load(id);
      const freezer = hierarchies.map(point => read(`${point}/${id}/freezer.state`).trim()).find(Boolean);
      if (freezer === 'FREEZING') problem(`${id} is half frozen`);
      if (status === 'created' && Math.random() < 0.5) await container.exec();
      if (status === 'paused') await container.resume();
      const { pids } = container.config.resources;
      const limit = hierarchies.map(point => read(`${point}/${id}/pids.max`).trim()).find(Boolean);
      if (status !== 'stopped' && pids?.limit > 0 && String(pids.limit) !== limit)
        problem(`${id}: pids limit is ${limit}, recorded ${pids.limit}`);
      if (status === 'running') {
        await container.pause();
        if ((await container.status()) !== 'paused') problem(`${id} does not pause`);
        await container.resume();
      }
      if (Math.random() < 0.4) await container.destroy({ force: true });
    } catch (error) {
      // One that had got its SIGKILL from the daemon may end only now.
      const now = (await factory.list()).find(row => row.id === id)?.status;
      const ended = ['ERR_CONTAINER_NOT_RUNNING', 'ERR_CONTAINER_STOPPED'].includes(error.code);
      if (!(ended && now === 'stopped'))
        problem(`${id} (${status}) cannot be used: ${error.stack} ${error.cause?.stack ?? ''}`);
    }
  }
}

const percentile = (values, share) =>
  values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];

async function storm() {
  const factory = new LinuxFactory({ root });
  const bundles = makeBundles();
  for (const path of daemonGroups) mkdirSync(path);
  for (const [at, path] of daemonGroups.entries())
    for (const name of ['cpuset.cpus', 'cpuset.mems'])
      if (existsSync(`${path}/${name}`))
        appendFileSync(`${path}/${name}`, read(`${hierarchies[at]}/${name}`));
  const figures = { phases: {}, leaks: {}, reconcileMs: [], loaded: 0, reconciled: 0, ended: 0 };
  const wanted = Number(options.kills);
  const started = Date.now();
  let before = new Map();
  let daemon = await startDaemon(bundles);
  for (round = 1; round <= wanted; round++) {
    writeFileSync(journalPath, '');
    const first = daemon.next('first');
    daemon.child.send({ type: 'go' });
    await first;
    const [next] = await Promise.all([
      startDaemon(bundles),
      after(Math.random() * longestMs).then(daemon.kill),
    ]);
    daemon = next;
    const journal = readJournal();
    for (const { name } of journal.open) figures.phases[name] = (figures.phases[name] ?? 0) + 1;
    if (journal.open.length === 0) figures.phases.idle = (figures.phases.idle ?? 0) + 1;
    const answer = daemon.next('reconciled');
    daemon.child.send({ type: 'reconcile' });
    const { ns, containers, removed } = await answer;
    if (containers > 0) figures.reconcileMs.push(ns / 1e6 / containers);
    figures.reconciled += removed.length;
    const known = await inspect(factory, before, journal);
    figures.loaded += known.size;
    figures.ended += [...known.values()].filter(status => status === 'stopped').length;
    const found = await settled(looked, known);
    for (const [kind, names] of Object.entries(found)) {
      figures.leaks[kind] = (figures.leaks[kind] ?? 0) + names.length;
      for (const name of names)
        problem(
          `leaked ${kind}: ${name}; under way: ${journal.open.map(o => `${o.id} ${o.name}`).join(', ')}`,
        );
    }
    // Again: what was dying when it was looked at first is dead now.
    await use(factory, new Map((await factory.list()).map(row => [row.id, row.status])));
    before = new Map((await factory.list()).map(row => [row.id, row.status]));
    if (options.verbose || round % 100 === 0)
      console.log(
        `${round} kills, ${problems.length} problems, ${Math.round((Date.now() - started) / 1000)} s`,
      );
    if (problems.length > 50 || stopped) break;
  }
  round = Math.min(round, wanted);
  await daemon.kill();
  for (const { id } of await factory.list()) await factory.destroy(id, { force: true });
  const rest = await settled(looked, new Map());
  if (total(rest) > 0) problem(`left at the end: ${JSON.stringify(rest)}`);
  return figures;
}

function report({ phases, leaks: counted, reconcileMs, loaded, reconciled, ended }) {
  const text = row =>
    Object.entries(row)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
  console.log(`kills: ${round} (seed ${options.seed})`);
  console.log(`under way when killed: ${text(phases)}`);
  console.log(`survivors loaded and used: ${loaded}; half-made ones removed: ${reconciled}`);
  console.log(`ended beyond their daemon: ${ended}, statuses lost: ${counted.status ?? 0}`);
  console.log(`leaks: ${text(counted)}`);
  const [p50, p99] = [0.5, 0.99].map(share => percentile(reconcileMs, share)?.toFixed(2));
  console.log(`reconcile per container: p50 ${p50} ms, p99 ${p99} ms`);
  console.log(`problems: ${problems.length}`);
}

try {
  report(await storm());
} finally {
  for (const path of daemonGroups) if (existsSync(path)) rmdirSync(path);
  rmSync(workspace, { recursive: true, force: true });
  if (list(options.state).length === 0) rmdirSync(options.state);
}
process.exitCode = problems.length > 0 ? 1 : 0;
