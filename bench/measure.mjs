// The measurements: interleaved rounds, throughput with the event loop watched, memory per container, a big heap.
import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { median, percentile, ratio, shuffle } from './statistics.mjs';

/** { operation: { candidate: microseconds[] } }: in each round everybody, in random order. */
export async function interleave(candidates, operations, rounds) {
  const figures = {};
  for (let round = -1; round < rounds; round++) {
    for (const operation of operations) {
      for (const candidate of shuffle(candidates.filter(one => one[operation] !== undefined))) {
        const result = await candidate[operation]();
        // The first round warms caches, JIT and page tables.
        if (round < 0) continue;
        for (const [name, value] of Object.entries(result)) {
          figures[name] ??= {};
          figures[name][candidate.name] ??= [];
          figures[name][candidate.name].push(value);
        }
      }
    }
  }
  return figures;
}

export function summary(figures) {
  const rows = {};
  for (const [operation, byCandidate] of Object.entries(figures)) {
    rows[operation] = {};
    for (const [name, values] of Object.entries(byCandidate)) {
      rows[operation][name] = {
        p50: percentile(values, 0.5),
        p99: percentile(values, 0.99),
        ratios: Object.fromEntries(
          Object.entries(byCandidate)
            .filter(([other]) => other !== name)
            .map(([other, others]) => [other, ratio(values, others)]),
        ),
      };
    }
  }
  return rows;
}

/** Containers per second; slices of the candidates alternate. Ours runs with the event loop watched. */
export async function throughput(candidates, levels, seconds, slices) {
  const rows = {};
  for (const level of levels) {
    const perSecond = {};
    const delays = [];
    for (let slice = 0; slice < slices; slice++) {
      for (const candidate of shuffle(candidates)) {
        const watch = candidate.name === 'libcontainer' ? watchLoop() : undefined;
        perSecond[candidate.name] ??= [];
        perSecond[candidate.name].push(await candidate.throughput(level, seconds));
        if (watch) delays.push(watch());
      }
    }
    rows[level] = {
      perSecond: Object.fromEntries(Object.entries(perSecond).map(([name, list]) => [name, median(list)])),
      loopDelayP99Ms: median(delays.map(one => one.p99)),
      loopDelayMaxMs: Math.max(...delays.map(one => one.max)),
    };
  }
  return rows;
}

/** The histogram holds the gaps between two ticks of a 1 ms timer; what is above 1 ms is delay. */
function watchLoop() {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  return () => {
    histogram.disable();
    const ms = nanoseconds => Math.max(0, nanoseconds / 1e6 - 1);
    return { p99: ms(histogram.percentile(99)), max: ms(histogram.max) };
  };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
const rss = () => {
  collect();
  collect();
  return process.memoryUsage().rss;
};

/** What a running container costs this process. */
export async function memory(library, ours, count) {
  const containers = [];
  const start = async id => {
    const container = await ours.factory.create(id, ours.idle);
    await container.run(new library.Process({ ...ours.idle.process }));
    containers.push(container);
  };
  // The first ones pay for pools and caches.
  for (let at = 0; at < 10; at++) await start(`bench-warm-${process.pid}-${at}`);
  const before = { rss: rss(), fds: readdirSync('/proc/self/fd').length };
  for (let at = 0; at < count; at++) await start(`bench-memory-${process.pid}-${at}`);
  const after = { rss: rss(), fds: readdirSync('/proc/self/fd').length };
  await Promise.all(containers.map(container => container.destroy({ force: true })));
  return {
    containers: count,
    rssPerContainerKiB: (after.rss - before.rss) / 1024 / count,
    descriptorsPerContainer: (after.fds - before.fds) / count,
  };
}

const ms = since => Number(process.hrtime.bigint() - since) / 1e6;

/** The monitor of this process: docs/adr/0003. */
function monitorRssKiB() {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      if (Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]) !== process.pid) continue;
      if (readFileSync(`/proc/${name}/cmdline`, 'utf8') !== 'libcontainer-monitor\0') continue;
      return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    } catch {
      // It has ended meanwhile.
    }
  }
  return 0;
}

/** A daemon with many idle containers: what each of them costs, how soon their end is told, what their counters cost. */
export async function idle(library, ours, count) {
  const before = rss();
  const rows = [];
  for (let at = 0; at < count; at++) {
    const container = await ours.factory.create(`bench-idle-${process.pid}-${at}`, ours.idle);
    const init = new library.Process({ ...ours.idle.process });
    await container.run(init);
    const row = { container, init, ended: undefined };
    container.on('exit', () => row.ended?.());
    rows.push(row);
  }
  const rssPerContainerKiB = (rss() - before) / 1024 / count;
  const monitorKiB = monitorRssKiB();
  const statsMs = [];
  for (const { container } of rows) {
    const start = process.hrtime.bigint();
    await container.stats();
    statsMs.push(ms(start));
  }
  const start = process.hrtime.bigint();
  await Promise.all(rows.map(({ container }) => container.stats()));
  const allStatsMs = ms(start);
  // From the SIGKILL: the kernel's work to end a process and its namespaces is in it.
  const exitEventMs = [];
  for (const row of rows.slice(0, 50)) {
    const told = new Promise(resolve => {
      row.ended = resolve;
    });
    const killed = process.hrtime.bigint();
    process.kill(row.init.pid, 'SIGKILL');
    await told;
    exitEventMs.push(ms(killed));
  }
  await Promise.all(rows.map(({ container }) => container.destroy({ force: true })));
  const both = values => ({ p50: percentile(values, 0.5), p99: percentile(values, 0.99) });
  return {
    containers: count,
    rssPerContainerKiB,
    monitorKiB,
    stats: both(statsMs),
    allStatsMs,
    exitEvent: both(exitEventMs),
  };
}

/** Our run cycle against the floor's, before and after this process holds 500 MB of live JavaScript heap. */
export async function bigHeap(ours, floor, rounds) {
  const compare = async () => {
    const { run } = await interleave([ours, floor], ['run'], rounds);
    return ratio(run[ours.name], run[floor.name]);
  };
  const small = await compare();
  const ballast = Array.from({ length: 63 }, (_, at) => new Array(1 << 20).fill(at));
  const megabytes = process.memoryUsage().heapUsed / 1e6;
  const big = await compare();
  return { heapMegabytes: megabytes, ratioOfCycle: big / small, kept: ballast.length > 0 };
}
