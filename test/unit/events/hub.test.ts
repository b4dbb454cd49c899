/** The hub over plain files that stand for a v2 cgroup, with a binding whose watches the test fires by hand. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CgroupManager } from '../../../lib/cgroups/manager.ts';
import type { ContainerEvent, PressureTrigger } from '../../../lib/events/event.ts';
import { EventHub, type Subscriber } from '../../../lib/events/hub.ts';
import type { Binding } from '../../../lib/native/binding.ts';
import { type TestContext, test } from '../../harness/test.ts';

const EPOLLPRI = 2;

function setUp(t: TestContext, layout: 'v1' | 'v2' = 'v2') {
  const directory = mkdtempSync(join(tmpdir(), 'libcontainer-hub-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const write = (file: string, text: string) => writeFileSync(join(directory, file), text);
  write('memory.events', 'low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n');
  write('pids.events', 'max 3\n');
  write('cgroup.events', 'populated 1\nfrozen 0\n');
  const watches = new Map<number, (events: number) => void>();
  const open = new Set<number>();
  const binding: Partial<Binding> = {
    open: (path, flags) => {
      const fd = openSync(path, flags & 3);
      open.add(fd);
      return fd;
    },
    close: fd => {
      assert.ok(open.delete(fd), 'closed twice');
      closeSync(fd);
    },
    watch: (fd, _, onReady) => {
      watches.set(fd, onReady);
      return { close: () => watches.delete(fd), ref: () => undefined, unref: () => undefined };
    },
  };
  const manager: Partial<CgroupManager> = { layout, paths: { '': directory }, pids: async () => [1] };
  const hub = new EventHub(binding as Binding, manager as CgroupManager);
  const fire = () => {
    for (const onReady of [...watches.values()]) onReady(EPOLLPRI);
  };
  return { hub, write, fire, open, watches };
}

class Recorder implements Subscriber {
  readonly pressure: readonly PressureTrigger[];
  readonly level = undefined;
  readonly seen: ContainerEvent[] = [];
  ended = false;
  failure: unknown;
  constructor(pressure: readonly PressureTrigger[] = []) {
    this.pressure = pressure;
  }
  receive(event: ContainerEvent): void {
    this.seen.push(event);
  }
  end(): void {
    this.ended = true;
  }
  fail(error: unknown): void {
    this.failure = error;
  }
  types(): string[] {
    return this.seen.map(e => (e.type === 'memory' ? `memory ${e.event} ${e.count}/${e.total}` : e.type));
  }
}

const exit = {
  type: 'exit',
  init: true,
  pid: 7,
  status: { kind: 'exited', code: 0 },
  oomKilled: false,
} as const;

test('counters become events by what they have risen', t => {
  const { hub, write, fire } = setUp(t);
  const recorder = new Recorder();
  hub.add(recorder);
  hub.arm('present');
  assert.deepEqual(recorder.types(), [], 'what was counted before is no news');
  write('memory.events', 'low 0\nhigh 5\nmax 0\noom 1\noom_kill 2\noom_group_kill 0\n');
  write('pids.events', 'max 4\n');
  write('cgroup.events', 'populated 1\nfrozen 1\n');
  fire();
  fire();
  assert.deepEqual(recorder.types(), [
    'memory high 5/5',
    'memory oom 1/1',
    'memory oom_kill 2/2',
    'oom',
    'pidsMax',
    'frozen',
  ]);
  write('cgroup.events', 'populated 1\nfrozen 0\n');
  fire();
  assert.equal(recorder.types().at(-1), 'thawed');
});

test('armed at the start of the container, what is already counted is news', t => {
  const { hub } = setUp(t);
  const recorder = new Recorder();
  hub.add(recorder);
  hub.arm('zero');
  assert.deepEqual(recorder.seen, [{ type: 'pidsMax', count: 3n, total: 3n }]);
});

test('empty comes after exit, whichever is known first, and ends everything', t => {
  const { hub, write, fire, open, watches } = setUp(t);
  const recorder = new Recorder();
  hub.add(recorder);
  hub.arm('present');
  write('cgroup.events', 'populated 0\nfrozen 0\n');
  fire();
  assert.deepEqual(recorder.types(), []);
  write('memory.events', 'oom_kill 1\n');
  hub.stopped(); // reads what no watch has told yet
  hub.exit(exit);
  assert.deepEqual(recorder.types(), ['memory oom_kill 1/1', 'oom', 'exit', 'empty']);
  assert.ok(recorder.ended);
  assert.equal(open.size, 0);
  assert.equal(watches.size, 0);
});

test('the cgroup stays watched as long as one is left', t => {
  const { hub, open } = setUp(t);
  const [one, two] = [new Recorder(), new Recorder()];
  hub.add(one);
  hub.add(two);
  hub.arm('present');
  assert.equal(open.size, 3);
  hub.remove(one);
  assert.equal(open.size, 3);
  hub.remove(two);
  assert.equal(open.size, 0);
  hub.add(one);
  hub.arm('present');
  hub.close(false);
  assert.ok(one.ended);
  assert.equal(open.size, 0);
});

test('a subscriber that leaves while it is told does not disturb the others', t => {
  const { hub, write, fire, open } = setUp(t);
  const other = new Recorder();
  const leaver = new Recorder();
  leaver.receive = () => hub.remove(leaver);
  hub.add(leaver);
  hub.add(other);
  hub.arm('zero');
  write('pids.events', 'max 9\n');
  fire();
  assert.deepEqual(other.types(), ['pidsMax', 'pidsMax']);
  hub.remove(other);
  assert.equal(open.size, 0);
});

test('pressure: the missing file fails its own subscriber only, the other layout is refused at once', t => {
  const trigger = { resource: 'memory', kind: 'some', stallUs: 1, windowUs: 2 } as const;
  const { hub, open } = setUp(t);
  const [plain, pressed] = [new Recorder(), new Recorder([trigger])];
  hub.add(plain);
  hub.add(pressed);
  hub.arm('present');
  assert.match(String(pressed.failure), /memory pressure/);
  assert.equal(plain.failure, undefined);
  assert.equal(open.size, 3);
  hub.remove(plain);
  assert.throws(() => setUp(t, 'v1').hub.add(new Recorder([trigger])), { code: 'ERR_UNSUPPORTED' });
});
