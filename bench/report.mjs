// Prints the figures, and docs/performance.md from them.
import { arch, cpus, release } from 'node:os';

const ms = microseconds => (microseconds / 1000).toFixed(2);
const short = value => value.toFixed(value < 10 ? 2 : 1);

function table(head, rows) {
  const widths = head.map((_, at) => Math.max(...[head, ...rows].map(row => row[at].length)));
  const line = row => `| ${row.map((cell, at) => cell.padEnd(widths[at])).join(' | ')} |`;
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

const titles = {
  run: 'run cycle: create, start, exit, destroy',
  create: 'create',
  start: 'start of a created container',
  destroy: 'destroy of a stopped container',
  exec: 'exec of a program in a running container, to its exit',
};

function operationTable(operation, byCandidate) {
  const names = Object.keys(byCandidate);
  const ours = byCandidate.libcontainer;
  const rows = names.map(name => {
    const { p50, p99 } = byCandidate[name];
    return [name, ms(p50), ms(p99), name === 'libcontainer' ? '1' : short(ours.ratios[name])];
  });
  return `### ${titles[operation]}\n\n${table(['', 'median ms', 'p99 ms', 'libcontainer / it'], rows)}`;
}

function throughputTable(throughput) {
  const levels = Object.keys(throughput);
  const names = Object.keys(throughput[levels[0]].perSecond);
  const rows = names.map(name => [
    name,
    ...levels.map(level => throughput[level].perSecond[name].toFixed(0)),
    ...levels.map(level =>
      short(throughput[level].perSecond.libcontainer / throughput[level].perSecond[name]),
    ),
  ]);
  const head = [
    '',
    ...levels.map(level => `${level} at once`),
    ...levels.map(level => `ours / it, ${level}`),
  ];
  const delays = levels.map(
    level =>
      `${level} at once: p99 ${throughput[level].loopDelayP99Ms.toFixed(1)} ms, longest ${throughput[level].loopDelayMaxMs.toFixed(1)} ms`,
  );
  return `### Containers per second\n\n${table(head, rows)}\n\nEvent-loop delay of this process meanwhile: ${delays.join('; ')}.`;
}

// The goals of this version; a noisy machine may miss them, so they are shown, not enforced.
function goals({ operations, throughput, heap }) {
  const run = operations.run?.libcontainer;
  const exec = operations.exec?.libcontainer;
  const busiest = throughput && Object.values(throughput).at(-1);
  const crunThroughput = busiest?.perSecond.crun && busiest.perSecond.libcontainer / busiest.perSecond.crun;
  return [
    ['run cycle / floor', run?.ratios.floor, 1.25],
    ['run cycle / crun run', run?.ratios.crun, 0.3],
    ['run cycle / runc run', run?.ratios.runc, 0.15],
    ['exec / floor', exec?.ratios.floor, 1.4],
    ['exec / floor of two stages', exec?.ratios['floor, two stages'], 1.4],
    ['exec / crun exec', exec?.ratios.crun, 0.12],
    ['event-loop delay p99 at the highest load, ms', busiest?.loopDelayP99Ms, 10],
    ['run cycle with 500 MB of heap / without', heap?.ratioOfCycle, 1.1],
    ['throughput at the highest load / crun', crunThroughput, 3, true],
  ]
    .filter(([, value]) => value !== undefined)
    .map(([name, value, goal, more]) => [
      name,
      `${more ? '≥' : '≤'} ${goal}`,
      short(value),
      (more ? value >= goal : value <= goal) ? 'yes' : 'no',
    ]);
}

export function text(result) {
  const parts = Object.entries(result.operations).map(([name, rows]) => operationTable(name, rows));
  if (result.throughput) parts.push(throughputTable(result.throughput));
  const lines = [];
  if (result.memory) {
    const { rssPerContainerKiB, descriptorsPerContainer, containers } = result.memory;
    lines.push(
      `Per running container (of ${containers}) this process holds ${rssPerContainerKiB.toFixed(1)} KiB and ${descriptorsPerContainer.toFixed(1)} descriptors.`,
    );
  }
  if (result.idle) {
    const { containers, rssPerContainerKiB, monitorKiB, stats, allStatsMs, exitEvent } = result.idle;
    const pair = ({ p50, p99 }) => `${p50.toFixed(2)} ms (p99 ${p99.toFixed(2)} ms)`;
    lines.push(
      `With ${containers} idle containers, each with a listener: ${rssPerContainerKiB.toFixed(1)} KiB each, and ${monitorKiB} KiB in all in the monitor; \`stats()\` ${pair(stats)}, ` +
        `of all at once ${allStatsMs.toFixed(0)} ms; the exit event ${pair(exitEvent)} after the SIGKILL.`,
    );
  }
  if (result.heap)
    lines.push(
      `With ${result.heap.heapMegabytes.toFixed(0)} MB of live heap the run cycle takes ${short(result.heap.ratioOfCycle)} of its time without.`,
    );
  if (lines.length > 0) parts.push(`### Memory\n\n${lines.join('\n')}`);
  parts.push(`### Goals\n\n${table(['', 'goal', 'measured', 'met'], goals(result))}`);
  if (result.notes.length > 0) parts.push(`Left out: ${result.notes.join('; ')}.`);
  return parts.join('\n\n');
}

export function document(result) {
  return `# Performance

Written by \`npm run bench -- --write\`. Linux ${release()}, ${arch()}, ${cpus().length} processors, Node ${process.version}, ${result.layout},
${result.rounds} rounds, ${result.date}. All candidates run interleaved, in random order, in one run; a ratio is the median of the rounds' ratios, and
only ratios can be compared with another machine's.

The container is the one of \`nrunc spec\` with limits for memory, processes and processor time; it runs \`/bin/true\` of a static
busybox. Every runtime has its state on tmpfs. \`floor\` is \`bench/floor/\`: a C program that makes the same container with the
fewest system calls, and has no state, hooks, errors or configuration. \`bwrap\` makes no cgroups and hides no paths. runc and crun
are timed from vfork to exit by the same C program, without Node's own price for a child process. \`monitor: false\` is libcontainer
without the process that keeps exit statuses over the end of the daemon (docs/adr/0003). \`floor, two stages\` is the least that an exec
costs when the container can neither see nor trace what enters it before it is the container's own (docs/adr/0008); \`floor\` can be traced.

${text(result)}
`;
}
