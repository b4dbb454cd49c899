// What the host knows about the containers of one state root whose names begin with `prefix`: for scripts/kill-storm.mjs.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';

const settleMs = 5000 * Math.max(1, Number(process.env.LIBCONTAINER_TEST_SLOWNESS ?? 1));

export const read = path => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};
export const list = path => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};
export const hierarchies = readFileSync('/proc/self/mountinfo', 'utf8')
  .split('\n')
  .filter(line => / - cgroup2? /.test(line) && line.split(' ')[4].startsWith('/sys/fs/cgroup'))
  .map(line => line.split(' ')[4])
  .filter(point => existsSync(`${point}/cgroup.procs`));

const parentOf = pid =>
  Number(
    read(`/proc/${pid}/stat`)
      .replace(/^.*\) \S /s, '')
      .split(' ')[0],
  );

/** Monitors that have something to wait for: a container, or their daemon. */
function busyMonitors(daemons) {
  const pids = list('/proc').filter(pid => /^\d+$/.test(pid));
  const parents = new Set(pids.map(parentOf));
  return new Set(
    pids.filter(
      pid =>
        read(`/proc/${pid}/cmdline`) === 'libcontainer-monitor\0' &&
        (parents.has(Number(pid)) || daemons.has(parentOf(pid))),
    ),
  );
}

/** Processes of the storm: pid → the names of its cgroups that are ours. Daemons that live are not among them. */
function processes(prefix, daemons) {
  const rows = new Map();
  const monitors = busyMonitors(daemons);
  for (const pid of list('/proc')) {
    if (!/^\d+$/.test(pid) || daemons.has(Number(pid)) || monitors.has(pid)) continue;
    const names = [...read(`/proc/${pid}/cgroup`).matchAll(/:\/(storm-\d+-\w+)/g)].map(match => match[1]);
    const ours = new Set(names.filter(name => name.startsWith(prefix)));
    // A zombie whose parent was the daemon is the host's init's to reap, in its own time.
    const orphan = /^\d+ \(.*\) Z 1 /s.test(read(`/proc/${pid}/stat`));
    if (ours.size > 0 && !orphan) rows.set(pid, ours);
  }
  return rows;
}

/** Everything that is there and should not be, as kind → list. `known`: id → status of the containers that are recorded. */
function leaks({ prefix, root, daemons, shared }, known) {
  const found = { cgroup: [], mount: [], process: [], directory: [], file: [], status: [] };
  for (const point of hierarchies)
    for (const name of list(point))
      if (name.startsWith(prefix) && name !== `${prefix}daemon` && !known.has(name))
        found.cgroup.push(`${point}/${name}`);
  found.mount = read('/proc/self/mountinfo')
    .split('\n')
    .filter(line => line.includes(prefix));
  for (const [pid, names] of processes(prefix, daemons)) {
    const owner = [...names].find(name => known.has(name));
    // Without a pid namespace of its own, a container's processes outlive its init until it is destroyed.
    if (owner !== undefined && (known.get(owner) !== 'stopped' || shared.has(owner))) continue;
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
    found.process.push(`${pid} ${command} (${[...names]}) ${read(`/proc/${pid}/wchan`)}`);
  }
  for (const id of list(root)) {
    if (!known.has(id)) found.directory.push(id);
    // Its monitor outlives every daemon: how a container ended is always known.
    const exit = join(root, id, 'exit.json');
    if (known.get(id) === 'stopped' && existsSync(exit) && read(exit) === '') found.status.push(id);
    const right = new Set(['state.json', 'exit.json', ...(known.get(id) === 'created' ? ['exec.fifo'] : [])]);
    // Of a container that was never released, and paused or killed since.
    if (['paused', 'stopped'].includes(known.get(id))) right.add('exec.fifo');
    for (const file of list(join(root, id))) if (!right.has(file)) found.file.push(`${id}/${file}`);
  }
  return found;
}

export const total = found => Object.values(found).reduce((sum, list) => sum + list.length, 0);
/** Dying processes need a moment: what is still there after `settleMs` is a leak. */
export async function settled(storm, known) {
  const end = Date.now() + settleMs;
  let found = leaks(storm, known);
  while (total(found) > 0 && Date.now() < end) {
    await after(5);
    found = leaks(storm, known);
  }
  return found;
}
