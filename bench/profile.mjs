// Where the time of one of our run cycles goes: phases seen from JavaScript, steps inside init, functions on the
// JavaScript thread, system calls of all threads and processes.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median } from './statistics.mjs';
import { floorInit, floorProgram, rootfs } from './workspace.mjs';

const cycles = 200;
const row = (value, name, unit = 'us') => console.log(`${value.toFixed(1).padStart(9)} ${unit}  ${name}`);

export async function profile(context, ours, floor) {
  for (let at = 0; at < 30; at++) await ours.run();
  await phases(context, ours, floor);
  await execPhases(context, ours, floor);
  await functions(ours);
  systemCalls(context);
}

async function phases({ library: { Process } }, ours, floor) {
  const lists = { create: [], run: [], wait: [], destroy: [], whole: [], floor: [] };
  const steps = [];
  let names = [];
  for (let at = 0; at < cycles; at++) {
    const t0 = performance.now();
    const container = await ours.factory.create(`bench-profile-${process.pid}-${at}`, ours.config);
    const t1 = performance.now();
    const child = new Process({ ...ours.config.process });
    await container.run(child);
    const t2 = performance.now();
    await child.wait();
    const t3 = performance.now();
    await container.destroy();
    const t4 = performance.now();
    for (const [name, from, to] of [
      ['create', t0, t1],
      ['run', t1, t2],
      ['wait', t2, t3],
      ['destroy', t3, t4],
      ['whole', t0, t4],
    ])
      lists[name].push((to - from) * 1000);
    lists.floor.push((await floor.run()).run);
    if (names.length === 0) names = (await container.plan(child)).steps.map(step => label(step));
    steps.push(child.durationsNs);
  }
  console.log('phases, as JavaScript sees them (median)');
  for (const [name, list] of Object.entries(lists)) row(median(list), name);
  console.log('\nsteps inside init (median)');
  const medians = names.map((name, at) => [median(steps.map(one => (one[at] ?? 0) / 1000)), name]);
  for (const [value, name] of medians.sort((a, b) => b[0] - a[0]).slice(0, 40)) row(value, name);
  row(
    medians.reduce((sum, [value]) => sum + value, 0),
    'all steps',
  );
}

async function execPhases({ library: { Process } }, ours, floor) {
  await ours.prepareExec();
  await floor.prepareExec();
  for (let at = 0; at < 20; at++) await ours.exec();
  const lists = { start: [], wait: [], floor: [] };
  const steps = [];
  for (let at = 0; at < cycles; at++) {
    const t0 = performance.now();
    const child = new Process({ ...ours.config.process });
    await ours.target().start(child);
    const t1 = performance.now();
    await child.wait();
    const t2 = performance.now();
    lists.start.push((t1 - t0) * 1000);
    lists.wait.push((t2 - t1) * 1000);
    lists.floor.push((await floor.exec()).exec);
    steps.push(child.durationsNs);
  }
  console.log('\nexec in a running container (median)');
  for (const [name, list] of Object.entries(lists)) row(median(list), name);
  const sums = steps.map(one => one.reduce((sum, value) => sum + value, 0) / 1000);
  row(median(sums), 'of start: all steps inside init');
}

function label(step) {
  const what = step.target ?? step.path ?? step.file ?? step.name ?? '';
  return `${step.kind} ${what}`;
}

async function functions(ours) {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 50 });
  await session.post('Profiler.start');
  for (let at = 0; at < cycles; at++) await ours.run();
  const { profile: samples } = await session.post('Profiler.stop');
  session.disconnect();
  const nodes = new Map(samples.nodes.map(node => [node.id, node]));
  const self = new Map();
  samples.samples.forEach((id, at) => {
    const { functionName, url, lineNumber } = nodes.get(id).callFrame;
    const name = `${functionName || '(anonymous)'} ${url === '' ? '' : `${basename(url)}:${lineNumber + 1}`}`;
    self.set(name, (self.get(name) ?? 0) + samples.timeDeltas[at]);
  });
  console.log('\nJavaScript thread, self time per cycle');
  const sorted = [...self].sort((a, b) => b[1] - a[1]);
  for (const [name, microseconds] of sorted.slice(0, 30)) row(microseconds / cycles, name);
}

// The difference of two runs, so that starting Node is not in it.
function systemCalls(context) {
  if (spawnSync('sh', ['-c', 'command -v strace']).status !== 0) {
    console.log('\nsystem calls: strace is not installed');
    return;
  }
  const file = join(context.workspace, 'strace');
  const count = (words, input) => {
    const { status, stderr } = spawnSync('strace', ['-f', '-c', '-U', 'name,calls', '-o', file, ...words], {
      input,
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`strace ${words.join(' ')}: ${stderr.slice(-2000)}`);
    const lines = readFileSync(file, 'utf8').split('\n');
    return new Map(
      lines
        .map(line => line.trim().split(/\s+/))
        .filter(([name, calls]) => /^[a-z]/.test(name) && /^[0-9]+$/.test(calls) && name !== 'total')
        .map(([name, calls]) => [name, Number(calls)]),
    );
  };
  const run = fileURLToPath(new URL('run.mjs', import.meta.url));
  const perCycle = make => {
    const [few, many] = [make(5), make(45)];
    return new Map([...many].map(([name, calls]) => [name, (calls - (few.get(name) ?? 0)) / 40]));
  };
  const ours = perCycle(n => count([process.execPath, run, '--cycles', String(n)], ''));
  const floor = perCycle(n => count([floorProgram, rootfs, floorInit, 'serve'], '\n'.repeat(n)));
  console.log('\nsystem calls per cycle: ours, the floor’s');
  const names = [...new Set([...ours.keys(), ...floor.keys()])];
  const rows = names.map(name => [name, ours.get(name) ?? 0, floor.get(name) ?? 0]);
  const total = at => rows.reduce((sum, one) => sum + one[at], 0);
  for (const [name, mine, theirs] of [['all', total(1), total(2)], ...rows]
    .filter(one => Math.max(one[1], one[2]) >= 0.5)
    .sort((a, b) => b[1] - a[1]))
    console.log(`${mine.toFixed(1).padStart(9)} ${theirs.toFixed(1).padStart(7)}  ${name}`);
}
