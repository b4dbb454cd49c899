// What a test or a lane may not leave behind: cgroups, mounts, processes, state directories, file descriptors.
// `node scripts/leaks.mjs --save FILE` and `--compare FILE` do the same from a shell.
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';

const list = path => {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return []; // Gone meanwhile, or not ours to read.
  }
};
const text = path => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};
const link = path => {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
};

function cgroups() {
  const points = text('/proc/self/mountinfo')
    .split('\n')
    .filter(line => / - cgroup2? /.test(line))
    .map(line => line.split(' ')[4])
    .filter(point => point.startsWith('/sys/fs/cgroup'));
  // Whoever gave this process a cgroup of its own makes others beside it, for others. Not so in a slice of systemd's:
  // containers become units there.
  const own = text('/proc/self/cgroup')
    .split('\n')
    .map(line => line.split(':').at(-1))
    .filter(path => path.lastIndexOf('/') > 0 && !/\.slice\//.test(path))
    .flatMap(path => points.map(point => point + path));
  const isBeside = (directory, path) => !own.includes(path) && own.some(p => dirname(p) === directory);
  const found = [];
  const walk = (directory, depth) => {
    for (const entry of list(directory)) {
      if (!entry.isDirectory()) continue;
      const path = `${directory}/${entry.name}`;
      if (isBeside(directory, path)) continue;
      found.push(path);
      if (depth < 8) walk(path, depth + 1);
    }
  };
  for (const point of points) walk(point, 0);
  // systemd's own units come and go as it likes; what is below one of them counts. Its slices stay in the v1 hierarchies that
  // it does not use itself, once a unit has been there: another unit may be on its way into them.
  return found.filter(
    path => !/\.(service|mount|socket|swap|timer|automount)$|\/system(-[^/]*)?\.slice$/.test(path),
  );
}

function mounts() {
  return text('/proc/self/mountinfo')
    .split('\n')
    .filter(line => line !== '' && !/ - (autofs|binfmt_misc) /.test(line))
    .map(line => `${line.split(' ')[4]} (${line.split(' - ')[1]})`);
}

// A service of the system with a mount namespace of its own: udev starts and ends workers whenever it likes.
const isService = pid => /\/system\.slice\/[^/\n]+\.service/.test(text(`/proc/${pid}/cgroup`));

// pid:starttime → command, of our own descendants and of processes in a mount namespace that is not ours.
function processes() {
  const rows = new Map();
  const ours = link('/proc/self/ns/mnt');
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry.name)) continue;
    const stat = text(`/proc/${entry.name}/stat`);
    const close = stat.lastIndexOf(')');
    if (close < 0) continue;
    const fields = stat.slice(close + 2).split(' ');
    rows.set(Number(entry.name), {
      parent: Number(fields[1]),
      name: `${entry.name} ${stat.slice(stat.indexOf('('), close + 1)} ${fields[0]} started ${fields[19]}`,
      foreign: ![ours, ''].includes(link(`/proc/${entry.name}/ns/mnt`)) && !isService(entry.name),
    });
  }
  const mine = pid => {
    for (let at = rows.get(pid)?.parent; at !== undefined && at > 1; at = rows.get(at)?.parent)
      if (at === process.pid) return true;
    return false;
  };
  return [...rows].filter(([pid, row]) => mine(pid) || row.foreign).map(([, row]) => row.name);
}

function stateDirectories() {
  const roots = [
    '/run/libcontainer',
    '/run/libcontainer-test',
    process.env.XDG_RUNTIME_DIR && `${process.env.XDG_RUNTIME_DIR}/libcontainer`,
  ];
  return roots.flatMap(root =>
    root
      ? list(root)
          .filter(e => e.isDirectory())
          .map(e => `${root}/${e.name}`)
      : [],
  );
}

// The library makes these once per process, at first use, and keeps them.
const kept = [
  ['anon_inode:[eventpoll]', 5],
  ['anon_inode:[eventfd]', 5],
  ['/memfd:', 3],
  ['anon_inode:[io_uring]', 1],
];

function descriptors() {
  const links = list('/proc/self/fd').map(entry => `${entry.name} → ${link(`/proc/self/fd/${entry.name}`)}`);
  return links.filter(name => !name.endsWith('→ ') && !/→ \/proc\/\d+\/fd$/.test(name));
}

export function snapshot() {
  return {
    cgroup: cgroups(),
    mount: mounts(),
    process: processes(),
    'state directory': stateDirectories(),
    descriptor: descriptors(),
  };
}

/** What `now` has and `before` has not. */
export function difference(before, now) {
  const leaks = [];
  for (const [kind, names] of Object.entries(now)) {
    const known = new Map();
    for (const name of before[kind]) known.set(name, (known.get(name) ?? 0) + 1);
    let fresh = names.filter(name => {
      const count = known.get(name) ?? 0;
      known.set(name, count - 1);
      return count <= 0;
    });
    if (kind === 'descriptor')
      fresh = fresh.filter(
        name =>
          !kept.some(
            ([what, most]) => name.includes(what) && names.filter(n => n.includes(what)).length <= most,
          ),
      );
    leaks.push(...fresh.map(name => `${kind} ${name}`));
  }
  return leaks;
}

/** Another run on the same machine (developers share one) makes cgroups and processes of its own. */
function othersRun() {
  const chain = new Set();
  for (let pid = process.pid; pid > 1; ) {
    chain.add(String(pid));
    const stat = text(`/proc/${pid}/stat`);
    pid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  }
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry.name) || chain.has(entry.name)) continue;
    const command = text(`/proc/${entry.name}/cmdline`).split('\0');
    if (
      /\bnode$/.test(command[0]) &&
      command.slice(1, 4).some(a => /(scripts\/(test|demo|kill-storm)|bench\/run)\.mjs$/.test(a))
    )
      return true;
  }
  return false;
}

/** Waits for what is on its way out; then the list of leaks, without what may belong to another run. */
export async function leaksSince(
  before,
  timeoutMs = 3000 * Math.max(1, Number(process.env.LIBCONTAINER_TEST_SLOWNESS ?? 1) / 4),
) {
  const end = Date.now() + timeoutMs;
  let leaks = difference(before, snapshot());
  while (leaks.length > 0 && Date.now() < end) {
    await after(10);
    leaks = difference(before, snapshot());
  }
  const own = leaks.filter(leak => leak.startsWith('descriptor '));
  if (leaks.length > own.length && othersRun()) {
    process.stderr.write(
      `leak check: not counted, another test run is on this machine: ${leaks.filter(l => !own.includes(l)).join('; ')}\n`,
    );
    return own;
  }
  return leaks;
}

// Bundled into a test file this is not the program.
if (process.argv[1]?.endsWith('scripts/leaks.mjs')) {
  const [mode, file] = process.argv.slice(2);
  if (mode === '--save' && file) writeFileSync(file, JSON.stringify(snapshot()));
  else if (mode === '--compare' && file) {
    const leaks = (await leaksSince(JSON.parse(readFileSync(file, 'utf8')))).filter(
      leak => !leak.startsWith('descriptor '),
    );
    for (const leak of leaks) console.error(`leaked: ${leak}`);
    process.exitCode = leaks.length > 0 ? 1 : 0;
  } else {
    console.error('usage: node scripts/leaks.mjs --save FILE | --compare FILE');
    process.exitCode = 2;
  }
}
