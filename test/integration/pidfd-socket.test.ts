/** `pidfdSocket` and `nrunc --pidfd-socket`: whoever listens gets a pidfd that names the process and can end it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { cli, type Started, start } from './cli-fixture.ts';
import { fixture } from './fixture.ts';

/** One line for each message: its data, how many descriptors came, the pid behind the first. The last one is killed by it. */
const receiver = `
import signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print('up', flush=True)
for number in range(int(sys.argv[2])):
    connection, _ = server.accept()
    data, fds, _, _ = socket.recv_fds(connection, 100, 4)
    with open(f'/proc/self/fdinfo/{fds[0]}') as info:
        pid = [line.split()[1] for line in info if line.startswith('Pid:')][0]
    print(data.decode(), len(fds), pid, flush=True)
signal.pidfd_send_signal(fds[0], signal.SIGKILL)
`;

async function listen(t: TestContext, messages: number): Promise<{ path: string; listener: Started }> {
  const path = join(makeDirectory(t), 'pidfd.sock');
  const listener = start('/usr/bin/python3', ['-c', receiver, path, String(messages)]);
  t.after(() => listener.process.kill('SIGKILL'));
  await eventually('the listener', () => listener.stdout() === 'up\n');
  return { path, listener };
}

test('pidfdSocket gets a pidfd of a first process and of a further one', {
  requires: ['rootless', 'file:/usr/bin/python3'],
}, async t => {
  const on = await fixture(t);
  const { path, listener } = await listen(t, 2);
  const container = await on.create();
  const first = on.sh('sleep 1000', { pidfdSocket: path });
  await container.run(first);
  const further = on.sh('sleep 1000', { pidfdSocket: path });
  await container.start(further);
  const { stdout, code, stderr } = await listener.ended();
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  assert.equal(stdout, `up\nstandard 1 ${first.pid}\nsetns 1 ${further.pid}\n`);
  assert.deepEqual(await further.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  assert.equal(await container.status(), 'running');
  await container.destroy({ force: true });
});

test('nrunc create --pidfd-socket: the pidfd is there when the command has ended', {
  requires: ['root', 'file:/usr/bin/python3'],
}, async t => {
  const nrunc = cli(t);
  const { path, listener } = await listen(t, 1);
  const pidFile = join(makeDirectory(t), 'pid');
  const words = ['create', '--pidfd-socket', path, '--pid-file', pidFile, '-b', nrunc.bundle, nrunc.id];
  const { code, stderr } = await nrunc(words);
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  const { stdout } = await listener.ended();
  assert.equal(stdout, `up\nstandard 1 ${readFileSync(pidFile, 'utf8')}\n`);
  await eventually('it is dead', async () =>
    (await nrunc(['state', nrunc.id])).stdout.includes('"status": "stopped"'),
  );
  await nrunc(['delete', nrunc.id]);
});
