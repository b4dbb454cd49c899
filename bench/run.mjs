// npm run bench [-- --quick] [--write] [--profile] [--filter WORD]
// --quick: under a minute. --write: docs/performance.md. --profile: where the time of one of our cycles goes.
// --filter: only measurements whose name holds WORD: run steps exec throughput memory heap idle.
// --cycles N: only N of our own run cycles (with --filter exec: of exec), for perf and strace.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { floor, hiddenFloor, library, makeBundles, peers } from './candidates.mjs';
import { bigHeap, idle, interleave, memory, summary, throughput } from './measure.mjs';
import { profile } from './profile.mjs';
import { document, text } from './report.mjs';
import { compileFloor, loadLibrary, makeWorkspace, root } from './workspace.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    cycles: { type: 'string' },
    filter: { type: 'string', default: '' },
  },
});

const cgroup2 = path => existsSync(path) && statfsSync(path).type === 0x63677270;
const unified = cgroup2('/sys/fs/cgroup');
const hybrid = !unified && cgroup2('/sys/fs/cgroup/unified');
// crun refuses a hybrid host: then everybody sees v1 alone. Extra certificates would cost each child of Node 35 ms.
if (hybrid && process.geteuid() === 0) {
  const script = fileURLToPath(new URL('v1-only.sh', import.meta.url));
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const words = [script, process.execPath, ...process.argv.slice(1)];
  const { status } = spawnSync('sh', words, { stdio: 'inherit', env });
  process.exit(status ?? 1);
}
if (process.geteuid() !== 0) {
  console.error('bench: run as root');
  process.exit(1);
}

const wants = name => name.includes(options.filter);
const rounds = options.quick ? 15 : 100;
const notes = [];
compileFloor();
const workspace = makeWorkspace();
const opened = [];
const keep = candidate => {
  opened.push(candidate);
  return candidate;
};

async function cleanUp() {
  const closed = await Promise.allSettled(opened.splice(0).map(one => one.close()));
  workspace.remove();
  for (const { reason } of closed) if (reason !== undefined) console.error(reason);
}
// A reader of our output that goes away (`| head`) must not leave containers behind.
process.stdout.on('error', () => undefined);
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => cleanUp().finally(() => process.exit(1)));

async function measure(context) {
  const ours = keep(await library(context));
  if (options.cycles !== undefined) {
    const operation = options.filter === 'exec' ? 'exec' : 'run';
    if (operation === 'exec') await ours.prepareExec();
    for (let at = Number(options.cycles); at > 0; at--) await ours[operation]();
    return undefined;
  }
  if (options.profile) {
    await profile(context, ours, keep(await floor()));
    return undefined;
  }
  const bottom = keep(await floor());
  // A daemon's hundredth container is measured, not the compiler's first look at the code.
  const warm = async operation => {
    for (let at = 0; at < 40; at++) for (const one of [ours, bottom]) await one[operation]();
  };
  await warm('run');
  const others = await peers(context, note => notes.push(note));
  for (const one of others) keep(one);
  const all = [ours, bottom, ...others];
  const figures = {};
  const alone = keep(await library(context, { monitor: false }));
  if (wants('run')) Object.assign(figures, await interleave([...all, alone], ['run'], rounds));
  if (wants('steps')) for (let at = 0; at < 40; at++) await ours.steps();
  if (wants('steps')) Object.assign(figures, await interleave(all, ['steps'], Math.ceil(rounds / 2)));
  if (wants('exec')) {
    const able = [...all.filter(one => one.exec !== undefined), keep(hiddenFloor())];
    for (const one of able) await one.prepareExec();
    await warm('exec');
    Object.assign(figures, await interleave(able, ['exec'], rounds));
  }
  const [seconds, slices] = options.quick ? [0.7, 1] : [2, 3];
  return {
    date: new Date().toISOString().slice(0, 10),
    rounds,
    layout: unified ? 'cgroup v2' : hybrid ? 'hybrid cgroups' : 'cgroup v1',
    notes,
    operations: summary(figures),
    ...(wants('throughput') ? { throughput: await throughput(all, [1, 4, 16], seconds, slices) } : {}),
    ...(wants('memory') ? { memory: await memory(context.library, ours, options.quick ? 30 : 200) } : {}),
    ...(wants('idle') ? { idle: await idle(context.library, ours, options.quick ? 30 : 200) } : {}),
    ...(wants('heap') ? { heap: await bigHeap(ours, bottom, Math.max(30, rounds)) } : {}),
    figures,
  };
}

try {
  const context = { library: await loadLibrary(), workspace: workspace.directory };
  const result = await measure({ ...context, ...makeBundles(context) });
  if (result !== undefined) {
    console.log(text(result));
    mkdirSync(join(root, 'bench/results'), { recursive: true });
    const file = join(root, 'bench/results', `${new Date().toISOString().replaceAll(':', '')}.json`);
    writeFileSync(file, `${JSON.stringify(result)}\n`);
    if (options.write) writeFileSync(join(root, 'docs/performance.md'), document(result));
  }
} finally {
  await cleanUp();
}
