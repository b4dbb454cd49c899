/** Networks and checkpoints: connections that live on, a network from outside that is open again afterwards, hooks. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CriuError } from '../../lib/index.ts';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { counter, requires } from './criu-fixture.ts';
import { fixture } from './fixture.ts';

const timeoutMs = 60_000;

/** A network namespace of the host's, by path, as engines give it; its loopback is up. */
function namedNetwork(t: TestContext): string {
  const path = join(makeDirectory(t), 'network');
  writeFileSync(path, '');
  execFileSync('unshare', [`--net=${path}`, 'true']);
  t.after(() => execFileSync('umount', [path]));
  inside(path, 'ip', 'link', 'set', 'lo', 'up');
  return path;
}

const inside = (network: string, ...words: string[]): string =>
  execFileSync('nsenter', [`--net=${network}`, ...words], { encoding: 'utf8' });

const joining = (path: string) => (spec: SpecDocument) => {
  for (const namespace of spec.linux.namespaces) if (namespace.type === 'network') namespace.path = path;
  return undefined;
};

/** Lines over TCP from a process in a network namespace, to port 7777 there. */
function talker(t: TestContext, network: string) {
  const child = spawn('nsenter', [`--net=${network}`, 'busybox', 'nc', '127.0.0.1', '7777'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => {
    child.kill('SIGKILL');
  });
  let text = '';
  child.stdout.on('data', chunk => {
    text += String(chunk);
  });
  return {
    say: (word: string): Promise<boolean> => {
      child.stdin.write(`${word}\n`);
      return eventually(`the answer to ${word}`, () => text.split('\n').includes(`got ${word}`));
    },
  };
}

const filterOf = (network: string): string =>
  ['iptables-save', 'ip6tables-save'].map(program => inside(network, program)).join('');

/** Port 7777 in state LISTEN, proc(5) "/proc/net/tcp". */
const listens = (network: string): boolean =>
  /:1E61 \S+:0000 0A /.test(inside(network, 'cat', '/proc/net/tcp', '/proc/net/tcp6'));

test('a TCP server goes on with an established connection; without the option it is refused', {
  requires,
  timeoutMs,
}, async t => {
  const path = namedNetwork(t);
  const on = await fixture(t, { writable: true, patch: joining(path) });
  const imagePath = makeDirectory(t);
  const container = await on.create();
  const program = 'exec nc -l -p 7777 -e /bin/sh -c "while read line; do echo got \\$line; done"';
  await container.run(on.sh(program));
  await eventually('the server', () => listens(path));
  const client = talker(t, path);
  await client.say('one');
  await assert.rejects(container.checkpoint({ imagePath: makeDirectory(t) }), (error: unknown) => {
    assert.ok(error instanceof CriuError);
    assert.equal(error.code, 'ERR_CRIU');
    assert.match(error.reasons.join('\n'), /tcp-established/);
    assert.ok(existsSync(error.logPath ?? ''), String(error.logPath));
    return true;
  });
  assert.equal(await container.status(), 'running');
  await client.say('still');
  await container.checkpoint({ imagePath, tcpEstablished: true });
  await container.destroy();
  // Nobody answers in its place, with a reset.
  assert.match(filterOf(path), /-A INPUT -j CRIU/);
  const restored = await on.factory.restore(container.id, on.config, on.sh(program), {
    imagePath,
    tcpEstablished: true,
  });
  await client.say('two');
  assert.doesNotMatch(filterOf(path), /CRIU/);
  await restored.destroy({ force: true });
});

test('a network from outside is open after a checkpoint without connections, and after the restore', {
  requires,
  timeoutMs,
}, async t => {
  const path = namedNetwork(t);
  const on = await fixture(t, { writable: true, patch: joining(path) });
  const imagePath = makeDirectory(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  await container.checkpoint({ imagePath });
  await container.destroy();
  assert.doesNotMatch(filterOf(path), /CRIU/);
  const restored = await on.factory.restore(container.id, on.config, on.sh('sleep 1000'), { imagePath });
  assert.doesNotMatch(filterOf(path), /CRIU/);
  await restored.destroy({ force: true });
});

test('prestart and createRuntime hooks run when the restored namespaces are there', {
  requires,
  timeoutMs,
}, async t => {
  const directory = makeDirectory(t);
  const names = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart'];
  const hook = (name: string) => [
    { path: '/bin/sh', args: ['sh', '-c', `cat >${directory}/${name}; echo >>${directory}/${name}`] },
  ];
  const on = await counter(t, spec => {
    spec.hooks = Object.fromEntries(names.slice(0, 2).map(name => [name, hook(name)]));
  });
  const imagePath = makeDirectory(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  await container.checkpoint({ imagePath });
  await container.destroy();
  for (const name of names) writeFileSync(join(directory, name), '');
  const restored = await on.factory.restore(container.id, on.config, on.sh('sleep 1000'), { imagePath });
  const { pid } = await restored.ociState();
  for (const name of names.slice(0, 2)) {
    const state: unknown = JSON.parse(readFileSync(join(directory, name), 'utf8'));
    assert.ok(typeof state === 'object' && state !== null && 'pid' in state && state.pid === pid, name);
  }
  // Up, as a start leaves it.
  const beside = on.sh('ip addr show lo | grep -q UP', {});
  await restored.run(beside);
  assert.deepEqual(await beside.wait(), { kind: 'exited', code: 0 });
  await restored.destroy({ force: true });
});
