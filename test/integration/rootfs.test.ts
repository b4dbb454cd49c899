/** Root file systems without a registry: made, run as root and as an ordinary user; what is there is never overwritten. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxRootfs } from '../../lib/index.ts';
import { sandbox } from '../../lib/sandbox/sandbox.ts';
import { makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { nruncPath, start } from './cli-fixture.ts';
import './warm.ts';

test('rootfs busybox: a program runs in it; a directory that is not empty is left alone', {
  requires: ['rootless', 'file:/bin/busybox'],
  timeoutMs: 60_000,
}, async t => {
  const directory = makeDirectory(t);
  const rootfs = join(directory, 'rootfs');
  mkdirSync(rootfs);
  const made = await start(process.execPath, [nruncPath, 'rootfs', 'busybox', rootfs]).ended();
  assert.deepEqual([made.code, made.stderr], [0, '']);
  const { stdout, exitCode } = await sandbox(
    ['sh', '-c', 'cat /etc/hosts | wc -l; id -u; vi --help 2>&1 | head -1; pwd'],
    {
      root: makeStateRoot(t),
      rootfs,
    },
  );
  assert.equal(exitCode, 0);
  assert.match(stdout, /^2\n\d+\nBusyBox v[\d.]+ .*\n\/tmp\n$/);
  await assert.rejects(busyboxRootfs(rootfs), { code: 'ERR_ROOTFS_MAKE' });
  assert.ok(existsSync(join(rootfs, 'bin/sh')));
  writeFileSync(join(directory, 'file'), '');
  await assert.rejects(busyboxRootfs(join(directory, 'file')), { code: 'ERR_ROOTFS_MAKE' });
  assert.deepEqual(readdirSync(directory).sort(), ['file', 'rootfs']);
  const unknown = await start(process.execPath, [nruncPath, 'rootfs', 'debian', rootfs]).ended();
  assert.equal(unknown.code, 1);
});
