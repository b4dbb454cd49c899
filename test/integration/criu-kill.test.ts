/**
 * CRIU or the daemon is killed in the middle: the container goes on or is stopped, it is never left frozen, its network is
 * open, and nothing is left behind. LIBCONTAINER_CRIU_KILLS=30: so many, in all; fewer by default, since each takes a
 * checkpoint.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Container } from '../../lib/index.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { nruncPath, start } from './cli-fixture.ts';
import { counter, counting, requires } from './criu-fixture.ts';

const all = Number(process.env.LIBCONTAINER_CRIU_KILLS ?? 6);
/** In each of the three places. */
const kills = Math.ceil(all / 3);
const timeoutMs = 30_000 + kills * 10_000;

const isAlive = (pid: string): boolean => !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

/** CRIU at work on an image, wherever it came from. */
function criuPids(): number[] {
  const isCriu = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('criu\0swrk') && isAlive(pid);
    } catch {
      return false; // it has just ended
    }
  };
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name) && isCriu(name))
    .map(Number);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

/** Some moment of a work that takes so long. */
const somewhere = (durationMs: number): Promise<void> => delay(Math.random() * durationMs);

async function setUp(t: TestContext) {
  const on = await counter(t);
  const running = async (): Promise<Container> => {
    const container = await on.create();
    await container.run(on.sh(counting));
    await on.further();
    return container;
  };
  /** It goes on or is stopped; then there is one that goes on. */
  const settled = async (container: Container): Promise<Container> => {
    const status = await eventually('a settled status', async () => {
      const now = await container.status();
      return now === 'running' || now === 'stopped' ? now : undefined;
    });
    if (status === 'running') {
      await on.further();
      const { pid } = await container.ociState();
      const filter = execFileSync('nsenter', ['-t', String(pid), '-n', 'iptables-save'], {
        encoding: 'utf8',
      });
      assert.doesNotMatch(filter, /CRIU/);
      return container;
    }
    await container.destroy({ force: true });
    return running();
  };
  const container = await running();
  const from = performance.now();
  await container.checkpoint({ imagePath: makeDirectory(t), leaveRunning: true });
  return { ...on, container, settled, dumpMs: performance.now() - from };
}

test('CRIU is killed in the middle of a checkpoint', { requires, timeoutMs }, async t => {
  const on = await setUp(t);
  let { container } = on;
  const ends: string[] = [];
  for (let round = 0; round < kills; round++) {
    const file = join(container.directory, 'criu.json');
    let stage = 'begun';
    const dump = container
      .checkpoint({
        imagePath: makeDirectory(t),
        leaveRunning: true,
        onProgress: progress => {
          stage = progress.stage;
        },
      })
      .then(
        () => 'done',
        (error: Error) => error.message,
      );
    const began = await Promise.race([dump, eventually('CRIU', () => existsSync(file))]);
    if (began === true) {
      await somewhere(on.dumpMs);
      if (existsSync(file)) kill(Number(JSON.parse(readFileSync(file, 'utf8')).pid));
    }
    ends.push(`after ${stage}: ${await within(dump, 'the end of the checkpoint', 30_000)}`);
    assert.equal(existsSync(file), false);
    container = await on.settled(container);
  }
  t.diagnostic(ends.join('\n'));
  await container.checkpoint({ imagePath: makeDirectory(t), leaveRunning: true });
  await container.destroy({ force: true });
  assert.deepEqual(criuPids(), []);
});

test('the daemon is killed in the middle of a checkpoint, and of a restore', {
  requires,
  timeoutMs: timeoutMs * 2,
}, async t => {
  const on = await setUp(t);
  let { container } = on;
  const ends: string[] = [];
  const killed = async (words: string[]): Promise<void> => {
    const daemon = start(nruncPath, ['--root', on.root, ...words], { noStreams: true });
    const ended = daemon.ended();
    await Promise.race([ended, eventually('CRIU', () => criuPids().length > 0)]);
    await Promise.race([ended, somewhere(on.dumpMs * 1.5)]);
    daemon.process.kill('SIGKILL');
    const { code, signal } = await ended;
    ends.push(`${words[0]}: ${code ?? signal}`);
    await on.factory.reconcile();
    await eventually('no CRIU is left', () => criuPids().length === 0, 10_000);
  };
  for (let round = 0; round < kills; round++) {
    await killed(['checkpoint', '--image-path', makeDirectory(t), '--leave-running', container.id]);
    container = await on.settled(container);
  }
  const image = makeDirectory(t);
  await container.checkpoint({ imagePath: image });
  await container.destroy();
  for (let round = 0; round < kills; round++) {
    const id = `${container.id}-r${round}`;
    await killed(['restore', '-d', '--image-path', image, '-b', on.bundle, id]);
    // It was restored before the kill, or nothing of it is left.
    const left = await on.factory.load(id).catch(() => undefined);
    ends.push(left === undefined ? 'nothing left' : await left.status());
    await left?.destroy({ force: true });
    assert.deepEqual(await on.factory.list(), []);
  }
  t.diagnostic(ends.join('\n'));
});
