/** Processes that are executed in a running container. */
import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const namespaces = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'uts'] as const;

test('exec joins all namespaces and the cgroups, with properties of its own', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const init = on.sh('read line', { stdin: 'pipe' });
  await container.run(init);
  const look = `for n in ${namespaces.join(' ')}; do readlink /proc/self/ns/$n; done; id -u; pwd; echo $MARK; umask; cat; sleep 1000`;
  const process = on.sh(look, {
    stdin: 'pipe',
    stdout: 'pipe',
    env: ['PATH=/bin', 'MARK=here'],
    cwd: '/tmp',
    user: { uid: 1234, umask: 0o77 },
  });
  await container.start(process);
  assert.notEqual(await container.status(), 'stopped');
  assert.ok((await container.processes()).includes(process.pid ?? 0));
  process.stdin?.end('done\n');
  const iterator = (process.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
  let seen = '';
  while (!seen.endsWith('done\n')) seen += String((await within(iterator.next(), 'output')).value);
  const inside = namespaces.map(name => readlinkSync(`/proc/${init.pid}/ns/${name}`));
  assert.deepEqual(seen.trim().split('\n'), [...inside, '1234', '/tmp', 'here', '0077', 'done']);
  // The pid namespace dies with its init, and every process in it.
  await container.signal('KILL');
  assert.deepEqual(await within(process.wait(), 'exit of the exec'), {
    kind: 'signaled',
    signal: 'SIGKILL',
    coreDumped: false,
  });
  await init.wait();
  process.stdout?.destroy();
  await container.destroy();
});

test('several at once, each with its own exit status', { requires: ['rootless'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const codes = [0, 1, 2, 3, 42, 255];
  const statuses = await Promise.all(
    codes.map(async code => {
      const process = on.sh(`exit ${code}`);
      await container.start(process);
      return process.wait();
    }),
  );
  assert.deepEqual(
    statuses,
    codes.map(code => ({ kind: 'exited', code })),
  );
  await container.destroy({ force: true });
});

test('two-phase exec: nothing runs before release(); cancel() leaves nothing', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const process = on.sh('echo released', { stdout: 'pipe' });
  const prepared = await container.prepare(process);
  assert.equal(prepared.pid, process.pid);
  assert.ok((await container.processes()).includes(prepared.pid));
  await prepared.release();
  assert.equal(await text(process.stdout ?? assert.fail()), 'released\n');
  assert.deepEqual(await process.wait(), { kind: 'exited', code: 0 });

  const other = await container.prepare(on.sh('echo never'));
  await other[Symbol.asyncDispose]();
  assert.equal((await container.processes()).includes(other.pid), false);
  await container.destroy({ force: true });
});

test('refused with the words of runc when stopped and when paused; ignorePaused enters', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const init = on.sh('sleep 1000');
  await container.run(init);
  await container.pause();
  await assert.rejects(container.start(on.process()), {
    code: 'ERR_CONTAINER_PAUSED',
    message: 'cannot exec in a paused container (use --ignore-paused to override)',
  });
  const stuck = on.process({ ignorePaused: true });
  const started = container.start(stuck);
  await container.resume();
  await within(started, 'start in a container that was paused');
  assert.deepEqual(await stuck.wait(), { kind: 'exited', code: 0 });
  await container.signal('KILL');
  await init.wait();
  await assert.rejects(container.start(on.process()), {
    code: 'ERR_CONTAINER_NOT_RUNNING',
    message: 'cannot exec in a stopped container',
  });
  await container.destroy();
});

test('an exec that cannot be done says why, and the container goes on', {
  requires: ['rootless'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const before = await container.processes();
  await assert.rejects(container.start(on.process({ args: ['missing'] })), { code: 'ERR_EXEC_NOT_FOUND' });
  await assert.rejects(container.start(on.process({ cwd: '/bin/sh' })), { code: 'ERR_CWD' });
  await assert.rejects(container.start(on.process({ subCgroups: { '': '../other' } })), {
    code: 'ERR_CGROUP',
  });
  assert.deepEqual(await container.processes(), before);
  assert.equal(await container.status(), 'running');
  await container.destroy({ force: true });
});

test('a terminal of its own', { requires: ['rootless'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const process = on.sh('tty; stty size; read line; echo "got $line"; stty size', {
    terminal: true,
    consoleSize: { height: 24, width: 80 },
  });
  await container.start(process);
  const terminal = process.terminal ?? assert.fail('no terminal');
  let seen = '';
  const until = async (end: string): Promise<void> => {
    const iterator = terminal.iterator({ destroyOnReturn: false });
    while (!seen.includes(end))
      seen += String((await within(iterator.next(), `${end} on the terminal`)).value);
  };
  await until('24 80\r\n');
  process.resize({ columns: 132, rows: 50 });
  terminal.write('x\n');
  await until('50 132\r\n');
  assert.match(seen, /^\/dev\/pts\/\d+\r\n24 80\r\n/);
  assert.match(seen, /got x\r\n/);
  assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
  terminal.destroy();
  await container.destroy({ force: true });
});
