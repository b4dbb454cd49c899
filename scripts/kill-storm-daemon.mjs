// The daemon that scripts/kill-storm.mjs kills: a random mix of all operations, one worker per container. Every operation
// is written to the journal before it begins and after it has ended, by a plain write(2): what the killed daemon has
// acknowledged is known.
import { appendFileSync, existsSync, openSync, writeSync } from 'node:fs';
import { LinuxFactory, loadConfig, Process } from '../dist/index.mjs';

const [root, journalPath, seed, cgroupFiles, bundles, names] = process.argv.slice(2);
// Into cgroups of the storm first: whatever this process leaves anywhere is then known to be ours. A name may have a comma:
// cpu,cpuacct.
for (const file of cgroupFiles.split(':')) appendFileSync(file, String(process.pid));
const factory = new LinuxFactory({ root });
const journal = openSync(journalPath, 'a');

// mulberry32
let state = Number(seed);
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const pick = list => list[Math.floor(random() * list.length)];

let count = 0;
/** Refusals are part of the storm (others' operations come in between), but nothing else is. */
const refusals =
  /^(ERR_CONTAINER_\w+|ERR_START|ERR_EXEC_\w+|ERR_INIT\w*|ERR_CGROUP_NOT_EMPTY|ERR_CGROUP_BUSY)$/;
async function told(id, name, work) {
  const mark = `${process.pid}.${++count}`;
  writeSync(journal, `B ${mark} ${id} ${name}\n`);
  if (count === 1) process.send({ type: 'first' });
  try {
    await work();
    writeSync(journal, `E ${mark} ${id} ${name} ok\n`);
  } catch (error) {
    writeSync(journal, `E ${mark} ${id} ${name} ${error.code ?? error.name}\n`);
    if (!refusals.test(error.code ?? ''))
      process.send({ type: 'odd', text: `${id} ${name}: ${error.stack} ${error.cause?.stack ?? ''}` });
  }
}

const sleeper = () => new Process({ args: ['/bin/sleep', '1000'] });

const live = {
  exec: async c => {
    const run = new Process({ args: ['/bin/true'], stdout: 'pipe' });
    await c.start(run);
    await run.wait();
  },
  execLong: c => c.start(sleeper()),
  prepareRelease: async c => (await c.prepare(sleeper())).release(),
  prepareCancel: async c => (await c.prepare(sleeper())).cancel(),
  pause: c => c.pause(),
  set: c => c.set({ ...c.config.resources, pids: { limit: 100 + Math.floor(random() * 900) } }),
  stats: c => c.stats(),
  events: async c => {
    const events = c.events();
    await c.status();
    await events.return();
  },
  signalAll: c => c.signal('WINCH', { all: true }),
  signalKill: c => c.signal('KILL'),
  killAll: c => c.signal('KILL', { all: true }),
  destroyForce: c => c.destroy({ force: true }),
};
const choices = {
  created: ['release', 'release', 'exec', 'pause', 'set', 'destroy', 'signalKill'],
  running: Object.keys(live),
  paused: ['resume', 'resume', 'set', 'stats', 'signalKill', 'killAll', 'destroyForce'],
  stopped: ['destroy'],
};
Object.assign(live, {
  release: c => c.exec(),
  resume: c => c.resume(),
  destroy: c => c.destroy(),
});

async function worker(id, bundle) {
  const config = await loadConfig(bundle);
  let container;
  for (;;) {
    if (!existsSync(`${root}/${id}`)) {
      const name = random() < 0.5 ? 'run' : 'create';
      await told(id, name, async () => {
        container = await factory.create(id, config);
        const first = sleeper();
        await (name === 'run' ? container.run(first) : container.start(first));
      });
    } else if (container === undefined || random() < 0.2)
      container = await factory.load(id).catch(() => undefined);
    const status = container === undefined ? undefined : await container.status();
    const names = choices[status];
    if (names === undefined) continue;
    const name = pick(names);
    const first = told(id, name, () => live[name](container));
    // Now and then two at once on the same container.
    const other = random() < 0.2 ? pick(names) : undefined;
    await Promise.all([first, other && told(id, other, () => live[other](container))]);
    if (['destroy', 'destroyForce'].some(word => [name, other].includes(word))) container = undefined;
  }
}

process.on('message', async message => {
  if (message.type === 'reconcile') {
    const containers = (await factory.list()).length;
    const start = process.hrtime.bigint();
    const removed = await factory.reconcile();
    process.send({ type: 'reconciled', removed, containers, ns: Number(process.hrtime.bigint() - start) });
  } else names.split(',').map((id, at) => worker(id, bundles.split(',')[at % bundles.split(',').length]));
});
process.send({ type: 'loaded' });
