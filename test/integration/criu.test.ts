/** Checkpoint and restore through CRIU: what a container has is there again afterwards. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig, Process } from '../../lib/index.ts';
import { makeBundle, makeDirectory } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { counter, counting, requires } from './criu-fixture.ts';
import { fixture } from './fixture.ts';

const timeoutMs = 60_000;

test('leave-running, and a chain of pre-dumps with the checkpoint at its end', {
  requires,
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const images = makeDirectory(t);
  const image = (name: string): string => {
    mkdirSync(join(images, name));
    return join(images, name);
  };
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  await container.checkpoint({ imagePath: image('live'), leaveRunning: true });
  assert.equal(await container.status(), 'running');
  await on.further();
  await container.checkpoint({ imagePath: image('1'), preDump: true });
  assert.equal(await container.status(), 'running');
  await on.further();
  await container.checkpoint({ imagePath: image('2'), preDump: true, parentPath: '../1' });
  await on.further();
  const { statistics } = await container.checkpoint({ imagePath: image('3'), parentPath: '../2' });
  assert.ok((statistics?.pagesSkippedParent ?? 0) > 0, JSON.stringify(statistics));
  await container.destroy();
  const restored = await on.factory.restore(container.id, on.config, on.sh(counting), {
    imagePath: join(images, '3'),
  });
  await on.further();
  await restored.destroy({ force: true });
});

test('pipes as stdio are those of who restores, open files are where they were', {
  requires,
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const imagePath = makeDirectory(t);
  const container = await on.create();
  const program =
    'exec 5>>/data/open; echo begin >&5; while read line; do echo "got $line"; echo $line >&5; done';
  const process = on.sh(program, { stdin: 'pipe', stdout: 'pipe' });
  await container.run(process);
  process.stdin?.write('one\n');
  let output = '';
  process.stdout?.on('data', chunk => {
    output += String(chunk);
  });
  await eventually('the first answer', () => output === 'got one\n');
  await container.checkpoint({ imagePath });
  await container.destroy();
  const restoredProcess = on.sh(program, { stdin: 'pipe', stdout: 'pipe' });
  await on.factory.restore(container.id, on.config, restoredProcess, { imagePath });
  let after = '';
  restoredProcess.stdout?.on('data', chunk => {
    after += String(chunk);
  });
  restoredProcess.stdin?.write('two\n');
  await eventually('the second answer', () => after === 'got two\n');
  restoredProcess.stdin?.end();
  assert.deepEqual(await within(restoredProcess.wait(), 'its end'), { kind: 'exited', code: 0 });
  assert.equal(readFileSync(join(on.data, 'open'), 'utf8'), 'begin\none\ntwo\n');
  await (await on.factory.load(container.id)).destroy();
});

test('a terminal is another one after the restore', { requires, timeoutMs }, async t => {
  const on = await counter(t);
  const imagePath = makeDirectory(t);
  const container = await on.create();
  const program = 'stty -echo; while read line; do echo "got $line"; done';
  const process = on.sh(program, { terminal: true });
  await container.run(process);
  let output = '';
  process.terminal?.on('data', chunk => {
    output += String(chunk);
  });
  process.terminal?.on('error', () => undefined);
  process.terminal?.write('one\n');
  await eventually('the first answer', () => output.includes('got one\r\n'));
  await container.checkpoint({ imagePath });
  await container.destroy();
  const again = on.sh(program, { terminal: true });
  const restored = await on.factory.restore(container.id, on.config, again, { imagePath });
  let after = '';
  const terminal = again.terminal ?? assert.fail('no terminal');
  terminal.on('data', chunk => {
    after += String(chunk);
  });
  terminal.write('two\n');
  await eventually('the second answer', () => after.includes('got two\r\n'));
  await restored.destroy({ force: true });
});

test('names that cannot make the round trip are refused, and so are mounts that are not those of the image', {
  requires,
  timeoutMs,
}, async t => {
  const on = await counter(t);
  const imagePath = makeDirectory(t);
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  await container.checkpoint({ imagePath });
  await container.destroy();
  const restore = (config: typeof on.config) =>
    on.factory.restore(container.id, config, on.sh(counting), { imagePath });
  // Restored with a bind that was read-write in the image, and is not to be.
  const strict = {
    ...on.config,
    mounts: on.config.mounts.map(mount =>
      mount.destination === '/data' ? { ...mount, flags: mount.flags | 1 } : mount,
    ),
  };
  await assert.rejects(restore(strict), { code: 'ERR_CRIU_IMAGE', message: /\/data: restored without ro/ });
  assert.deepEqual(await on.factory.list(), []);
  // A link of the image makes two mounts one, or a name that CRIU would read otherwise.
  const rootfs = join(on.bundle, 'rootfs');
  execFileSync('rm', ['-rf', join(rootfs, 'fixed')]);
  symlinkSync('/data', join(rootfs, 'fixed'));
  await assert.rejects(restore(on.config), { code: 'ERR_CRIU_MOUNT' });
  execFileSync('rm', [join(rootfs, 'fixed')]);
  symlinkSync('/etc]:/x', join(rootfs, 'fixed'));
  await assert.rejects(restore(on.config), { code: 'ERR_CRIU_MOUNT' });
  execFileSync('rm', [join(rootfs, 'fixed')]);
  const good = await restore(on.config);
  await on.further();
  await good.destroy({ force: true });
});

test('what CRIU would lose is refused before anything happens', { requires: ['root'] }, async t => {
  const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } });
  const config = await loadConfig(bundle, {});
  const on = await fixture(t);
  const image = makeDirectory(t);
  const wrong = { ...config, landlock: { read: ['/'], write: [], execute: ['/'] } };
  await assert.rejects(
    on.factory.restore('none', wrong, new Process({ args: ['x'] }), { imagePath: image }),
    { code: 'ERR_UNSUPPORTED', message: /landlock/ },
  );
  const container = await on.create();
  await assert.rejects(container.checkpoint({ imagePath: image }), { code: 'ERR_CONTAINER_NOT_EXIST' });
  assert.deepEqual(await on.factory.list(), []);
});
