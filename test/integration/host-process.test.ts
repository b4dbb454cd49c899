/** The process that embeds the library is the same before and after: also from a Worker, also beside child_process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { eventually, slowness, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

if (isMainThread) tests();
else await inWorker(workerData as { readonly root: string; readonly bundle: string; readonly id: string });

async function inWorker({ root, bundle, id }: { root: string; bundle: string; id: string }): Promise<void> {
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root }).create(id, config);
  const process = new Process({ args: ['/bin/true'], ...config.process });
  await container.run(process);
  const status = await process.wait();
  await container.destroy();
  parentPort?.postMessage(status);
}

interface Purity {
  readonly [fact: string]: unknown;
}

/** What of a process the library could change: cwd, umask, ids, signal dispositions, limits, namespaces, descriptors. */
function purity(): Purity {
  const status = Object.fromEntries(
    readFileSync('/proc/self/status', 'utf8')
      .split('\n')
      .map(line => line.split(':\t'))
      .filter(([name]) =>
        /^(Umask|Uid|Gid|Groups|Sig(Ign|Cgt|Blk)|Cap\w+|NoNewPrivs|Seccomp)$/.test(name ?? ''),
      ),
  );
  const links = (directory: string): { [name: string]: string } =>
    Object.fromEntries(readdirSync(directory).map(name => [name, link(`${directory}/${name}`)]));
  return {
    cwd: link('/proc/self/cwd'),
    root: link('/proc/self/root'),
    limits: readFileSync('/proc/self/limits', 'utf8'),
    oomScoreAdj: readFileSync('/proc/self/oom_score_adj', 'utf8'),
    cgroup: readFileSync('/proc/self/cgroup', 'utf8'),
    status,
    namespaces: links('/proc/self/ns'),
    descriptors: Object.values(links('/proc/self/fd')).sort(),
    listeners: process.eventNames().map(name => [String(name), process.listenerCount(name)]),
    environment: { ...process.env },
  };
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

async function mixed(on: Fixture): Promise<void> {
  const container = await on.create();
  const init = on.sh('sleep 1000', { stdout: 'pipe' });
  await container.start(init);
  await container.exec();
  const other = on.sh('exit 3', { stderr: 'pipe' });
  await container.start(other);
  assert.deepEqual(await other.wait(), { kind: 'exited', code: 3 });
  await container.pause();
  await container.resume();
  await container.stats();
  await assert.rejects(container.start(on.process({ args: ['/none'] })), { code: 'ERR_EXEC_NO_FILE' });
  const terminal = on.sh('tty', { terminal: true });
  await container.start(terminal);
  terminal.terminal?.resume();
  await terminal.wait();
  terminal.terminal?.destroy();
  await container.destroy({ force: true });
  init.stdout?.destroy();
  other.stderr?.destroy();
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
    // Each of mixed() is some ten operations, two at a time: 1,000 in all.
    const rounds = slowness === 1 ? 50 : 4;
    const commanded = commands(rounds);
    for (let round = 0; round < rounds; round++) await Promise.all([mixed(on), mixed(on)]);
    await commanded;
    await eventually('all descriptors given back', () => {
      const after = purity().descriptors;
      return (
        Array.isArray(after) && Array.isArray(before.descriptors) && after.length <= before.descriptors.length
      );
    });
    assert.deepEqual(purity(), before);
    assert.deepEqual(zombies(), []);
  });

  test('from a Worker, which then ends', { requires: ['root'], timeoutMs: 60_000 }, async t => {
    const on = await fixture(t);
    const before = purity();
    const container = await on.create();
    const { id } = container;
    await container.destroy();
    const worker = new Worker(fileURLToPath(import.meta.url), {
      workerData: { root: on.root, bundle: on.bundle, id },
    });
    const [status] = await within(once(worker, 'message'), 'the status from the Worker', 30_000);
    assert.deepEqual(status, { kind: 'exited', code: 0 });
    await worker.terminate();
    const { descriptors: _, ...rest } = purity();
    const { descriptors: __, ...expected } = before;
    assert.deepEqual(rest, expected);
    await on.output('true');
  });
}

/** child_process beside us: each gets its own exit status. */
async function commands(count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const child = spawn('/bin/sh', ['-c', `exit ${n % 200}`], { stdio: 'ignore' });
    const [code] = await within(once(child, 'exit'), 'exit of a command');
    assert.equal(code, n % 200);
  }
}
