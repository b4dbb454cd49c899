/** Several processes work on one ID: one wins, the others are told why not, and nothing is left. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LibcontainerError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { slowness, text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

interface Order {
  readonly root: string;
  readonly bundle: string;
  readonly id: string;
  readonly rounds: number;
}

const order = process.env.RACE_CHILD;
if (order !== undefined) await child(JSON.parse(order) as Order);
else tests();

/** Tries to have the ID again and again; prints how often it was its own and what it was told otherwise. */
async function child({ root, bundle, id, rounds }: Order): Promise<void> {
  const factory = new LinuxFactory({ root });
  const config = await loadConfig(bundle);
  const seen: { [outcome: string]: number } = {};
  const count = (outcome: string): void => {
    seen[outcome] = (seen[outcome] ?? 0) + 1;
  };
  for (let round = 0; round < rounds; round++) {
    try {
      const container = await factory.create(id, config);
      try {
        const run = new Process({ args: ['/bin/true'], ...config.process });
        await container.run(run);
        const status = await run.wait();
        count(status.kind === 'exited' && status.code === 0 ? 'won' : JSON.stringify(status));
      } finally {
        await container.destroy();
      }
    } catch (error) {
      count(error instanceof LibcontainerError ? error.code : String(error));
    }
    try {
      // A stranger who lists and removes what has stopped, as an engine's garbage collection does.
      const other = await factory.load(id);
      await other.destroy();
      count('removed');
    } catch (error) {
      count(error instanceof LibcontainerError ? `other ${error.code}` : String(error));
    }
  }
  process.stdout.write(JSON.stringify(seen));
}

function tests(): void {
  test('four processes create, run and destroy the same ID', {
    requires: ['root'],
    timeoutMs: 120_000,
  }, async t => {
    const on = await fixture(t);
    const rounds = Math.max(3, Math.ceil(25 / slowness));
    const orderOf: Order = { root: on.root, bundle: on.bundle, id: `race-${process.pid}`, rounds };
    const outcomes = await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const racer = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
          stdio: ['ignore', 'pipe', 'inherit'],
          env: { ...process.env, RACE_CHILD: JSON.stringify(orderOf) },
        });
        const ended = once(racer, 'exit');
        const seen: { [outcome: string]: number } = JSON.parse(
          await text(racer.stdout ?? assert.fail(), 100_000),
        );
        assert.deepEqual(await within(ended, 'exit'), [0, null]);
        return seen;
      }),
    );
    const sum = (name: string): number => outcomes.reduce((all, seen) => all + (seen[name] ?? 0), 0);
    assert.ok(sum('won') > 0, JSON.stringify(outcomes));
    const legal =
      /^(won|removed|(other )?ERR_CONTAINER_(EXISTS|NOT_EXIST|RUNNING|BUSY|NOT_RUNNING)|ERR_CGROUP_NOT_EMPTY)$/;
    for (const seen of outcomes)
      for (const name of Object.keys(seen)) assert.match(name, legal, JSON.stringify(outcomes));
    assert.deepEqual(readdirSync(on.root), []);
  });
}
