/** A warm pool: the command comes last, all else is as in any container; and what is refused. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Process } from '../../lib/index.ts';
import { eventually, text, within } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const any = { requires: ['rootless'], timeoutMs: 60_000 } as const;

test(
  'a container of a pool runs the command that it is told, with its own environment and streams',
  any,
  async t => {
    const { factory, config, root } = await fixture(t, { process: { env: ['PATH=/bin', 'A=config'] } });
    const pool = factory.pool(config, { size: 2 });
    t.after(() => pool.close());
    await within(pool.full(), 'the pool');
    assert.equal(pool.ready, 2);
    const first = await pool.take();
    const process = await first.run({
      args: ['sh', '-c', 'cat; echo "$A $B $$ $HOME"; exit 3'],
      env: ['PATH=/bin', 'B=b'],
    });
    process.stdin?.end('in ');
    assert.ok(process.stdout !== undefined);
    assert.equal(await text(process.stdout), 'in  b 1 /root\n');
    assert.deepEqual(await process.wait(), { kind: 'exited', code: 3 });
    await first[Symbol.asyncDispose]();

    const second = await pool.take();
    await assert.rejects(second.run({ args: ['no-such-program'] }), { code: 'ERR_EXEC_NOT_FOUND' });
    await second[Symbol.asyncDispose]();

    // More takers than containers: each gets one.
    const taken = await within(Promise.all([pool.take(), pool.take(), pool.take(), pool.take()]), 'four');
    const status = await Promise.all(
      taken.map(async (one, index) => {
        const running = await one.run({ args: ['sh', '-c', `[ $A = config ] && exit ${index}`] });
        return running.wait();
      }),
    );
    assert.deepEqual(
      status,
      [0, 1, 2, 3].map(code => ({ kind: 'exited', code })),
    );
    await Promise.all(taken.map(one => one[Symbol.asyncDispose]()));
    await pool.close();
    await assert.rejects(pool.take(), { code: 'ERR_POOL_CLOSED' });
    assert.deepEqual(readdirSync(root), []);
  },
);

test(
  'a container that was killed while it waited is not given out; a configuration that cannot start says so',
  any,
  async t => {
    const { factory, config } = await fixture(t);
    const pool = factory.pool(config, { size: 1 });
    t.after(() => pool.close());
    await within(pool.full(), 'the pool');
    const [waiting] = await factory.list();
    assert.ok(waiting !== undefined);
    const killed = await factory.load(waiting.id);
    await killed.signal('KILL');
    await eventually('its end', () => pool.ready === 0);
    const taken = await within(pool.take(), 'another one');
    assert.notEqual(taken.container.id, waiting.id);
    assert.deepEqual(await (await taken.run({ args: ['true'] })).wait(), { kind: 'exited', code: 0 });
    await taken[Symbol.asyncDispose]();
    await pool.close();
    const broken = factory.pool({ ...config, rootfs: '/no/such/directory' }, { size: 1 });
    await assert.rejects(within(broken.take(), 'the error'));
    await broken.close();
    assert.throws(() => factory.pool(config, { size: 0 }), { code: 'ERR_ARGUMENT' });
  },
);

test('a program that waits for nothing else sees the end of close()', {
  requires: ['root', 'lane:host'],
}, async t => {
  const { bundle, root } = await fixture(t);
  const program = `
    const { LinuxFactory, loadConfig } = require(${JSON.stringify(join(projectRoot, 'dist/index.cjs'))});
    (async () => {
      const pool = new LinuxFactory({ root: ${JSON.stringify(root)} }).pool(await loadConfig(${JSON.stringify(bundle)}), { size: 2 });
      await pool.full();
      await pool.close();
      console.log('closed');
    })();`;
  assert.equal(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }), 'closed\n');
});

test('program none: process 1 without a program holds no descriptor, and reaps', any, async t => {
  const { create, config, sh } = await fixture(t);
  const container = await create();
  const idle = new Process({ ...config.process, args: [], program: 'none' });
  await within(container.run(idle), 'the start');
  assert.equal(await container.status(), 'running');
  if (process.geteuid?.() === 0) assert.deepEqual(readdirSync(`/proc/${idle.pid}/fd`), ['0', '1', '2']);
  const child = sh('(sleep 0.05 &) ; echo $PPID', { stdout: 'pipe' });
  await container.run(child);
  assert.ok(child.stdout !== undefined);
  assert.equal(await text(child.stdout), '0\n');
  await eventually('one process', async () => (await container.processes()).length <= 1);
  const stat = readFileSync(`/proc/${idle.pid}/stat`, 'utf8');
  assert.match(stat, /\) S /);
  await container.destroy({ force: true });
  const late = { ...config.process, args: [], program: 'late' } as const;
  const another = await create();
  await assert.rejects(another.start(new Process(late)), { code: 'ERR_ARGUMENT' });
  await assert.rejects(another.prepare(sh('true')), { code: 'ERR_ARGUMENT' });
  await using prepared = await another.prepare(new Process(late));
  await assert.rejects(prepared.release(), { code: 'ERR_ARGUMENT' });
  await assert.rejects(prepared.release({ args: ['x'.repeat(300_000)] }), { code: 'ERR_ARGUMENT' });
  await prepared.cancel();
  await another.destroy({ force: true });
  assert.throws(() => new Process({ args: ['x'], program: 'none' }), { code: 'ERR_ARGUMENT' });
});
