/** The same commands on the same container under runc and under nrunc: output, errors and exit codes. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { containerId, makeBundle, makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { differences, type Permitted, parseProbe } from '../harness/inside.ts';
import { command, differential, inTerminal, type Outcome, type Runtime } from '../harness/runtimes.ts';
import type { TestContext } from '../harness/test.ts';

const runtimes = ['runc', 'nrunc'] as const;

interface Box {
  readonly runtime: Runtime;
  readonly id: string;
  readonly bundle: string;
  readonly root: string;
  (...args: string[]): Outcome;
}

/** A container that sleeps, detached; its output goes to /dev/null, since it would hold a pipe open. */
function box(t: TestContext, runtime: Runtime, id: string, bundle: string): Box {
  const root = makeStateRoot(t);
  const call = (...args: string[]) => command(runtime, ['--root', root, ...args]);
  const made: Box = Object.assign(call, { runtime, id, bundle, root });
  const sink = openSync('/dev/null', 'w');
  try {
    const started = command(runtime, ['--root', root, 'run', '--detach', '--bundle', bundle, id], sink);
    assert.equal(started.status, 0, started.stderr);
  } finally {
    closeSync(sink);
  }
  return made;
}

/** What differs from run to run: pids, times, ids of the log. */
const normal = (text: string, pid: string): string =>
  text
    .replaceAll(new RegExp(`\\b${pid}\\b`, 'g'), 'PID')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/ +/g, ' ');

/** Both runtimes one after the other, with the same id. */
function inBoth<T>(t: TestContext, process: object, work: (box: Box) => T): [theirs: T, ours: T] {
  const id = containerId('both');
  const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'], ...process } });
  const [theirs, ours] = runtimes.map(runtime => {
    const made = box(t, runtime, id, bundle);
    try {
      return work(made);
    } finally {
      made('delete', '--force', id);
    }
  });
  assert.ok(theirs !== undefined && ours !== undefined);
  return [theirs, ours];
}

const permitted: readonly Permitted[] = [
  {
    fact: /^(fds [012]|stdio)$/,
    theirs: /^pipe$|"type":"p"/,
    ours: /^socket$|^\/dev\/null$|"type":"[cs]"/,
    why: 'without a terminal nrunc gives its own descriptors to the process; runc copies through pipes of its own',
  },
  {
    fact: /^(ppid|sid|pgid|status NSpid)$/,
    why: 'pids in the container: runc needs three processes for an exec, nrunc one',
  },
  {
    fact: /^status Umask$/,
    theirs: /^0022$/,
    ours: /^0077$/,
    why: 'process.user.umask holds for every process of the container; runc 1.1 forgets it in exec',
  },
  {
    fact: /^(cgroup |mounts )/,
    why: 'those of the container, which differential.test.ts compares',
  },
];

const execs: readonly (readonly [name: string, process: object, flags: string[]])[] = [
  ['as the container', {}, []],
  [
    'user, group, directory, environment, capability, no_new_privs',
    { noNewPrivileges: false, user: { uid: 0, gid: 0, umask: 0o77 } },
    '--user 1000:1001 --additional-gids 29 --cwd /tmp --env A=1 --env TERM=dumb --cap CAP_CHOWN --no-new-privs'.split(
      ' ',
    ),
  ],
  [
    'limits, oom_score_adj of the container, not root',
    {
      user: { uid: 1000, gid: 1000, additionalGids: [50] },
      oomScoreAdj: 77,
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 99, hard: 99 }],
    },
    [],
  ],
];
for (const [name, process, flags] of execs) {
  differential(`exec: ${name}`, t => {
    const [theirs, ours] = inBoth(t, process, call => {
      const { status, stdout, stderr } = call('exec', ...flags, call.id, '/bin/probe', 'json');
      assert.equal(status, 0, `${call.runtime}: ${stderr}`);
      return parseProbe(stdout);
    });
    assert.deepEqual(differences(theirs, ours, permitted), []);
  });
}

differential('exec --tty', t => {
  const [theirs, ours] = inBoth(t, {}, ({ runtime, root, id }) =>
    parseProbe(inTerminal(runtime, ['--root', root, 'exec', '--tty', id, '/bin/probe', 'json']).stdout),
  );
  assert.equal(theirs.get('controllingTerminal'), 'true');
  assert.deepEqual(differences(theirs, ours, permitted), []);
});

differential('exec --process', t => {
  const file = join(makeDirectory(t), 'process.json');
  writeFileSync(
    file,
    JSON.stringify({
      args: ['/bin/probe', 'json'],
      cwd: '/home/app',
      env: ['PATH=/bin', 'ONLY=this'],
      user: { uid: 1001, gid: 1001 },
      noNewPrivileges: true,
      capabilities: {
        bounding: ['CAP_KILL'],
        permitted: ['CAP_KILL'],
        effective: [],
        inheritable: [],
        ambient: [],
      },
    }),
  );
  const [theirs, ours] = inBoth(t, {}, call => {
    const { status, stdout, stderr } = call('exec', '--process', file, call.id);
    assert.equal(status, 0, `${call.runtime}: ${stderr}`);
    return parseProbe(stdout);
  });
  assert.deepEqual(differences(theirs, ours, permitted), []);
});

/** Each row is a command; its output, error and exit code are compared. */
const commands: readonly (readonly string[])[] = [
  ['state', 'ID'],
  ['list'],
  ['list', '--format', 'json'],
  ['list', '--quiet'],
  ['ps', '--format', 'json', 'ID'],
  ['exec', 'ID', 'sh', '-c', 'echo out; echo err >&2; exit 7'],
  ['exec', 'ID', 'sh', '-c', 'kill -TERM $$'],
  ['exec', 'ID', 'no-such-program'],
  ['exec', 'ID', '/no/such/file'],
  ['exec', '--cwd', '/no/such/directory', 'ID', 'true'],
  ['exec', 'absent', 'true'],
  ['start', 'ID'],
  ['resume', 'ID'],
  ['pause', 'ID'],
  ['pause', 'ID'],
  ['state', 'ID'],
  ['exec', 'ID', 'true'],
  ['resume', 'ID'],
  ['update', '--pids-limit', '40', 'ID'],
  ['exec', 'ID', 'sh', '-c', 'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true'],
  ['kill', 'ID', 'NOPE'],
  ['kill', 'absent', 'TERM'],
  ['delete', 'ID'],
  ['delete', 'absent'],
  ['delete', '--force', 'absent'],
  ['kill', 'ID', 'KILL'],
  // From here on it is stopped.
  ['state', 'ID'],
  ['kill', 'ID', 'TERM'],
  ['exec', 'ID', 'true'],
  ['pause', 'ID'],
  ['ps', 'ID'],
  ['delete', 'ID'],
  ['state', 'ID'],
];

differential(
  'commands: output, errors, exit codes',
  async t => {
    const id = containerId('both');
    const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } });
    const outcomes: string[][] = [];
    for (const runtime of runtimes) {
      const call = box(t, runtime, id, bundle);
      const pid = String(JSON.parse(call('state', id).stdout).pid);
      const rows: string[] = [];
      for (const words of commands) {
        const { status, stdout, stderr } = call(...words.map(word => (word === 'ID' ? id : word)));
        rows.push(normal([words.join(' '), status, stdout, stderr].join(' | '), pid));
        if (words[0] === 'kill' && words[2] === 'KILL')
          await eventually('stopped', () => JSON.parse(call('state', id).stdout).status === 'stopped');
      }
      outcomes.push(rows);
      call('delete', '--force', id);
    }
    // The second pause: the container runs, and is paused already; that is what stands in the way.
    const theirs = outcomes[0]?.map((row, index, all) =>
      row.startsWith('pause ') && all[index - 1]?.startsWith('pause ')
        ? row.replace('container not running', 'container paused')
        : row,
    );
    assert.deepEqual(outcomes[1], theirs);
  },
  ['controller:pids'],
);

/** The paths of a document's members, without their values: `data.cpu.usage.percpu[]`. */
function shape(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return [`${path}[]`, ...(value.length > 0 ? shape(value[0], `${path}[]`) : [])];
  if (typeof value !== 'object' || value === null) return [`${path} ${typeof value}`];
  return Object.entries(value).flatMap(([name, part]) => shape(part, `${path}.${name}`));
}

differential('events --stats has the members that runc has', t => {
  const [theirs, ours] = inBoth(t, {}, call => {
    const { status, stdout, stderr } = call('events', '--stats', call.id);
    assert.equal(status, 0, stderr);
    return shape(JSON.parse(stdout));
  });
  assert.ok(theirs.length > 10);
  assert.deepEqual(
    theirs.filter(member => !ours.includes(member)),
    [],
  );
});

differential('state.json has the members that runc has', t => {
  const [theirs, ours] = inBoth(t, {}, ({ root, id }) => {
    const state: unknown = JSON.parse(readFileSync(join(root, id, 'state.json'), 'utf8'));
    assert.ok(typeof state === 'object' && state !== null);
    return Object.keys(state);
  });
  // Not in ours: intel_rdt_path (not supported); namespace_paths (they follow from the pid, and state() gives them);
  // external_descriptors (for checkpoints of a container whose streams runc's process holds).
  const without = ['intel_rdt_path', 'namespace_paths', 'external_descriptors'];
  assert.deepEqual(
    theirs.filter(name => !ours.includes(name) && !without.includes(name)),
    [],
  );
});
