/**
 * Containers outlive their daemon, and so does the way they end (docs/adr/0003): daemons that are killed here are this file,
 * started again. `lifetime: 'owner'`: what dies with its daemon leaves nothing.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CgroupManager } from '../../lib/cgroups/manager.ts';
import { V1Manager } from '../../lib/cgroups/v1/manager.ts';
import { V2Manager } from '../../lib/cgroups/v2/manager.ts';
import { type ContainerExit, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { exitPath } from '../../lib/state-exit.ts';
import { containerId } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';
import { onV2 } from './limits-random.ts';

interface Order {
  readonly root: string;
  readonly bundle: string;
  readonly ids: readonly string[];
  readonly script: string;
  readonly lifetime: 'container' | 'owner';
  /** create only. */
  readonly wait?: boolean;
  readonly pause?: boolean;
}

const order = process.env.MONITOR_DAEMON;
if (order !== undefined) await daemon(JSON.parse(order) as Order);
else tests();

/** Starts its containers, says so, and tells how they end until it is killed. */
async function daemon({ root, bundle, ids, script, lifetime, wait, pause }: Order): Promise<void> {
  const factory = new LinuxFactory({ root });
  const config = await loadConfig(bundle);
  process.on('SIGTERM', () => process.exit(0));
  for (const id of ids) {
    const container = await factory.create(id, config, { lifetime });
    const first = new Process({ ...config.process, args: ['/bin/sh', '-c', script] });
    await (wait === true ? container.start(first) : container.run(first));
    // Process 1 of a namespace ignores what it has no handler for.
    if (script.startsWith('trap')) await eventually('the trap', () => catchesTerm(first.pid ?? 0));
    if (pause === true) await container.pause();
    void first.wait().then(status => process.stdout.write(`${JSON.stringify(status)}\n`));
  }
  process.on('SIGUSR2', () => {
    void (async () => {
      const another = await factory.create(containerId(), config);
      const first = new Process({ ...config.process, args: ['/bin/true'] });
      await another.run(first);
      await first.wait();
      await another.destroy();
      process.stdout.write('again\n');
    })();
  });
  setInterval(() => undefined, 1000);
  process.stdout.write('ready\n');
}

function catchesTerm(pid: number): boolean {
  const [, mask = '0'] = /SigCgt:\s+(\w+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${mask}`) & (1n << 14n)) !== 0n;
}

interface Daemon {
  readonly child: ChildProcess;
  readonly monitor: number;
  line(): Promise<string>;
  kill(signal?: NodeJS.Signals): Promise<void>;
}

const words = (pid: string | number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
};
const parentOf = (pid: string): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
};
const monitorOf = (pid: number): number =>
  Number(
    readdirSync('/proc').find(
      name => /^\d+$/.test(name) && parentOf(name) === pid && words(name) === 'libcontainer-monitor\0',
    ) ?? 0,
  );

async function start(
  on: Fixture,
  more: Partial<Order> = {},
): Promise<Daemon & { readonly ids: readonly string[] }> {
  const ids = more.ids ?? [containerId()];
  const given: Order = {
    root: on.root,
    bundle: on.bundle,
    ids,
    script: "trap 'exit 7' TERM; while :; do sleep 1000 & wait; done",
    lifetime: 'container',
    ...more,
  };
  const child = spawn(process.execPath, ['--enable-source-maps', fileURLToPath(import.meta.url)], {
    env: { ...process.env, MONITOR_DAEMON: JSON.stringify(given) },
    stdio: ['ignore', 'pipe', 'inherit'],
    // A process group of its own: one test signals it.
    detached: true,
  });
  const lines: string[] = [];
  let rest = '';
  const wakers: (() => void)[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
    for (const wake of wakers.splice(0)) wake();
  });
  const line = (): Promise<string> =>
    within(
      (async () => {
        for (;;) {
          const found = lines.shift();
          if (found !== undefined) return found;
          await new Promise<void>(resolve => wakers.push(resolve));
        }
      })(),
      'a line of the daemon',
      30_000,
    );
  assert.equal(await line(), 'ready');
  const pid = child.pid ?? 0;
  const monitor = monitorOf(pid);
  assert.ok(monitor > 0, 'the daemon has a monitor');
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    // It ends by itself when nothing of it runs any more.
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await within(gone, 'the end of the daemon');
  };
  return { child, monitor, line, kill, ids };
}

const only = (ids: readonly string[]): string => ids[0] ?? '';
const monitorGone = (pid: number): Promise<boolean> =>
  eventually('the end of the monitor', () => words(pid) === '');

function assertExit(exit: ContainerExit, status: ContainerExit['status']): void {
  assert.deepEqual(exit.status, status);
  const agoMs = Date.now() - (exit.exitedAt?.getTime() ?? 0);
  assert.ok(agoMs >= -1000 && agoMs < 120_000, `it ended ${agoMs} ms ago`);
}

function tests(): void {
  test('a daemon is killed: the next one sees the container run, hears of its exit and gets its status', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const { ids, kill, monitor } = await start(on);
    await kill();
    const id = only(ids);
    await using container = await new LinuxFactory({ root: on.root }).load(id);
    assert.equal(await container.status(), 'running');
    assert.ok(Number((await container.ociState()).pid) > 0);
    assert.ok((await container.processes()).length > 0);
    const events = container.events();
    const exit = container.wait();
    await container.signal('TERM');
    assertExit(await within(exit, 'the exit'), { kind: 'exited', code: 7 });
    for await (const event of events)
      if (event.type === 'exit') {
        assert.deepEqual(event.status, { kind: 'exited', code: 7 });
        assert.equal(event.init, true);
        break;
      }
    await monitorGone(monitor);
    // And one that comes later still.
    await using later = await new LinuxFactory({ root: on.root }).load(id);
    assert.equal(await later.status(), 'stopped');
    assertExit(await later.wait(), { kind: 'exited', code: 7 });
    await later.destroy();
    assert.deepEqual(readdirSync(on.root), []);
  });

  test('a container that ends while no daemon runs: by a signal, and one that was only created', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const first = await start(on, { script: 'exec sleep 1000' });
    const second = await start(on, { wait: true, script: 'exit 3' });
    const killed = await on.factory.load(only(first.ids));
    const { pid } = await killed.ociState();
    // To all of the daemon's group at once, as a terminal or a supervisor does it.
    process.kill(-(first.child.pid ?? 0), 'SIGINT');
    process.kill(-(second.child.pid ?? 0), 'SIGKILL');
    await eventually('the end of the daemons', () => first.child.exitCode ?? first.child.signalCode !== null);
    process.kill(pid, 'SIGKILL');
    await monitorGone(first.monitor);
    assertExit(await killed.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
    await killed.destroy();

    const created = await on.factory.load(only(second.ids));
    assert.equal(await created.status(), 'created');
    await created.exec();
    assertExit(await within(created.wait(), 'the exit'), { kind: 'exited', code: 3 });
    await created.destroy();
    await monitorGone(second.monitor);
  });

  test('an OOM kill while no daemon runs is told', {
    requires: ['root', 'controller:memory'],
    timeoutMs: 90_000,
  }, async t => {
    const on = await fixture(t, {
      patch: spec => {
        const limit = 32 * 1024 * 1024;
        spec.linux.resources = { ...spec.linux.resources, memory: { limit, swap: limit } };
        return spec;
      },
    });
    const script = "trap 'exec tail /dev/zero' TERM; while :; do sleep 1000 & wait; done";
    const { ids, kill, monitor } = await start(on, { script });
    const container = await on.factory.load(only(ids));
    await kill();
    await container.signal('TERM');
    await monitorGone(monitor);
    const loaded = await on.factory.load(only(ids));
    const exit = await loaded.wait();
    assertExit(exit, { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
    assert.equal(exit.oomKilled, true);
    await loaded.destroy();
  });

  test('an OOM kill is told of when the cgroup and its count are gone, as systemd removes them', {
    requires: ['root', 'controller:memory'],
  }, async t => {
    const prototype = onV2 ? V2Manager.prototype : V1Manager.prototype;
    // As that of the systemd driver.
    const get = function (this: CgroupManager): string {
      const { memory, '': unified = '' } = this.paths;
      return memory === undefined ? join(unified, 'memory.events') : join(memory, 'memory.oom_control');
    };
    Object.defineProperty(prototype, 'oomCounter', { configurable: true, get });
    t.after(() => Reflect.deleteProperty(prototype, 'oomCounter'));
    const on = await fixture(t, {
      patch: spec => {
        spec.linux.resources.memory = { limit: 8 << 20, swap: 8 << 20 };
        return spec;
      },
    });
    const container = await on.create();
    const first = on.sh('x=a; while :; do x=$x$x; done');
    await container.run(first);
    const { cgroup_paths: paths } = await container.state();
    assert.deepEqual(await first.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
    rmdirSync(paths.memory ?? paths[''] ?? '');
    for (const one of [container, await on.factory.load(container.id)])
      assert.equal((await one.wait()).oomKilled, true);
    await container.destroy();
  });

  test('a monitor that is killed: the containers go on, their ends are heard of, the next start has another one', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const { child, ids, monitor, line, kill } = await start(on);
    const container = await on.factory.load(only(ids));
    const exit = container.wait();
    process.kill(monitor, 'SIGKILL');
    await monitorGone(monitor);
    assert.equal(await container.status(), 'running');
    await container.signal('TERM');
    const { status, exitedAt } = await within(exit, 'the exit');
    // Linux 6.15 tells whoever has a pidfd.
    if (status.kind !== 'unknown') assert.deepEqual(status, { kind: 'exited', code: 7 });
    assert.equal(exitedAt, undefined);
    assert.deepEqual(JSON.parse(await line()), status, 'the daemon is told the same');
    // Nobody wrote it down.
    assert.equal(readFileSync(exitPath(container.directory), 'utf8'), '');
    await using later = await on.factory.load(container.id);
    assert.deepEqual((await later.wait()).status, { kind: 'unknown' });
    await container.destroy();
    child.kill('SIGUSR2');
    assert.equal(await line(), 'again');
    assert.ok(monitorOf(child.pid ?? 0) > 0);
    await kill();
  });

  test('the monitor holds nothing of a container but its record, and nothing of the host', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const { ids, monitor, kill } = await start(on, { ids: [containerId(), containerId()] });
    const held = readdirSync(`/proc/${monitor}/fd`).map(fd => readlinkSync(`/proc/${monitor}/fd/${fd}`));
    const kinds = held.map(path => path.replace(/\[\d+\]|:\d+$/, '').replace(/^\/proc\/\d+/, 'proc')).sort();
    const records = ids.map(id => exitPath(`${on.root}/${id}`)).sort();
    assert.deepEqual(
      kinds.filter(path => path.endsWith('exit.json')),
      records,
    );
    assert.deepEqual(
      // pid: its own pid namespace, from the fixture's first job.
      kinds.filter(path => !path.endsWith('exit.json') && path !== 'pid:'),
      ['/dev/null', '/dev/null', '/dev/null', 'anon_inode:[pidfd]', 'anon_inode:[signalfd]', 'socket:'],
    );
    assert.equal(readlinkSync(`/proc/${monitor}/cwd`), '/');
    assert.equal(readFileSync(`/proc/${monitor}/environ`, 'utf8'), '');
    const status = readFileSync(`/proc/${monitor}/status`, 'utf8');
    const [, rssKb] = /VmRSS:\s+(\d+) kB/.exec(status) ?? [];
    assert.ok(Number(rssKb) < 1024, `${rssKb} kB`);
    for (const id of ids) {
      const container = await on.factory.load(id);
      await container.destroy({ force: true });
    }
    // It waits for its daemon, and ends with it when there is nothing to wait for.
    assert.notEqual(words(monitor), '');
    await kill('SIGTERM');
    await monitorGone(monitor);
  });

  for (const shared of [false, true])
    test(`lifetime owner${shared ? ', shared pid namespace' : ''}: with the daemon goes all of it`, {
      requires: ['root'],
      timeoutMs: 60_000,
    }, async t => {
      const on = await fixture(t, {
        patch: spec => {
          if (shared) spec.linux.namespaces = spec.linux.namespaces?.filter(({ type }) => type !== 'pid');
          return spec;
        },
      });
      for (const more of [{}, { pause: true }, { wait: true }]) {
        const script = 'sleep 1000 & (sleep 1000 & exec sleep 1000) & sleep 1000; sleep 1';
        const { ids, kill, monitor } = await start(on, { lifetime: 'owner', script, ...more });
        const container = await on.factory.load(only(ids));
        const { cgroup_paths: paths } = await container.state();
        const pids = await container.processes();
        assert.ok(pids.length > 0);
        await kill();
        await monitorGone(monitor);
        assert.deepEqual(readdirSync(on.root), [], JSON.stringify(more));
        for (const path of Object.values(paths)) assert.equal(existsSync(path), false, path);
        for (const pid of pids) assert.ok(!words(pid).includes('sleep'), `process ${pid}`);
      }
    });

  test('lifetime owner: one that was destroyed is forgotten, and its ID may be another container', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const id = containerId();
    const { kill, monitor } = await start(on, { ids: [id], lifetime: 'owner' });
    const theirs = await on.factory.load(id);
    await theirs.destroy({ force: true });
    const ours = await on.factory.create(id, on.config);
    await ours.run(on.process({ args: ['/bin/sleep', '1000'] }));
    await kill();
    await monitorGone(monitor);
    assert.equal(await ours.status(), 'running');
    await ours.destroy({ force: true });
  });

  test('lifetime owner when the monitor was killed first: reconcile() removes it', {
    requires: ['root'],
    timeoutMs: 60_000,
  }, async t => {
    const on = await fixture(t);
    const { ids, kill, monitor } = await start(on, { lifetime: 'owner' });
    process.kill(monitor, 'SIGKILL');
    await monitorGone(monitor);
    assert.deepEqual(await on.factory.reconcile(), [], 'its owner lives');
    await kill();
    assert.deepEqual(await on.factory.reconcile(), ids);
    assert.deepEqual(readdirSync(on.root), []);
  });

  test('without a monitor: a child of this process, whose exit nobody records', {
    requires: ['root'],
  }, async t => {
    const on = await fixture(t);
    const factory = new LinuxFactory({ root: on.root, monitor: false });
    const container = await factory.create(containerId(), on.config);
    const program = on.sh('exit 7');
    await container.start(program);
    assert.equal(parentOf(String(program.pid)), process.pid);
    await container.exec();
    assert.deepEqual(await program.wait(), { kind: 'exited', code: 7 });
    assert.deepEqual((await container.wait()).status, { kind: 'exited', code: 7 });
    assert.equal(existsSync(exitPath(container.directory)), false);
    await using loaded = await factory.load(container.id);
    assert.deepEqual(await loaded.wait(), {
      status: { kind: 'unknown' },
      oomKilled: false,
      exitedAt: undefined,
    });
    await container.destroy();
    await assert.rejects(factory.create(containerId(), on.config, { lifetime: 'owner' }), {
      code: 'ERR_ARGUMENT',
    });
    const config = {
      ...on.config,
      hooks: { ...on.config.hooks, poststop: [{ path: '/bin/true', args: [], env: [] }] },
    };
    await assert.rejects(on.factory.create(containerId(), config, { lifetime: 'owner' }), {
      code: 'ERR_UNSUPPORTED',
    });
  });

  test('wait() before a start, aborted, and more descriptors than one packet takes', {
    requires: ['root'],
  }, async t => {
    const on = await fixture(t);
    const container = await on.create();
    await assert.rejects(container.wait(), { code: 'ERR_CONTAINER_NOT_EXIST' });
    const preservedFds = Array.from({ length: 300 }, () => 0);
    const program = on.sh('ls /proc/self/fd | wc -l; sleep 1000', { preservedFds, stdout: 'pipe' });
    await container.run(program);
    const [chunk] = await within(once(program.stdout ?? process.stdin, 'data'), 'the count');
    // 0 to 2, the preserved ones, and the directory that ls reads.
    assert.ok(Number(String(chunk)) >= 303, String(chunk));
    const stop = new AbortController();
    const waiting = container.wait({ signal: stop.signal });
    stop.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
    await container.destroy({ force: true });
    program.stdout?.destroy();
  });
}
