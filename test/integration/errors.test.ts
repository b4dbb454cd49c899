/** Every code of the table is produced by a test; here are those that nothing else is about. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CgroupError, LibcontainerError, type Reason, reasons } from '../../lib/errors.ts';
import { LinuxFactory, Process } from '../../lib/index.ts';
import { binding, runPlan } from '../../lib/internal.ts';
import { startError } from '../../lib/parent/failure.ts';
import { StartFailure } from '../../lib/parent/parent-process.ts';
import { sandbox } from '../../lib/sandbox/sandbox.ts';
import { lockPath, statePath } from '../../lib/state.ts';
import { makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

/** A LibcontainerError with this code, a hint and a sentence. */
const withCode = (code: Reason) => (error: unknown) => {
  assert.ok(error instanceof LibcontainerError, String(error));
  assert.equal(error.code, code, error.message);
  assert.ok(error.hint.length > 10 && error.message.length > 5);
  return true;
};

test('every code has a test that names it', { leaks: false }, () => {
  const directory = join(projectRoot, 'test');
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(name =>
    name.endsWith('.ts'),
  );
  const tests = files.map(name => readFileSync(join(directory, name), 'utf8')).join('\n');
  const codes = Object.keys(reasons);
  assert.ok(codes.length > 50);
  assert.deepEqual(
    codes.filter(code => !new RegExp(`['"\` /]${code}\\b`).test(tests)),
    [],
  );
  for (const [code, [sentence, hint]] of Object.entries(reasons))
    assert.ok(sentence.length > 5 && hint.length > 10, code);
});

test('ERR_CONTAINER_RUNNING, ERR_CONTAINER_NOT_PAUSED, ERR_CONTAINER_BUSY, ERR_STATE_CORRUPT', {
  requires: ['rootless'],
}, async t => {
  const { create, sh, root } = await fixture(t);
  const container = await create();
  await container.run(sh('sleep 1000'));
  await assert.rejects(container.destroy(), withCode('ERR_CONTAINER_RUNNING'));
  await assert.rejects(container.resume(), withCode('ERR_CONTAINER_NOT_PAUSED'));
  const impatient = await new LinuxFactory({ root, lockTimeoutMs: 1 }).load(container.id);
  const held = await binding().lock(lockPath(container.directory), 1000);
  await assert.rejects(impatient.pause(), withCode('ERR_CONTAINER_BUSY'));
  binding().close(held);
  const record = readFileSync(statePath(container.directory));
  writeFileSync(statePath(container.directory), '{"half');
  await assert.rejects(new LinuxFactory({ root }).load(container.id), withCode('ERR_STATE_CORRUPT'));
  writeFileSync(statePath(container.directory), record);
  await container.destroy({ force: true });
});

test('ERR_CONTAINER_STOPPED', { requires: ['rootless'] }, async t => {
  const { create, sh } = await fixture(t);
  const container = await create();
  await container.start(sh('true'));
  await container.signal('KILL');
  await eventually('its end', async () => (await container.status()) === 'stopped');
  await assert.rejects(container.exec(), withCode('ERR_CONTAINER_STOPPED'));
  await container.destroy();
});

test('ERR_PRIVILEGE', { requires: ['not-root'] }, async t => {
  const { config, process } = await fixture(t);
  const factory = new LinuxFactory({ root: '/run/libcontainer-of-somebody-else' });
  const container = await factory.create('none', config);
  await assert.rejects(container.run(process()), withCode('ERR_PRIVILEGE'));
});

test('ERR_SYSCALL', { requires: ['root'] }, async () => {
  const plan = {
    cloneFlags: 0,
    steps: [{ kind: 'setns', type: 0x20000, slot: 0 }, { kind: 'finish' }],
  } as const;
  await assert.rejects(runPlan(binding(), plan, [0]), withCode('ERR_SYSCALL'));
});

test('ERR_PIDFD_SOCKET', { requires: ['rootless'] }, async t => {
  const { create, config } = await fixture(t);
  const container = await create();
  const pidfdSocket = join(makeDirectory(t), 'nobody-listens');
  const process = new Process({ args: ['/bin/true'], ...config.process, pidfdSocket });
  await assert.rejects(container.run(process), withCode('ERR_PIDFD_SOCKET'));
});

test('ERR_SPAWN', async () => {
  const where = { index: 0, step: '', syscall: 'clone3', args: '', errno: 11, reason: '', detail: '' };
  const failure = new StartFailure({ type: 'failed', stage: 'spawn', ...where });
  const error = await startError(failure, {
    containerId: 'none',
    program: 'true',
    cwd: '/',
    stateDirectory: '/none',
    cgroup: { operations: [], joinFiles: [], failure: () => new CgroupError('ERR_CGROUP', { file: '' }) },
    cgroupOffset: 0,
    oomKills: async () => 0,
  });
  withCode('ERR_SPAWN')(error);
});

test('ERR_OOM_KILLED', { requires: ['root', 'controller:memory', 'lane:host'] }, async t => {
  const root = makeStateRoot(t);
  // Less than init itself needs.
  await assert.rejects(sandbox(['true'], { root, memoryBytes: 64 * 1024 }), withCode('ERR_OOM_KILLED'));
});

test('ERR_ADDON', { requires: ['lane:host'] }, t => {
  const directory = makeDirectory(t);
  writeFileSync(join(directory, 'package.json'), '{}');
  copyFileSync(join(projectRoot, 'dist/index.cjs'), join(directory, 'index.cjs'));
  const program =
    "try { require('./index.cjs').features() } catch (error) { console.log(error.code, error.hint) }";
  const { stdout } = spawnSync(process.execPath, ['-e', program], { cwd: directory, encoding: 'utf8' });
  assert.match(stdout, /^ERR_ADDON \S/);
});
