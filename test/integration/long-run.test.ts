/** A daemon at work: 100 containers through their whole life, with child processes of Node's own beside them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

const containers = 100;
const execsEach = 5;
const atOnce = 16;
const spawnsPerSecond = 50;
/** Sockets and pipes of streams that are being closed; a leak of one per container or exec would be 100 or 500. */
const mostDescriptors = 8;
/** The first lap has paid for code, pools and caches. A leak of 100 KiB per container would be 10 MiB. */
const mostMegabytes = 8;
/** By when the heap has its size. */
const mostLaps = 5;

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

function measure(): { descriptors: number; rss: number } {
  collect();
  collect();
  return { descriptors: readdirSync('/proc/self/fd').length, rss: process.memoryUsage.rss() / 2 ** 20 };
}

/** Children of this process that have ended and that nobody has waited for. */
function zombies(): string[] {
  const found: string[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z' && Number(parent) === process.pid) found.push(entry);
    } catch {
      // Gone while we looked.
    }
  }
  return found;
}

async function life(on: Fixture, number: number): Promise<void> {
  const container = await on.create();
  const init = on.sh('read line; exit 7', { stdin: 'pipe' });
  await container.start(init);
  await container.exec();
  for (let at = 0; at < execsEach; at++) {
    const code = (number * execsEach + at) % 256;
    const further = on.sh(`exit ${code}`);
    await container.start(further);
    assert.deepEqual(await further.wait(), { kind: 'exited', code }, `${container.id}, exec ${at}`);
  }
  await container.pause();
  assert.equal(await container.status(), 'paused');
  await container.resume();
  init.stdin?.end('line\n');
  assert.deepEqual(await init.wait(), { kind: 'exited', code: 7 }, container.id);
  await container.destroy();
}

/** `count` lives, `atOnce` at a time. */
async function lap(on: Fixture, count: number): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await life(on, next++);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

/** Node's own children, whose exit statuses it learns by SIGCHLD and waitpid: neither may take the other's. */
function spawning(): { stop: () => Promise<number> } {
  const ends: Promise<void>[] = [];
  const timer = setInterval(() => {
    const code = ends.length % 256;
    ends.push(
      new Promise((resolve, reject) => {
        const child = spawn('/bin/sh', ['-c', `exit ${code}`], { stdio: 'ignore' });
        child.once('error', reject);
        child.once('exit', (status, signal) => {
          if (status === code) resolve();
          else reject(new Error(`child_process: ${status ?? signal} instead of ${code}`));
        });
      }),
    );
    // Looked at in stop(); one that fails before must not end the process.
    ends.at(-1)?.catch(() => undefined);
  }, 1000 / spawnsPerSecond);
  return {
    stop: async () => {
      clearInterval(timer);
      await Promise.all(ends);
      return ends.length;
    },
  };
}

test('100 containers beside 50 child processes a second: exit statuses, no zombie, memory and descriptors flat', {
  requires: ['root', 'lane:host'],
  timeoutMs: 120_000,
}, async t => {
  const on = await fixture(t);
  const children = spawning();
  // Until V8 has its heap and malloc its arenas a lap costs memory; what leaks costs the same in every lap.
  await lap(on, containers);
  let before = measure();
  for (let laps = 1; ; laps++) {
    await lap(on, containers);
    const grown = measure().rss - before.rss;
    if (grown < mostMegabytes || laps === mostLaps) break;
    before = measure();
  }
  assert.ok((await children.stop()) > 0);
  await eventually('a process without zombies', () => zombies().length === 0, 1000);
  const after = await eventually(
    'the end of closed streams',
    () => {
      const now = measure();
      return now.descriptors - before.descriptors <= mostDescriptors ? now : undefined;
    },
    5000,
  );
  t.diagnostic(`RSS ${before.rss.toFixed(1)} → ${after.rss.toFixed(1)} MiB`);
  t.diagnostic(`descriptors ${before.descriptors} → ${after.descriptors}`);
  assert.ok(after.rss - before.rss < mostMegabytes, `RSS ${before.rss} → ${after.rss} MiB`);
});
