/** Memory that does not go into the image: a page server, and pages that come when they are asked for. criu(8). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { counter, counting, requires } from './criu-fixture.ts';

const timeoutMs = 60_000;

/** One of CRIU's servers, which says with one byte that it is ready. It ends with its first client. */
async function server(t: TestContext, ...words: string[]): Promise<{ ended(): Promise<unknown> }> {
  const child = spawn('criu', [...words, '--status-fd', '3', '-v2'], {
    stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
  });
  t.after(() => {
    child.kill('SIGKILL');
  });
  const exit = once(child, 'exit');
  const status = child.stdio[3] as Readable;
  await within(once(status, 'data'), `criu ${words[0]}`);
  status.destroy();
  return { ended: () => within(exit, `the end of criu ${words[0]}`) };
}

test('a page server gets the memory, pre-dumps and the checkpoint alike', {
  requires,
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const port = 7901;
  const pageServer = { address: '127.0.0.1', port };
  const [first, second] = [makeDirectory(t), makeDirectory(t)];
  const serve = (...words: string[]) =>
    server(t, 'page-server', '--address', pageServer.address, '--port', String(port), ...words);
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  const parentPath = `../${basename(first)}`;
  let serving = await serve('--images-dir', first);
  await container.checkpoint({ imagePath: first, preDump: true, pageServer });
  await serving.ended();
  await on.further();
  serving = await serve('--images-dir', second, '--prev-images-dir', parentPath);
  await container.checkpoint({ imagePath: second, parentPath, pageServer });
  await serving.ended();
  await container.destroy();
  // The server has written them, since both were given the same directory.
  assert.ok(readdirSync(second).some(name => /^pages-\d+\.img$/.test(name)));
  const restored = await on.factory.restore(container.id, on.config, on.sh(counting), { imagePath: second });
  await on.further();
  await restored.destroy({ force: true });
});

test('lazy pages: the memory follows the restored container from the one that was checkpointed', {
  requires: [...requires, 'criu-lazy'],
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const port = 7902;
  const imagePath = makeDirectory(t);
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  const ready = join(imagePath, 'ready');
  // It lasts until the last page has gone.
  const dumped = container.checkpoint({
    imagePath,
    lazyPages: true,
    statusFd: openSync(ready, 'w'),
    pageServer: { address: '127.0.0.1', port },
  });
  await Promise.race([dumped, eventually('the readiness of CRIU', () => statSync(ready).size > 0)]);
  const daemon = await server(
    t,
    ...['lazy-pages', '--images-dir', imagePath, '--work-dir', imagePath],
    ...['--page-server', '--address', '127.0.0.1', '--port', String(port)],
  );
  const restored = await on.factory.restore(`${container.id}-lazy`, on.config, on.sh(counting), {
    imagePath,
    lazyPages: true,
  });
  await on.further();
  await Promise.all([within(dumped, 'the end of the checkpoint'), daemon.ended()]);
  assert.equal(await container.status(), 'stopped');
  await restored.destroy({ force: true });
  await container.destroy();
});
