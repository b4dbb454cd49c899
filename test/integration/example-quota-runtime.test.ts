/** examples/quota-runtime.ts: a runtime of one's own over the factory. */
import assert from 'node:assert/strict';
import { QuotaFactory } from '../../examples/quota-runtime.ts';
import { loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import './warm.ts';

test('a tenant gets its share and no more, and gives it back', {
  requires: ['root', 'controller:memory', 'controller:pids', 'lane:host'],
}, async t => {
  const config = await loadConfig(makeBundle(t));
  const quotas = new Map([['a', { memoryBytes: 64 << 20, pids: 20 }]]);
  const factory = new QuotaFactory(quotas, { root: makeStateRoot(t) });
  const share = { memoryBytes: 48 << 20, pids: 10 };
  const id = containerId('quota');
  const container = await factory.createFor('a', id, config, share);
  t.after(() => factory.destroy(id, { force: true }));
  const process = new Process({ ...config.process, args: ['/bin/echo', 'hello'], stdout: 'pipe' });
  await within(container.run(process), 'the start');
  assert.ok(process.stdout !== undefined);
  assert.equal(await text(process.stdout), 'hello\n');
  assert.equal(container.config.resources.memory?.limit, share.memoryBytes);
  assert.deepEqual(await factory.tenants('a'), [id]);
  await assert.rejects(factory.createFor('a', containerId('quota'), config, share), /not so much left/);
  await assert.rejects(factory.createFor('b', containerId('quota'), config, share), /no quota/);
  await process.wait();
  await container.destroy();
  assert.deepEqual(factory.used('a'), { memoryBytes: 0, pids: 0 });
});
