/** nrunc create, start, state, kill, delete, list: each a process of its own, as a container engine calls them. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Cli, cli, errorMessage } from './cli-fixture.ts';

const ok = { code: 0, signal: null, stdout: '', stderr: '' };
const statusOf = async (nrunc: Cli): Promise<string> =>
  String(JSON.parse((await nrunc(['state', nrunc.id])).stdout).status);
const stopped = (nrunc: Cli): Promise<unknown> =>
  eventually('status stopped', async () => (await statusOf(nrunc)) === 'stopped');

test('nrunc create, start, kill and delete work on one container from different processes', {
  requires: ['root'],
}, async t => {
  const nrunc = cli(t, { patch: spec => ({ ...spec, annotations: { b: '<2>', a: '1' } }) });
  const { id, bundle, root } = nrunc;
  const pidFile = join(makeDirectory(t), 'pid');
  assert.deepEqual(await nrunc(['create', '--bundle', bundle, '--pid-file', pidFile, id]), ok);
  const pid = Number(readFileSync(pidFile, 'utf8'));
  assert.match(readFileSync(pidFile, 'utf8'), /^\d+$/);
  assert.equal(readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[0], String(pid), 'init outlives nrunc');

  const state = await nrunc(['state', id]);
  const { created, rootfs } = JSON.parse(state.stdout);
  assert.match(created, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.equal(
    state.stdout,
    `{\n  "ociVersion": "1.0.2-dev",\n  "id": "${id}",\n  "pid": ${pid},\n  "status": "created",\n  "bundle": "${bundle}",\n  "rootfs": "${rootfs}",\n  "created": "${created}",\n  "annotations": {\n    "a": "1",\n    "b": "\\u003c2\\u003e"\n  },\n  "owner": ""\n}`,
  );

  assert.deepEqual(await nrunc(['start', id]), ok);
  assert.equal(await statusOf(nrunc), 'running');
  const again = await nrunc(['start', id]);
  assert.equal(again.code, 1);
  assert.equal(errorMessage(again), 'cannot start an already running container');
  const twice = await nrunc(['create', '-b', bundle, id]);
  assert.equal(errorMessage(twice), 'nrunc create failed: container with given ID already exists');
  const early = await nrunc(['delete', id]);
  assert.equal(early.code, 1);
  assert.equal(errorMessage(early), `cannot delete container ${id} that is not stopped: running`);

  assert.deepEqual(await nrunc(['kill', id, 'KILL']), ok);
  await stopped(nrunc);
  const dead = await nrunc(['kill', id]);
  assert.equal(dead.code, 1);
  assert.equal(errorMessage(dead), 'container not running');
  assert.deepEqual(await nrunc(['kill', '--all', id]), ok);
  assert.equal(errorMessage(await nrunc(['start', id])), 'cannot start a container that has stopped');
  assert.deepEqual(await nrunc(['delete', id]), ok);
  assert.deepEqual(readdirSync(root), []);
});

test('nrunc list prints runc table, JSON and IDs, and null for none', {
  trap: 23,
  requires: ['root'],
}, async t => {
  const nrunc = cli(t);
  const { id, bundle } = nrunc;
  const heading = 'ID          PID         STATUS      BUNDLE      CREATED     OWNER\n';
  assert.deepEqual(await nrunc(['list']), { ...ok, stdout: heading });
  assert.deepEqual(await nrunc(['list', '-f', 'json']), { ...ok, stdout: 'null\n' });
  assert.deepEqual(await nrunc(['list', '-q']), ok);
  await nrunc(['create', '-b', bundle, id]);
  const { stdout } = await nrunc(['list', '--format', 'json']);
  const [row] = JSON.parse(stdout);
  const { pid, rootfs, created } = row;
  assert.equal(
    stdout,
    `[{"ociVersion":"1.0.2-dev","id":"${id}","pid":${pid},"status":"created","bundle":"${bundle}","rootfs":"${rootfs}","created":"${created}","owner":"root"}]\n`,
  );
  const table = (await nrunc(['list'])).stdout.split('\n');
  assert.match(table[0] ?? '', /^ID +PID +STATUS +BUNDLE +CREATED +OWNER$/);
  assert.deepEqual(table[1]?.split(/ {3,}/), [id, String(pid), 'created', bundle, created, 'root']);
  assert.equal((await nrunc(['list', '-q'])).stdout, `${id}\n`);
  const wrong = await nrunc(['list', '-f', 'xml']);
  assert.equal(errorMessage(wrong), 'invalid format option');
  // Created containers are deleted without --force, as runc does.
  assert.deepEqual(await nrunc(['delete', id]), ok);
});

test('A broken entry hides no other, and delete --force removes it', {
  trap: 2,
  requires: ['root'],
}, async t => {
  const nrunc = cli(t);
  const { id, bundle, root } = nrunc;
  await nrunc(['create', '-b', bundle, id]);
  mkdirSync(join(root, 'half-made'));
  mkdirSync(join(root, 'garbled'));
  writeFileSync(join(root, 'garbled/state.json'), '{"id": 3');
  const list = await nrunc(['list', '-q']);
  assert.equal(list.code, 0);
  assert.equal(list.stdout, `${id}\n`);
  assert.match(
    list.stderr,
    /^load container garbled: state of the container cannot be read: .+\nload container half-made: container does not exist\n$/,
  );
  assert.equal(errorMessage(await nrunc(['state', 'half-made'])), 'container does not exist');
  assert.match(errorMessage(await nrunc(['state', 'garbled'])), /^state of the container cannot be read/);
  assert.equal((await nrunc(['delete', 'garbled'])).code, 1);
  for (const broken of ['garbled', 'half-made']) {
    assert.deepEqual(await nrunc(['delete', '--force', broken]), ok);
    assert.equal(existsSync(join(root, broken)), false);
  }
  assert.deepEqual(await nrunc(['delete', '--force', id]), ok);
  assert.deepEqual(await nrunc(['delete', '--force', id]), ok, 'absent and forced is no error');
  assert.equal(errorMessage(await nrunc(['delete', id])), 'container does not exist');
});

test('kill takes names and numbers, and says which it does not know', { requires: ['root'] }, async t => {
  const nrunc = cli(t, {
    process: {
      args: ['/bin/sh', '-c', "trap 'exit 7' USR1; trap 'exit 8' TERM; while :; do sleep 0.05; done"],
    },
  });
  const { id, bundle } = nrunc;
  await nrunc(['run', '-d', '-b', bundle, id]);
  for (const [signal, message] of [
    ['FOO', 'unknown signal "FOO"'],
    ['0', 'unknown signal "0"'],
    ['65', 'unknown signal "65"'],
    ['SIG', 'unknown signal "SIG"'],
  ] as const) {
    const result = await nrunc(['kill', id, signal]);
    assert.equal(result.code, 1);
    assert.equal(errorMessage(result), message);
  }
  assert.deepEqual(await nrunc(['kill', id, 'usr1']), ok);
  await stopped(nrunc);
  assert.equal((await nrunc(['delete', id])).code, 0);
});

test('run --detach leaves the container to itself, with the streams of nrunc', {
  requires: ['root'],
}, async t => {
  const nrunc = cli(t, { process: { args: ['/bin/sh', '-c', 'echo out; echo err >&2; exec sleep 1000'] } });
  const { id, bundle } = nrunc;
  const running = nrunc.start(['run', '--detach', '--bundle', bundle, id]);
  await eventually(
    'output of the container',
    () => running.stdout() === 'out\n' && running.stderr() === 'err\n',
  );
  assert.equal((await running.ended()).code, 0);
  assert.equal(await statusOf(nrunc), 'running');
  assert.deepEqual(await nrunc(['delete', '-f', id]), ok);
});

test('A pid file that cannot be written takes the container back', { requires: ['root'] }, async t => {
  const nrunc = cli(t);
  for (const command of ['create', 'run']) {
    const result = await nrunc([command, '-b', nrunc.bundle, '--pid-file', '/proc/none/pid', nrunc.id]);
    assert.equal(result.code, 1);
    assert.match(
      errorMessage(result),
      new RegExp(`^nrunc ${command} failed: open /proc/none/.pid: no such file or directory$`),
    );
    assert.equal((await nrunc(['list', '-q'])).stdout, '');
  }
});

test('kill reaches init, with --all every process, and KILL all of a shared pid namespace, paused too', {
  requires: ['root', 'probe'],
  trap: 20,
  timeoutMs: 60_000,
}, async t => {
  // It blocks the signal; the others die of it.
  const args = ['/bin/probe', 'trap'];
  const own = cli(t, { process: { args } });
  const shared = cli(t, {
    process: { args },
    patch: spec => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
      return undefined;
    },
  });
  const pids = async (nrunc: Cli): Promise<number[] | null> =>
    JSON.parse((await nrunc(['ps', '-f', 'json', nrunc.id])).stdout);
  const three = async (nrunc: Cli): Promise<number[] | null> => {
    const { id, bundle } = nrunc;
    if ((await nrunc(['state', id])).code !== 0)
      assert.equal((await nrunc(['run', '-d', '-b', bundle, id])).code, 0);
    for (const seconds of ['1000', '1001'])
      assert.equal((await nrunc(['exec', '-d', id, 'sleep', seconds])).code, 0);
    const found = await pids(nrunc);
    assert.equal(found?.length, 3);
    return found;
  };
  const members = await three(own);
  const { id } = own;
  assert.deepEqual(await own(['kill', id, 'USR1']), ok);
  assert.deepEqual(await pids(own), members);
  assert.deepEqual(await own(['kill', '--all', id, 'USR1']), ok);
  await eventually('init alone', async () => (await pids(own))?.length === 1);
  assert.equal(await statusOf(own), 'running');
  await three(own);
  assert.deepEqual(await own(['pause', id]), ok);
  assert.deepEqual(await own(['kill', '--all', id, 'KILL']), ok);
  await stopped(own);
  assert.deepEqual(await own(['delete', id]), ok);

  await three(shared);
  assert.deepEqual(await shared(['pause', shared.id]), ok);
  assert.deepEqual(await shared(['kill', shared.id, 'KILL']), ok);
  await stopped(shared);
  await eventually('no process', async () => (await pids(shared)) === null);
  assert.deepEqual(await shared(['delete', shared.id]), ok);
});
