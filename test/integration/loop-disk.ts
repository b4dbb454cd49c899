/** A disk of a test's own: a loop device over a file. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import type { TestContext } from '../harness/test.ts';

export interface Disk {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
}

/** Undefined, and the test is skipped, where there are no loop devices. */
export function loopDisk(t: TestContext, bytes: number): Disk | undefined {
  const file = join(makeDirectory(t), 'disk');
  writeFileSync(file, Buffer.alloc(bytes, 1));
  spawnSync('modprobe', ['loop']);
  const made = spawnSync('losetup', ['--find', '--show', file], { encoding: 'utf8' });
  if (made.status !== 0) {
    t.skip(`no loop device: ${made.stderr.trim()}`);
    return undefined;
  }
  const path = made.stdout.trim();
  t.after(() => assert.equal(spawnSync('losetup', ['--detach', path]).status, 0));
  const { rdev } = statSync(path);
  return { path, major: rdev >> 8, minor: rdev & 0xff };
}
