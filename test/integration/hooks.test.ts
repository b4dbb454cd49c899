/** The six hooks: order, namespaces, state on stdin, failures; and the matrix of bad hooks. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

interface HookSpec {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  readonly timeout?: number;
}

const shell = (text: string, more: Partial<HookSpec> = {}): HookSpec => ({
  path: '/bin/sh',
  args: ['sh', '-c', text],
  ...more,
});

const withHooks = (
  t: TestContext,
  hooks: { readonly [name: string]: readonly HookSpec[] },
): Promise<Fixture> => fixture(t, { patch: spec => ({ ...spec, hooks, annotations: { colour: 'blue' } }) });

test('all six run in the order of the specification, each with its state', {
  proves: [
    'ociVersion',
    'annotations',
    'hooks.prestart[].path',
    'hooks.prestart[].args',
    'hooks.prestart[].env',
    'hooks.createRuntime[].path',
    'hooks.createRuntime[].args',
    'hooks.createRuntime[].env',
    'hooks.createContainer[].path',
    'hooks.createContainer[].args',
    'hooks.createContainer[].env',
    'hooks.startContainer[].path',
    'hooks.startContainer[].args',
    'hooks.startContainer[].env',
    'hooks.poststart[].path',
    'hooks.poststart[].args',
    'hooks.poststart[].env',
    'hooks.poststop[].path',
    'hooks.poststop[].args',
    'hooks.poststop[].env',
  ],
  trap: 1,
  requires: ['rootless'],
}, async t => {
  const log = join(makeDirectory(t), 'log');
  writeFileSync(log, '');
  const record = (name: string): HookSpec =>
    shell(`{ printf '%s ' ${name}; readlink /proc/self/ns/mnt | tr '\\n' ' '; cat; echo; } >> ${log}`, {
      env: ['PATH=/bin:/usr/bin'],
    });
  const on = await withHooks(t, {
    prestart: [record('prestart')],
    createRuntime: [record('createRuntime')],
    createContainer: [record('createContainer')],
    poststart: [record('poststart')],
    poststop: [record('poststop')],
    // In the container's own root and file systems.
    startContainer: [
      shell('read state; echo "startContainer $MARK $state" > /dev/shm/hook', {
        env: ['MARK=hook', 'PATH=/bin'],
      }),
    ],
  });
  const container = await on.create();
  const process = on.sh('cat /dev/shm/hook; echo program', { stdout: 'pipe' });
  await container.start(process);
  const { pid } = process;
  await container.exec();
  let output = '';
  for await (const part of process.stdout ?? assert.fail()) output += String(part);
  await process.wait();
  await container.destroy();

  const lines = readFileSync(log, 'utf8').trim().split('\n');
  const rows = lines.map(line => {
    const [name = '', mnt = '', ...json] = line.split(' ');
    const state: unknown = JSON.parse(json.join(' '));
    return { name, mnt, state };
  });
  const host = readlinkSync('/proc/self/ns/mnt');
  assert.deepEqual(
    rows.map(row => [row.name, row.mnt === host]),
    [
      ['prestart', true],
      ['createRuntime', true],
      ['createContainer', false],
      ['poststart', true],
      ['poststop', true],
    ],
  );
  const state = (status: string, of: number | undefined) => ({
    ociVersion: on.config.ociVersion,
    id: container.id,
    status,
    pid: of,
    bundle: on.bundle,
    annotations: { colour: 'blue' },
  });
  assert.deepEqual(
    rows.map(row => row.state),
    [
      state('creating', pid),
      state('creating', pid),
      state('creating', pid),
      state('running', pid),
      state('stopped', 0),
    ],
  );
  const [hook = '', program] = output.trim().split('\n');
  assert.equal(program, 'program');
  assert.match(hook, /^startContainer hook \{/);
  assert.deepEqual(JSON.parse(hook.slice(hook.indexOf('{'))), state('created', pid));
});

const everywhere = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart'] as const;

test('a hook that fails ends the start with its output, and nothing is left', {
  requires: ['rootless'],
  timeoutMs: 60_000,
}, async t => {
  for (const name of everywhere) {
    const on = await withHooks(t, { [name]: [shell('exit 0'), shell('echo out; echo err >&2; exit 3')] });
    const container = await on.create();
    const process = on.sh('sleep 1000');
    await assert.rejects(within(container.run(process), name), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_HOOK', `${name}: ${error.message}`);
      assert.match(error.message, new RegExp(`^error running ${name} hook`));
      return true;
    });
    assert.equal(await container.status(), 'stopped');
    assert.deepEqual(readdirSync(on.root), [], name);
    await container.destroy();
  }
});

test('a startContainer or poststart hook that fails at exec() stops the container', {
  proves: ['hooks.startContainer', 'hooks.poststart[].path'],
  trap: 1,
  requires: ['rootless'],
}, async t => {
  for (const name of ['startContainer', 'poststart'] as const) {
    const on = await withHooks(t, { [name]: [shell('exit 4')] });
    const container = await on.create();
    await container.start(on.sh('sleep 1000'));
    assert.equal(await container.status(), 'created');
    await assert.rejects(within(container.exec(), name), { code: 'ERR_HOOK' });
    await eventually('stopped', async () => (await container.status()) === 'stopped');
    await container.destroy();
  }
});

test('a failing poststop hook is told when all else is gone', {
  proves: ['hooks.poststop[].path'],
  trap: 1,
  requires: ['rootless'],
}, async t => {
  const on = await withHooks(t, { poststop: [shell('exit 5')] });
  const container = await on.create();
  const process = on.process();
  await container.run(process);
  await process.wait();
  await assert.rejects(container.destroy(), { code: 'ERR_HOOK', exitCode: 5 });
  assert.deepEqual(readdirSync(on.root), []);
});

test('a poststart or poststop hook that hangs is ended when its time is up', {
  requires: ['root'],
  proves: ['hooks.poststart[].timeout', 'hooks.poststop[].timeout'],
  trap: 1,
}, async t => {
  const slow = shell('sleep 98761', { timeout: 1 });
  const first = await withHooks(t, { poststart: [slow] });
  const container = await first.create();
  await assert.rejects(within(container.run(first.sh('sleep 1000')), 'run'), { code: 'ERR_HOOK_TIMEOUT' });
  await eventually('stopped', async () => (await container.status()) === 'stopped');
  await container.destroy();
  const last = await withHooks(t, { poststop: [slow] });
  const other = await last.create();
  const process = last.process();
  await other.run(process);
  await process.wait();
  await assert.rejects(within(other.destroy(), 'destroy'), { code: 'ERR_HOOK_TIMEOUT' });
  assert.deepEqual(readdirSync(last.root), []);
});

test('hooks that hang, never read, write without end or leave something behind', {
  requires: ['rootless'],
  timeoutMs: 60_000,
}, async t => {
  const mark = join(makeDirectory(t), 'pid');
  const bad: readonly [what: string, hook: HookSpec, code: string | undefined][] = [
    ['hangs', shell('sleep 98762', { timeout: 1 }), 'ERR_HOOK_TIMEOUT'],
    [
      'hangs with an orphan',
      shell(`sleep 98762 & echo $! > ${mark}; wait`, { timeout: 1 }),
      'ERR_HOOK_TIMEOUT',
    ],
    ['never reads its stdin', shell('exit 0'), undefined],
    ['closes its stdin', shell('exec <&-; exit 0'), undefined],
    ['writes a megabyte', shell('head -c 1000000 /dev/zero'), undefined],
    ['is killed', shell('kill -9 $$'), 'ERR_HOOK'],
    ['is not there', { path: '/no/such/hook' }, 'ERR_HOOK'],
    ['leaves its stdout to a background process', shell('sleep 5 & exit 0'), undefined],
  ];
  for (const [what, hook, code] of bad) {
    const on = await withHooks(t, { createRuntime: [hook] });
    const container = await on.create();
    const process = on.process();
    const began = Date.now();
    const run = within(container.run(process), what);
    if (code === undefined) {
      await run;
      await process.wait();
      // Not the five seconds of the background process.
      assert.ok(
        Date.now() - began < 4_500 * Number(globalThis.process.env.LIBCONTAINER_TEST_SLOWNESS ?? 1),
        what,
      );
    } else await assert.rejects(run, { code }, what);
    if (what === 'hangs with an orphan') {
      const orphan = readFileSync(mark, 'utf8').trim();
      await eventually('the orphan is killed with its group', () => !existsSync(`/proc/${orphan}/exe`));
    }
    await container.destroy();
    assert.deepEqual(readdirSync(on.root), [], what);
  }
});
