/**
 * The same commands under Debian's runc and under nrunc: exit code, stdout and stderr are the same but for the name of the
 * program, pids, times and paths. Each other difference is a row in `permitted`, with its reason; a row that is no longer
 * true fails the test.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Cli, cli, nruncPath, type Result } from './cli-fixture.ts';

interface Command {
  /** ID of the container, its bundle and a scratch directory are put in for these words. */
  readonly words: readonly string[];
  /** Done before. */
  readonly before?: (nrunc: Cli) => unknown;
}

const on = (...words: string[]): Command => ({ words });
const stopped = async (nrunc: Cli): Promise<unknown> =>
  eventually('stopped', async () => (await nrunc(['state', nrunc.id])).stdout.includes('"stopped"'));

/** A name for each step: the rows of `permitted` refer to it. */
const steps: { readonly [name: string]: Command } = {
  'list, none': on('list'),
  'list json, none': on('list', '-f', 'json'),
  'list, wrong format': on('list', '-f', 'xx'),
  'state, absent': on('state', 'nope'),
  'kill, absent': on('kill', 'nope', 'FOO'),
  'delete, absent': on('delete', 'nope'),
  'delete force, absent': on('delete', '-f', 'nope'),
  'start, absent': on('start', 'nope'),
  'exec, absent': on('exec', 'nope', 'sh'),
  'ps, absent': on('ps', '-f', 'xx', 'nope'),
  'events, absent': on('events', '--interval', '0s', 'nope'),
  'update, absent': on('update', 'nope'),
  'state, no argument': on('state'),
  'kill, no argument': on('kill'),
  'start, no argument': on('start'),
  'ps, help': on('ps', '-h'),
  'delete, help': on('delete', '-h'),
  'start, help': on('start', '--help'),
  'resume, help': on('resume', '--help'),
  'unknown flag': on('state', '--zzz', 'x'),
  'unknown command': on('bogus'),
  'wrong log format': on('--log-format', 'xml', 'list'),
  'json log': on('--log-format', 'json', 'state', 'nope'),
  'run, no bundle': on('run', '-b', '/nonexist', 'x'),
  'run, empty bundle': on('run', '-b', '@directory', 'x'),
  'run, empty ID': on('run', '-b', '@bundle', ''),
  'run, bad ID': on('run', '-b', '@bundle', '..'),
  'create, console socket without terminal': on('create', '--console-socket', '/s', '-b', '@bundle', 'x'),
  create: on('create', '-b', '@bundle', '--pid-file', '@directory/pid', '@id'),
  'create again': on('create', '-b', '@bundle', '@id'),
  'state, created': on('state', '@id'),
  'list, created': on('list'),
  'list json, created': on('list', '--format=json'),
  'list quiet': on('list', '-q'),
  start: on('start', '@id'),
  'start again': on('start', '@id'),
  'state, running': on('state', '@id'),
  'ps json': on('ps', '-f', 'json', '@id'),
  'ps arguments': on('ps', '@id', '-o', 'pid,comm', '-A'),
  'ps without PID': on('ps', '@id', '-o', 'comm', '-A'),
  'exec status': on('exec', '@id', 'sh', '-c', 'echo out; echo err >&2; exit 3'),
  'exec killed': on('exec', '@id', 'sh', '-c', 'kill -9 $$'),
  'exec, no such program': on('exec', '@id', 'nosuch'),
  'exec, no such path': on('exec', '@id', '/nosuch'),
  'exec, no arguments': on('exec', '@id'),
  'exec, user': on(
    'exec',
    '-u',
    '1:2',
    '-g',
    '3',
    '-e',
    'A=b',
    '--cwd',
    '/tmp',
    '@id',
    'sh',
    '-c',
    'id; pwd; echo $A',
  ),
  'exec, bad user': on('exec', '-u', 'root', '@id', 'id'),
  'exec detached': on('exec', '-d', '--pid-file', '@directory/pid2', '@id', 'true'),
  'kill, unknown signal': on('kill', '@id', 'FOO'),
  'update, bad size': on('update', '--memory', '100x', '@id'),
  'update, bad number': on('update', '--pids-limit', '1x', '@id'),
  update: on('update', '--pids-limit', '50', '@id'),
  'delete, running': on('delete', '@id'),
  'events, interval 0': on('events', '--interval', '0s', '@id'),
  pause: on('pause', '@id'),
  'pause again': on('pause', '@id'),
  'state, paused': on('state', '@id'),
  'exec, paused': on('exec', '@id', 'true'),
  'delete, paused': on('delete', '@id'),
  resume: on('resume', '@id'),
  'resume again': on('resume', '@id'),
  kill: on('kill', '@id', 'KILL'),
  'state, stopped': { words: ['state', '@id'], before: stopped },
  'list json, stopped': on('list', '-f', 'json'),
  'kill, stopped': on('kill', '@id'),
  'kill all, stopped': on('kill', '--all', '@id'),
  'start, stopped': on('start', '@id'),
  'exec, stopped': on('exec', '@id', 'true'),
  'pause, stopped': on('pause', '@id'),
  'resume, stopped': on('resume', '@id'),
  'ps json, stopped': on('ps', '-f', 'json', '@id'),
  'ps, stopped': on('ps', '@id'),
  'events, stopped': on('events', '@id'),
  'update, stopped': on('update', '--pids-limit', '4', '@id'),
  delete: on('delete', '@id'),
  'list, half-made entry': { words: ['list'], before: nrunc => mkdirSync(join(nrunc.root, 'half')) },
  'state, half-made': on('state', 'half'),
  'delete force, half-made': on('delete', '-f', 'half'),
  'list, garbled entry': { words: ['list'], before: nrunc => garble(nrunc) },
  'delete, garbled': on('delete', 'garbled'),
  'delete force, garbled': on('delete', '-f', 'garbled'),
};

function garble(nrunc: Cli): void {
  mkdirSync(join(nrunc.root, 'garbled'));
  writeFileSync(join(nrunc.root, 'garbled/state.json'), '{');
}

/** Step → why it differs. */
const permitted: { readonly [step: string]: string } = {
  'kill, no argument': 'the help does not show --all: runc hides it too since 1.2',
  'unknown command': 'runc ends the sentence with a newline inside of the message',
  'run, bad ID': 'we name the ID that is refused',
  'exec, bad user': "runc shows Go's strconv error, we say what a user must be",
  'update, bad number':
    '--pids-limit is a number to both; the sentence is the same but for what runc shows of its parser',
  'pause again': 'runc says that a paused container is not running, we say that it is paused',
  'resume, stopped': 'runc says that a stopped container is not paused, we say that it is not running',
  'list, garbled entry': "runc shows Go's error of the JSON parser, we say that the state cannot be read",
  'delete, garbled': 'as above',
  'delete force, garbled': 'runc cannot delete an entry that it cannot read, ever; --force removes it here',
};

function normal({ code, stdout, stderr }: Result, nrunc: Cli, directory: string) {
  const clean = (text: string): string =>
    text
      .replaceAll(nrunc.id, '@id')
      .replaceAll(nrunc.bundle, '@bundle')
      .replaceAll(nrunc.root, '@root')
      .replaceAll(directory, '@directory')
      .replaceAll('nrunc', 'runc')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)/g, '@time')
      .replace(/("pid": ?)[1-9]\d*/g, '$1@pid')
      .replace(/^(\[)\d+(\]\n)$/g, '$1@pid$2')
      // Column widths depend on the lengths of paths and times.
      .replace(/^(@id +)[1-9]\d*( +\w)/gm, '$1@pid$2')
      .replace(/^ *\d+ (sleep)$/gm, '@pid $1')
      .replace(/ {2,}/g, '  ');
  return { code, stdout: clean(stdout), stderr: clean(stderr) };
}

type Normal = ReturnType<typeof normal>;

async function record(t: TestContext, program: string): Promise<Map<string, Normal>> {
  const nrunc = cli(t, { program });
  const directory = makeDirectory(t);
  // runc cannot.
  t.after(() => rmSync(join(nrunc.root, 'garbled'), { recursive: true, force: true }));
  const results = new Map<string, Normal>();
  for (const [name, { words, before }] of Object.entries(steps)) {
    await before?.(nrunc);
    const filled = words.map(word =>
      word.replace('@id', nrunc.id).replace('@bundle', nrunc.bundle).replace('@directory', directory),
    );
    results.set(name, normal(await nrunc(filled), nrunc, directory));
  }
  return results;
}

test('nrunc and runc answer the same commands alike', {
  requires: ['root', 'runc', 'lane:host'],
  timeoutMs: 120_000,
}, async t => {
  const theirs = await record(t, 'runc');
  const ours = await record(t, nruncPath);
  const wrong: string[] = [];
  for (const [name, expected] of theirs) {
    const actual = ours.get(name);
    const same = JSON.stringify(actual) === JSON.stringify(expected);
    if (same && permitted[name] !== undefined) wrong.push(`${name}: no difference any more: remove its row`);
    if (!same && permitted[name] === undefined)
      wrong.push(`${name}:\n  runc  ${JSON.stringify(expected)}\n  nrunc ${JSON.stringify(actual)}`);
  }
  assert.deepEqual(wrong, []);
});

/** Names in their order, and values only where they are the same for any container. */
function statsShape(text: string): unknown {
  const { type, id, data } = JSON.parse(text);
  const { cache: _, raw, ...memory } = data.memory;
  return {
    type,
    id: typeof id,
    sections: Object.keys(data),
    cpu: Object.keys(data.cpu.usage),
    throttling: data.cpu.throttling,
    cpuset: Object.entries(data.cpuset),
    memory: Object.keys(memory),
    usage: Object.keys(memory.usage),
    swap: memory.swap === undefined ? undefined : Object.keys(memory.swap),
    raw: Object.keys(raw),
    // runc's own threads may still be in the cgroup.
    pids: Object.keys(data.pids),
    rest: [data.hugetlb, data.intel_rdt, data.network_interfaces],
  };
}

test('events --stats has the shape of runc', { requires: ['root', 'runc', 'cgroup-v1'] }, async t => {
  const shape = async (program: string): Promise<unknown> => {
    const nrunc = cli(t, { program });
    assert.equal((await nrunc(['run', '-d', '-b', nrunc.bundle, nrunc.id])).code, 0);
    const { stdout, stderr } = await nrunc(['events', '--stats', nrunc.id]);
    assert.equal(stderr, '');
    await nrunc(['delete', '-f', nrunc.id]);
    return statsShape(stdout);
  };
  assert.deepEqual(await shape(nruncPath), await shape('runc'));
});

test('spec writes the file that runc writes', { requires: ['root', 'runc', 'lane:host'] }, async t => {
  const text = async (program: string): Promise<string> => {
    const directory = makeDirectory(t);
    const nrunc = cli(t, { program });
    assert.equal((await nrunc(['spec', '-b', directory])).code, 0);
    return readFileSync(join(directory, 'config.json'), 'utf8');
  };
  assert.equal(await text(nruncPath), await text('runc'));
});
