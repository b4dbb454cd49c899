/**
 * A fault at every step of the plan, and the death of the parent there and at any other time, leaves nothing that
 * destroy cannot remove. The harness looks for processes, cgroups, mounts, descriptors and directories afterwards.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LinuxFactory, loadConfig, Process, type StartPlan } from '../../lib/index.ts';
import { eventually, slowness, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

interface ChildOrder {
  readonly root: string;
  readonly bundle: string;
  readonly ids: string;
  /** 'start': one container with the fault of the environment; 'work': all operations, until killed. */
  readonly work: 'start' | 'work';
}

const order = process.env.FAULT_CHILD;
if (order !== undefined) await child(JSON.parse(order) as ChildOrder);
else tests();

/** This file again, as the process that is killed. */
async function child({ root, bundle, ids, work }: ChildOrder): Promise<void> {
  const factory = new LinuxFactory({ root });
  const config = await loadConfig(bundle);
  const options = { args: ['/bin/true'], ...config.process };
  if (work === 'start') {
    const container = await factory.create(ids, config);
    await container.start(new Process(options));
    await container.exec();
    return;
  }
  for (let count = 0; ; count++) {
    const container = await factory.create(`${ids}-${count}`, config);
    const init = new Process({ ...options, args: ['/bin/sleep', '1000'] });
    await container.start(init);
    await container.exec();
    const other = new Process(options);
    await container.start(other);
    await other.wait();
    await container.pause();
    await container.resume();
    await container.set(config.resources);
    await container.destroy({ force: true });
    process.stdout.write('round\n');
  }
}

function startChild(order: ChildOrder, fault?: string): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      FAULT_CHILD: JSON.stringify(order),
      ...(fault === undefined ? {} : { LIBCONTAINER_FAIL_AT: fault }),
    },
  });
}

/** Each kind of step at its first and its last place. */
function faultPoints(plan: StartPlan): string[] {
  const last = new Map<string, number>();
  for (const { kind } of plan.steps) last.set(kind, (last.get(kind) ?? -1) + 1);
  return [...last].flatMap(([kind, n]) => (n === 0 ? [kind] : [kind, `${kind}:${n}`]));
}

async function createPlan(on: Fixture): Promise<StartPlan> {
  const container = await on.create();
  const plan = await container.plan(on.process(), { wait: true });
  await container.destroy();
  return plan;
}

/** What a crash has left is found and removed by another process. */
async function removeAll(root: string): Promise<void> {
  const factory = new LinuxFactory({ root });
  for (const { id } of await factory.list()) await factory.destroy(id, { force: true });
  assert.deepEqual(readdirSync(root), []);
}

/** On a slow machine a part must do; on this one all. */
const sample = <T>(all: readonly T[]): readonly T[] =>
  slowness === 1 ? all : all.filter((_, index) => index % Math.ceil(slowness) === 0);

function tests(): void {
  test('an error at each step of the plan is told with the step, and everything is taken back', {
    requires: ['root', 'init-faults'],
    timeoutMs: 120_000,
  }, async t => {
    const on = await fixture(t);
    const plan = await createPlan(on);
    t.after(() => {
      delete process.env.LIBCONTAINER_FAIL_AT;
    });
    for (const point of sample(faultPoints(plan))) {
      const [kind = '', occurrence = '0'] = point.split(':');
      const index = plan.steps.map((step, at) => ({ step, at })).filter(({ step }) => step.kind === kind)[
        Number(occurrence)
      ]?.at;
      for (const mode of ['error', 'exit'] as const) {
        process.env.LIBCONTAINER_FAIL_AT = `${point}@${mode}`;
        const container = await on.create();
        const run = async (): Promise<void> => {
          await container.start(on.process());
          await container.exec();
        };
        await assert.rejects(
          within(run(), `failure at ${point}`),
          (error: Error & { code?: string; step?: string; index?: number; errno?: number }) => {
            const text = `${point}@${mode}: ${error.message}`;
            if (mode === 'error') {
              assert.equal(error.step, kind, text);
              assert.equal(error.index, index, text);
              assert.equal(error.errno, -5, text);
            } else assert.match(error.code ?? '', /^ERR_(INIT_DIED|CONTAINER_STOPPED)$/, text);
            return true;
          },
        );
        // After the start has succeeded the container is there, stopped, and can be looked at.
        if (existsSync(container.directory)) {
          await eventually('stopped', async () => (await container.status()) === 'stopped');
          assert.match(kind, /^(waitStart|hooks|exec)$/);
        }
        delete process.env.LIBCONTAINER_FAIL_AT;
        await container.destroy();
        assert.deepEqual(readdirSync(on.root), [], point);
      }
    }
  });

  test('SIGKILL of the parent at each step: destroy with force finds everything', {
    requires: ['root', 'init-faults'],
    timeoutMs: 300_000,
  }, async t => {
    const on = await fixture(t);
    const points = sample(faultPoints(await createPlan(on)));
    let count = 0;
    for (const point of points) {
      count += 1;
      const killed = startChild(
        { root: on.root, bundle: on.bundle, ids: `killed-${process.pid}-${count}`, work: 'start' },
        `${point}@killParent`,
      );
      const [, signal] = await within(once(killed, 'exit'), `death of the parent at ${point}`, 30_000);
      assert.equal(signal, 'SIGKILL', point);
      await removeAll(on.root);
    }
  });

  test('SIGKILL of the parent at random times among all operations', {
    requires: ['root'],
    timeoutMs: 300_000,
  }, async t => {
    const on = await fixture(t);
    const rounds = slowness === 1 ? 15 : 5;
    for (let round = 0; round < rounds; round++) {
      const killed = startChild({
        root: on.root,
        bundle: on.bundle,
        ids: `random-${process.pid}-${round}`,
        work: 'work',
      });
      const before = unrecordedInits();
      const { stdout } = killed;
      assert.ok(stdout);
      await within(once(stdout, 'data'), 'a first round', 30_000);
      // Deterministic in each run, spread over a round of some 60 ms.
      const afterMs = (round * 37) % 61;
      await new Promise(resolve => setTimeout(resolve, afterMs * slowness));
      killed.kill('SIGKILL');
      await once(killed, 'exit');
      // init of a start that was not recorded ends by itself: its pipe is closed.
      await eventually('the end of unrecorded inits', () =>
        unrecordedInits().every(pid => before.includes(pid)),
      );
      await removeAll(on.root);
    }
  });
}

/** Our init executables that are still before execve. */
function unrecordedInits(): string[] {
  const found: string[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(status.slice(status.lastIndexOf(')') + 4).split(' ')[0]);
      // Created containers wait for their start: these are recorded.
      if (/\(memfd:libcontai|\(init\)/.test(status) && parent === 1 && !/ S /.test(status)) found.push(name);
    } catch {
      // Gone meanwhile.
    }
  }
  return found;
}
