/** The process that embeds the library is the same before and after: also from a Worker, also beside child_process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Config } from '../../lib/config/config.ts';
import { type Container, LinuxFactory, loadConfig, Process, type ProcessOptions } from '../../lib/index.ts';
import { containerId } from '../harness/bundle.ts';
import { eventually, slowness, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

/** What one thread works with: the bundle's program in containers of its own names. */
interface Ground {
  readonly config: Config;
  create(): Promise<Container>;
}

interface Order {
  readonly root: string;
  readonly bundle: string;
  readonly name: string;
  readonly rounds: number;
}

interface Answer {
  readonly operations: number;
  readonly before: Purity;
  readonly after: Purity;
  readonly warnings: readonly string[];
}

if (isMainThread) tests();
else parentPort?.postMessage(await inWorker(workerData));

async function inWorker({ root, bundle, name, rounds }: Order): Promise<Answer> {
  // Node counts the descriptors of a Worker, and warns of one that is closed by other means than it was opened.
  const warnings: string[] = [];
  process.on('warning', ({ message }) => warnings.push(message));
  const factory = new LinuxFactory({ root });
  const config = await loadConfig(bundle);
  let made = 0;
  const on: Ground = { config, create: () => factory.create(`${name}-${++made}`, config) };
  await mixed(on);
  const before = purity('/proc/thread-self');
  let operations = 0;
  for (let round = 0; round < rounds; round++)
    for (const count of await Promise.all([mixed(on), mixed(on)])) operations += count;
  return { operations, before, after: purity('/proc/thread-self'), warnings };
}

interface Purity {
  readonly [fact: string]: unknown;
}

/** What of a process the library could change: cwd, umask, ids, signal dispositions, limits, namespaces, descriptors. */
function purity(self = '/proc/self'): Purity {
  return {
    ...threadFacts(self),
    cgroup: readFileSync(`${self}/cgroup`, 'utf8'),
    oomScoreAdj: readFileSync(`${self}/oom_score_adj`, 'utf8'),
    limits: readFileSync(`${self}/limits`, 'utf8'),
    descriptors: Object.values(links(`${self}/fd`)).sort(),
    listeners: process.eventNames().map(name => [String(name), process.listenerCount(name)]),
    environment: { ...process.env },
  };
}

/** What each thread has for itself, or may come to have by unshare, setns or a bare set*id system call. */
function threadFacts(self: string): Purity {
  const status = Object.fromEntries(
    readFileSync(`${self}/status`, 'utf8')
      .split('\n')
      .map(line => line.split(':\t'))
      .filter(([name]) =>
        /^(Umask|Uid|Gid|Groups|Sig(Ign|Cgt|Blk)|Cap\w+|NoNewPrivs|Seccomp)$/.test(name ?? ''),
      ),
  );
  return { cwd: link(`${self}/cwd`), root: link(`${self}/root`), status, namespaces: links(`${self}/ns`) };
}

/** Of every thread, Node's and the library's: by its number. */
function threads(): Purity {
  const rows: { [thread: string]: Purity } = {};
  for (const thread of readdirSync('/proc/self/task'))
    try {
      rows[thread] = threadFacts(`/proc/self/task/${thread}`);
    } catch {
      // Ended while we looked: a Worker's.
    }
  return rows;
}

function links(directory: string): { [name: string]: string } {
  return Object.fromEntries(readdirSync(directory).map(name => [name, link(`${directory}/${name}`)]));
}

function link(path: string): string {
  try {
    // The directory that is being read has a descriptor of its own.
    return readlinkSync(path).replace(/^\/proc\/\d+\/fd$/, 'reading');
  } catch {
    return 'reading';
  }
}

/** Zombies that are children of this process. */
function zombies(): string[] {
  return readdirSync('/proc').filter(name => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return state === 'Z' && Number(parent) === process.pid;
    } catch {
      return false;
    }
  });
}

/** Each kind of operation on a container of its own; resolves to how many they were. */
async function mixed(on: Ground): Promise<number> {
  let operations = 0;
  const did = <T>(work: Promise<T>): Promise<T> => {
    operations += 1;
    return work;
  };
  const program = (text: string, more: Partial<ProcessOptions> = {}): Process =>
    new Process({ ...on.config.process, args: ['/bin/sh', '-c', text], ...more });
  const container = await did(on.create());
  const init = program('sleep 1000', { stdout: 'pipe' });
  await did(container.start(init));
  await did(container.exec());
  const other = program('exit 3', { stderr: 'pipe' });
  await did(container.start(other));
  assert.deepEqual(await other.wait(), { kind: 'exited', code: 3 });
  await did(container.pause());
  await did(container.resume());
  await did(container.set({ ...on.config.resources, pids: { limit: 100 } }));
  await did(container.stats());
  await did(container.signal('WINCH'));
  const absent = did(container.start(program('', { args: ['/none'] })));
  await assert.rejects(absent, { code: 'ERR_EXEC_NO_FILE' });
  const terminal = program('tty', { terminal: true });
  await did(container.start(terminal));
  terminal.terminal?.resume();
  await terminal.wait();
  terminal.terminal?.destroy();
  await did(container.destroy({ force: true }));
  init.stdout?.destroy();
  other.stderr?.destroy();
  const short = await did(on.create());
  const only = program('exit 4');
  await did(short.run(only));
  assert.deepEqual(await only.wait(), { kind: 'exited', code: 4 });
  await did(short.destroy());
  return operations;
}

function tests(): void {
  test('the host process is the same before and after, zombies are none', {
    requires: ['root'],
    timeoutMs: 120_000,
  }, async t => {
    const on = await fixture(t);
    // What Node itself makes on first use (threads, signal pipe of child_process) is not the library's.
    await commands(1);
    await mixed(on);
    const before = purity();
    const each = threads();
    // Each of mixed() is some fifteen operations, two at a time: 1,000 in all.
    const rounds = slowness === 1 ? 34 : 3;
    const commanded = commands(rounds);
    let operations = 0;
    for (let round = 0; round < rounds; round++)
      for (const count of await Promise.all([mixed(on), mixed(on)])) operations += count;
    await commanded;
    await same(before, each);
    t.diagnostic(`${operations} operations`);
    assert.ok(operations >= (slowness === 1 ? 1000 : 80), `${operations} operations`);
  });

  test('from two Workers at once, which then end', { requires: ['root'], timeoutMs: 120_000 }, async t => {
    const on = await fixture(t);
    t.after(async () => {
      for (const { id } of await on.factory.list()) await on.factory.destroy(id, { force: true });
    });
    await commands(1);
    const work = async (rounds: number): Promise<number> => {
      const workers = ['a', 'b'].map(async name => {
        const order: Order = {
          root: on.root,
          bundle: on.bundle,
          name: containerId(`worker-${name}`),
          rounds,
        };
        const worker = new Worker(fileURLToPath(import.meta.url), { workerData: order });
        const message: Promise<Answer[]> = once(worker, 'message');
        const [answer] = await within(message, 'the answer of the Worker', 90_000).finally(() =>
          worker.terminate(),
        );
        return answer;
      });
      let operations = 0;
      for (const answer of await Promise.all(workers)) {
        assert.ok(answer !== undefined);
        // Descriptors are everybody's, and the other Worker is at work.
        const { descriptors: _, ...after } = answer.after;
        const { descriptors: __, ...before } = answer.before;
        assert.deepEqual(after, before);
        assert.deepEqual(answer.warnings, []);
        operations += answer.operations;
      }
      return operations;
    };
    // Node handles SIGCHLD only while it has a child: here always.
    const child = spawn('/bin/cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    t.after(async () => {
      child.stdin.end();
      await within(once(child, 'exit'), 'exit of cat');
    });
    await mixed(on);
    const before = purity();
    const each = threads();
    const rounds = slowness === 1 ? 11 : 1;
    const [operations] = await Promise.all([work(rounds), commands(rounds)]);
    await same(before, each);
    t.diagnostic(`${operations} operations`);
    assert.ok(operations >= (slowness === 1 ? 600 : 50), `${operations} operations`);
    await on.output('true');
  });
}

/** The process is as it was, each thread that was there then too, and it has no zombies. */
async function same(before: Purity, each: Purity): Promise<void> {
  await eventually('all descriptors given back', () => {
    const after = purity().descriptors;
    return (
      Array.isArray(after) && Array.isArray(before.descriptors) && after.length <= before.descriptors.length
    );
  });
  assert.deepEqual(purity(), before);
  const now = threads();
  // Node's pool grows and a Worker's threads end with it.
  const both = Object.keys(each).filter(thread => now[thread] !== undefined);
  assert.ok(both.includes(String(process.pid)));
  for (const thread of both) assert.deepEqual(now[thread], each[thread], `thread ${thread}`);
  assert.deepEqual(zombies(), []);
}

/** child_process beside us: each gets its own exit status. */
async function commands(count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const child = spawn('/bin/sh', ['-c', `exit ${n % 200}`], { stdio: 'ignore' });
    const [code] = await within(once(child, 'exit'), 'exit of a command');
    assert.equal(code, n % 200);
  }
}
