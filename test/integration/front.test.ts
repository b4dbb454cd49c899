/** The front and `nrunc serve` (docs/adr/0026): what is served, what is left to Node, and that nothing is done twice. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { binding } from '../../lib/native/binding.ts';
import { testProgram } from '../../scripts/programs.mjs';
import { containerId, makeBundle, makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Cli, cli, nruncPath, type Result, start } from './cli-fixture.ts';
import { type Front, makeFront, servedFront, startServer } from './front.ts';

const requires = ['root'] as const;

async function good(result: Promise<Result>): Promise<string> {
  const { code, stdout, stderr } = await result;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  return stdout;
}

const through = (t: TestContext, front: Front, options: Parameters<typeof cli>[1] = {}): Cli =>
  cli(t, { ...options, program: front.path, env: front.env });

const parentOf = (pid: number): number =>
  Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

const childrenOf = (pid: number): string =>
  readdirSync(`/proc/${pid}/task`)
    .map(thread => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8'))
    .join('');

/** containerd's shim around `create` or `exec -d`: a subreaper. Resolves with its lines when it has ended. */
function shim(front: Front, pidFile: string, words: readonly string[]) {
  const child = spawn(testProgram('shim', projectRoot), [pidFile, front.path, ...words], {
    env: { ...process.env, ...front.env },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  let told = '';
  child.stdio[3]?.on('data', (data: Buffer) => {
    told += data.toString();
  });
  const ended = waitFor(child, 'exit', 30_000);
  return {
    pid: child.pid ?? 0,
    told: (word: string) =>
      eventually(`shim: ${word}`, () => new RegExp(`^${word} (\\d+)$`, 'm').exec(told)?.[1]),
    ended: async () => {
      await ended;
      return told;
    },
  };
}

test('front: the server does the commands, the caller gets the child', { requires }, async t => {
  const front = makeFront(t);
  const server = await startServer(t, front);
  const nrunc = through(t, front);
  const { id, root, bundle } = nrunc;
  const pidFile = join(front.directory, 'pid');
  const life = shim(front, pidFile, ['--root', root, 'create', '-b', bundle, '--pid-file', pidFile, id]);
  const pid = Number(await life.told('pid'));
  assert.equal(parentOf(pid), life.pid);
  assert.equal(childrenOf(server.pid), '');
  assert.equal(JSON.parse(await good(nrunc(['state', id]))).status, 'created');
  await good(nrunc(['start', id]));
  assert.equal(JSON.parse(await good(nrunc(['state', id]))).status, 'running');
  const execFile = join(front.directory, 'exec');
  const words = ['--root', root, 'exec', '-d', '--pid-file', execFile, id, '/bin/sh', '-c', 'exit 7'];
  const exec = shim(front, execFile, words);
  assert.match(await exec.ended(), /^runtime 0\npid \d+\nexit 7\n$/);
  assert.deepEqual(JSON.parse(await good(nrunc(['ps', '-f', 'json', id]))), [pid]);
  assert.match(await good(nrunc(['ps', id])), /sleep 1000/);
  assert.equal(await good(nrunc(['list', '-q'])), `${id}\n`);
  for (const command of ['pause', 'resume']) await good(nrunc([command, id]));
  await good(nrunc(['update', '--pids-limit', '20', id]));
  assert.match((await nrunc(['state', 'none'])).stderr, /container does not exist/);
  await good(nrunc(['kill', id, 'KILL']));
  assert.match(await life.ended(), /exit 137\n$/);
  await good(nrunc(['delete', id]));
  assert.deepEqual(front.fallbacks(), []);
  assert.equal(front.answered().filter(line => / (create|exec|kill|delete) /.test(line)).length, 4);
  assert.equal(await good(nrunc(['list', '-q'])), '');
});

test('front: failures of create and exec are those of Node, and leave nothing', { requires }, async t => {
  const front = await servedFront(t);
  const served = through(t, front);
  const own = cli(t);
  const bad = makeBundle(t, { process: { args: ['/nosuch'] } });
  for (const words of [
    ['create', '-b', bad, 'ID'],
    ['create', '-b', '/nosuch', 'ID'],
    ['create', '-b', served.bundle, '../ID'],
    ['exec', '-d', 'ID', '/bin/true'],
  ]) {
    const both = [served, own].map(async nrunc => {
      const { code, stderr } = await nrunc(words.map(word => word.replace('ID', nrunc.id)));
      return {
        code,
        said: stderr
          .replace(/time="[^"]*"/, '')
          .replaceAll(nrunc.id, 'ID')
          .replaceAll(nrunc.root, 'ROOT'),
      };
    });
    const [one, other] = await Promise.all(both);
    assert.deepEqual(one, other);
    assert.notEqual(one?.code, 0);
  }
  await good(served(['run', '-d', '-b', served.bundle, served.id]));
  const missing = await served(['exec', '-d', served.id, '/nosuch']);
  assert.equal(missing.code, 255);
  assert.match(missing.stderr, /no such file or directory/);
  assert.deepEqual(readdirSync(served.root), [served.id]);
  await good(served(['delete', '-f', served.id]));
  // What has no configuration is explained by who goes there himself.
  assert.deepEqual(front.fallbacks().length, 1);
});

test('front: what must be the caller itself is left to Node', { requires }, async t => {
  const front = await servedFront(t);
  const nrunc = through(t, front, { process: { args: ['/bin/echo', 'done'] } });
  const { id, bundle, root } = nrunc;
  assert.equal(await good(nrunc(['run', '-b', bundle, id])), 'done\n');
  const hooked = makeBundle(t, {
    patch: spec => ({ ...spec, hooks: { createRuntime: [{ path: '/bin/true' }] } }),
  });
  await good(nrunc(['create', '-b', hooked, id]));
  await good(nrunc(['delete', '-f', id]));
  await good(nrunc(['create', '--preserve-fds', '0', '-b', bundle, id]));
  const update = ['update', '-r', '-', id];
  await good(nrunc(update, { input: '{"pids":{"limit":30}}' }));
  assert.deepEqual(
    front.fallbacks().map(line => line.split(' ').at(2)),
    ['run', 'create', 'update'],
  );
  const count = front.fallbacks().length;
  const state = `'${front.path}' --root '${root}' state '${id}'`;
  const ways = {
    umask: ['sh', '-c', `umask 077; exec ${state}`],
    'mount namespace': ['unshare', '--mount', 'sh', '-c', `exec ${state}`],
    capabilities: ['setpriv', '--bounding-set', '-sys_admin', 'sh', '-c', `exec ${state}`],
    'privileges that cannot grow': ['setpriv', '--no-new-privs', 'sh', '-c', `exec ${state}`],
    directory: ['chroot', '/', 'sh', '-c', `TZ=Asia/Tokyo exec ${state}`],
    'closed descriptors': ['sh', '-c', `exec ${state} 0<&-`],
  };
  for (const [at, [name, words]] of Object.entries(ways).entries()) {
    const [program = '', ...rest] = words;
    assert.equal(JSON.parse(await good(start(program, rest, { env: front.env }).ended())).id, id, name);
    assert.equal(front.fallbacks().length, count + at + 1, name);
  }
  // The container's own root could reach a socket that is mounted into it.
  await good(nrunc(['delete', '-f', id]));
});

test('front: without a server, and with one that does not answer', { requires }, async t => {
  const front = makeFront(t);
  const nrunc = through(t, front, {
    process: {
      args: [
        ...['/bin/sh', '-c'],
        'trap "echo got >> /dev/shm/got" USR1; echo up >> /dev/shm/got; while :; do sleep 0.1; done',
      ],
    },
  });
  await good(nrunc(['run', '-d', '-b', nrunc.bundle, nrunc.id]));
  assert.equal(front.fallbacks().length, 1);
  const seen = (): string | undefined => {
    const pid = JSON.parse(
      execFileSync(nruncPath, ['--root', nrunc.root, 'state', nrunc.id], { encoding: 'utf8' }),
    ).pid;
    const file = `/proc/${pid}/root/dev/shm/got`;
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  };
  const written = (text: string) => eventually(text, () => seen() === text);
  await written('up\n');
  const server = await startServer(t, front);
  server.process.kill('SIGSTOP');
  await eventually('it is stopped', () => / T /.test(readFileSync(`/proc/${server.pid}/stat`, 'utf8')));
  await good(nrunc(['kill', nrunc.id, 'USR1'], { env: { NRUNC_PATIENCE_MS: '50' } }));
  await written('up\ngot\n');
  assert.deepEqual(
    front.fallbacks().map(line => line.split(' ')[2]),
    ['kill'],
  );
  server.process.kill('SIGCONT');
  // Behind the request that nobody waited for any more.
  await eventually('it answers again', async () => {
    await good(nrunc(['state', nrunc.id]));
    return front.answered().some(line => line.includes(' state '));
  });
  assert.equal(seen(), 'up\ngot\n');
  // Killed, it leaves its socket; a new one takes its place, and the container has noticed nothing.
  server.process.kill('SIGKILL');
  await waitFor(server.process, 'exit');
  assert.ok(existsSync(front.socket));
  assert.equal(JSON.parse(await good(nrunc(['state', nrunc.id]))).status, 'running');
  await startServer(t, front);
  await good(nrunc(['delete', '-f', nrunc.id]));
  assert.deepEqual(front.fallbacks(), []);
});

/** What a server says to one front, after its request; then it is gone. */
async function saying(
  t: TestContext,
  frames: readonly string[],
  untilGo: boolean,
): Promise<Result & { fell: number }> {
  const front = makeFront(t);
  const native = binding();
  const listening = native.packetListen(front.socket);
  const running = start(front.path, ['--version'], { env: front.env });
  try {
    const peer = await eventually('a front', () => native.packetAccept(listening) ?? undefined);
    const request = await eventually('its request', () => {
      const message = native.packetReceive(peer.fd);
      return typeof message === 'object' && message;
    });
    for (const fd of request.fds) native.close(fd);
    for (const frame of frames) native.packetSend(peer.fd, Buffer.from(frame));
    if (untilGo)
      await eventually('go', () => {
        const message = native.packetReceive(peer.fd);
        return typeof message === 'object' && message.data.toString() === 'G';
      });
    native.close(peer.fd);
    if (peer.pidfd >= 0) native.close(peer.pidfd);
    return { ...(await running.ended()), fell: front.fallbacks().length };
  } finally {
    native.close(listening);
  }
}

test('front: who has connected is known when its number may be another process', { requires }, async t => {
  const front = makeFront(t);
  const native = binding();
  const listening = native.packetListen(front.socket);
  t.after(() => native.close(listening));
  const child = spawn(front.path, ['--version'], { env: { ...process.env, ...front.env }, stdio: 'ignore' });
  const ended = waitFor(child, 'exit');
  const peer = await eventually('a front', () => native.packetAccept(listening) ?? undefined);
  t.after(() => native.close(peer.fd));
  assert.equal(peer.pid, child.pid);
  assert.equal(peer.uid, process.geteuid?.());
  // SO_PEERPIDFD.
  const [major = 0, minor = 0] = release().split('.').map(Number);
  assert.equal(peer.pidfd >= 0, major > 6 || (major === 6 && minor >= 5));
  if (peer.pidfd >= 0) t.after(() => native.close(peer.pidfd));
  const lives = (): boolean => native.pidfdSendSignal(peer.pidfd, 0);
  if (peer.pidfd >= 0) assert.equal(lives(), true);
  child.kill('SIGKILL');
  await ended;
  if (peer.pidfd >= 0) assert.equal(lives(), false);
});

test('front: a server that dies', { requires }, async t => {
  const end = /the server ended before it had answered/;
  const none = await saying(t, [], false);
  assert.equal(none.fell, 1);
  assert.equal(none.code, 0);
  const declined = await saying(t, ['W', 'D'], false);
  assert.equal(declined.fell, 1);
  // It may have done it.
  for (const lost of [await saying(t, ['W', 'A'], true), await saying(t, ['Ohalf of it'], false)]) {
    assert.equal(lost.fell, 0);
    assert.equal(lost.code, 1);
    assert.match(lost.stderr, end);
  }
});

test('front: killed in the middle of a create it leaves nothing', { requires }, async t => {
  const front = await servedFront(t);
  const nrunc = through(t, front);
  const hooked = makeBundle(t, {
    patch: spec => ({
      ...spec,
      hooks: { createContainer: [{ path: '/bin/sleep', args: ['sleep', '1000'] }] },
    }),
  });
  const child = spawn(front.path, ['--root', nrunc.root, 'create', '-b', hooked, nrunc.id], {
    env: { ...process.env, ...front.env },
    stdio: 'ignore',
  });
  const ended = waitFor(child, 'exit');
  await eventually(
    'init is in its hook',
    async () => (await nrunc(['list', '-q'])).stdout === `${nrunc.id}\n`,
  );
  child.kill('SIGKILL');
  await ended;
  await eventually('it is taken back', () => readdirSync(nrunc.root).length === 0);
  await good(nrunc(['create', '-b', nrunc.bundle, nrunc.id]));
  await good(nrunc(['delete', '-f', nrunc.id]));
  assert.deepEqual(front.fallbacks(), []);
});

test('front: many at once, and the server keeps nothing', { requires }, async t => {
  const front = makeFront(t);
  const server = await startServer(t, front);
  const nrunc = through(t, front);
  const held = (): number => readdirSync(`/proc/${server.pid}/fd`).length;
  const cycle = async (id: string): Promise<void> => {
    await good(nrunc(['create', '-b', nrunc.bundle, id]));
    await good(nrunc(['start', id]));
    await good(nrunc(['delete', '-f', id]));
  };
  await cycle(nrunc.id);
  const before = held();
  await Promise.all(Array.from({ length: 10 }, () => cycle(containerId('front'))));
  await eventually('its descriptors are as before', () => held() <= before);
  assert.equal(childrenOf(server.pid), '');
  assert.deepEqual(readdirSync(nrunc.root), []);
});

test('serve: its socket', { requires }, async t => {
  const front = makeFront(t);
  const server = await startServer(t, front);
  assert.equal(statSync(front.socket).mode & 0o777, 0o600);
  const second = await start(nruncPath, ['serve', '--socket', front.socket]).ended();
  assert.equal(second.code, 1);
  assert.match(second.stderr, /another server listens on/);
  server.process.kill('SIGTERM');
  assert.deepEqual(await waitFor(server.process, 'exit'), [0, null]);
  assert.ok(!existsSync(front.socket));
  const open = join(makeDirectory(t), 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const refused = await start(nruncPath, ['serve', '--socket', join(open, 'socket')]).ended();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /only its owner/);
  // Nobody else's server is believed.
  const stranger = makeFront(t);
  chmodSync(stranger.directory, 0o777);
  const program = join(stranger.directory, 'server.py');
  writeFileSync(
    program,
    `import os, socket, sys, time\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.bind(${JSON.stringify(stranger.socket)})\ns.listen()\nprint('up', flush=True)\nc, _ = s.accept()\nprint('got', len(c.recv(4096)), flush=True)\n`,
  );
  const false_ = start('python3', [program]);
  await eventually('it listens', () => false_.stdout() === 'up\n');
  await good(start(stranger.path, ['--version'], { env: stranger.env }).ended());
  assert.equal(stranger.fallbacks().length, 1);
  await eventually('it was told nothing', () => false_.stdout() === 'up\ngot 0\n');
  await false_.ended();
});

test('serve: a log that is no plain file is not opened', { requires }, async t => {
  const front = await servedFront(t);
  const root = makeStateRoot(t);
  const fifo = join(front.directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const reader = openSync(fifo, 'r+');
  try {
    await good(start(front.path, ['--log', fifo, '--root', root, 'list'], { env: front.env }).ended());
  } finally {
    closeSync(reader);
  }
  assert.equal(front.fallbacks().length, 1);
});
