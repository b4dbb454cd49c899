/** The two stages of an exec (docs/adr/0008): frozen, killed, refused or without room at the wrong moment. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Container, InitError } from '../../lib/index.ts';
import { eventually, slowness, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

const variable = 'LIBCONTAINER_FAIL_AT';

/** Children of this process that have ended and were not reaped, or live although they should not. */
function children(): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(parent) === process.pid) found.push(`${pid} ${state}`);
    } catch {
      // Gone meanwhile.
    }
  }
  return found;
}

async function running(on: Fixture): Promise<{ container: Container; alone: () => Promise<void> }> {
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const [only, ...more] = children();
  assert.ok(only !== undefined && more.length === 0);
  const members = await container.processes();
  const alone = async (): Promise<void> => {
    await eventually('nobody but the container', () => children().length === 1);
    assert.deepEqual(await container.processes(), members);
  };
  return { container, alone };
}

/** A frozen cgroup below the container's: the container is not paused. */
async function frozenBelow(container: Container): Promise<{ thaw: () => void; remove: () => void }> {
  const { cgroup_paths: paths } = await container.state();
  // Controllers that are mounted together (cpu,cpuacct) share a directory.
  const made = [...new Set(Object.values(paths))].map(path => join(path, 'cold'));
  for (const path of made) {
    mkdirSync(path);
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (existsSync(join(path, file)) && paths[''] === undefined)
        writeFileSync(join(path, file), readFileSync(join(path, '..', file)));
  }
  const order = (v1: string, v2: string): void => {
    for (const path of made)
      for (const [file, value] of [
        ['freezer.state', v1],
        ['cgroup.freeze', v2],
      ] as const)
        if (existsSync(join(path, file))) writeFileSync(join(path, file), value);
  };
  order('FROZEN', '1');
  return {
    thaw: () => order('THAWED', '0'),
    remove: () => {
      for (const path of made) rmdirSync(path);
    },
  };
}

test('a cgroup that is frozen in the moment of the clone holds up nobody else', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const { container, alone } = await running(on);
  const cold = await frozenBelow(container);
  const stuck = on.sh('exit 3', { subCgroups: { '': 'cold' } });
  let started = false;
  const start = container.start(stuck).then(() => {
    started = true;
  });
  for (let round = 0; round < 3; round++) {
    const free = on.sh('exit 4');
    await within(container.start(free), 'a start beside the frozen one');
    assert.deepEqual(await within(free.wait(), 'its exit'), { kind: 'exited', code: 4 });
  }
  const other = await on.create();
  await within(other.run(on.process()), 'another container');
  await other.destroy({ force: true });
  assert.equal(started, false);
  cold.thaw();
  await within(start, 'the start that was frozen');
  assert.deepEqual(await within(stuck.wait(), 'exit'), { kind: 'exited', code: 3 });
  await alone();
  cold.remove();
  await container.destroy({ force: true });
});

test('a start in a frozen cgroup can be aborted', { requires: ['root', 'cgroup-v2'] }, async t => {
  const on = await fixture(t);
  const { container, alone } = await running(on);
  const cold = await frozenBelow(container);
  const abort = new AbortController();
  const start = container.start(on.sh('exit 3', { subCgroups: { '': 'cold' } }), { signal: abort.signal });
  const free = on.process();
  await within(container.start(free), 'a start beside the frozen one');
  await free.wait();
  abort.abort(new Error('enough'));
  await within(assert.rejects(start, { message: 'enough' }), 'the end of the start');
  await alone();
  cold.thaw();
  cold.remove();
  await container.destroy({ force: true });
});

test('a first stage that ends before it has told of the second: nothing is left', {
  requires: ['root', 'init-faults'],
}, async t => {
  const on = await fixture(t);
  const { container, alone } = await running(on);
  t.after(() => {
    delete process.env[variable];
  });
  for (const mode of ['exit', 'error']) {
    process.env[variable] = `born@${mode}`;
    const start = container.start(on.sh('sleep 1000'));
    await within(assert.rejects(start, { code: 'ERR_INIT_DIED' }), `born@${mode}`);
    await alone();
  }
  process.env[variable] = 'born@stop';
  const abort = new AbortController();
  const start = container.start(on.sh('sleep 1000'), { signal: abort.signal });
  // Both stages: the second one waits to be known.
  await eventually('the second stage', () => children().length === 3);
  delete process.env[variable];
  abort.abort(new Error('enough'));
  await within(assert.rejects(start, { message: 'enough' }), 'the end of the start');
  await alone();
  await container.destroy({ force: true });
});

test('SIGKILL at any moment of an exec: nothing is left, the container goes on', {
  requires: ['root'],
  timeoutMs: 120_000,
}, async t => {
  const on = await fixture(t);
  const { container, alone } = await running(on);
  let killed = 0;
  const rounds = slowness === 1 ? 60 : 10;
  for (let round = 0; round < rounds; round++) {
    const abort = new AbortController();
    const start = container.start(on.sh('sleep 1000'), { signal: abort.signal });
    const failed = start.then(
      () => false,
      () => true,
    );
    // Spread over the time that a start takes.
    const end = performance.now() + ((round * 7) % 30) * 0.1 * slowness;
    while (performance.now() < end) await new Promise(resolve => setImmediate(resolve));
    abort.abort(new Error('enough'));
    if (await within(failed, 'the end of the start')) killed++;
    else for (const pid of (await container.processes()).slice(1)) process.kill(pid, 'SIGKILL');
    await alone();
  }
  assert.ok(killed > 0, 'no start was killed');
  await container.destroy({ force: true });
});

test('a container without room for a process more says so', {
  requires: ['root', 'controller:pids'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 2 } };
      return spec;
    },
  });
  const container = await on.create();
  await container.run(on.process({ args: ['/bin/sleep', '1000'] }));
  await assert.rejects(container.start(on.process()), error => {
    assert.ok(error instanceof InitError);
    assert.deepEqual([error.step, error.errno], ['forkInto', -11]);
    return true;
  });
  await eventually('nobody but the container', () => children().length === 1);
  await container.set({ ...container.config.resources, pids: { limit: 3 } });
  const process_ = on.sh('exit 5');
  await container.start(process_);
  assert.deepEqual(await process_.wait(), { kind: 'exited', code: 5 });
  await container.destroy({ force: true });
});
