/** The leak check itself: what it must find, it finds. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { difference, leaksSince, snapshot } from '../../scripts/leaks.mjs';
import { makeDirectory } from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { cgroupHierarchies } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

const found = (before: ReturnType<typeof snapshot>, what: string) =>
  difference(before, snapshot()).filter(leak => leak.includes(what));

test('a cgroup that is left is found, in every hierarchy', { requires: ['root'] }, () => {
  const hierarchies = cgroupHierarchies();
  assert.ok(hierarchies.length > 0);
  for (const hierarchy of hierarchies) {
    const before = snapshot();
    const path = join(hierarchy, `libcontainer-test-leak-${process.pid}`);
    mkdirSync(path);
    try {
      assert.deepEqual(found(before, path), [`cgroup ${path}`]);
    } finally {
      rmdirSync(path);
    }
    assert.deepEqual(found(before, path), []);
  }
});

test('a state directory that is left is found', { requires: ['root'] }, () => {
  const before = snapshot();
  mkdirSync('/run/libcontainer', { recursive: true });
  const path = `/run/libcontainer/leak-${process.pid}`;
  mkdirSync(path);
  try {
    assert.deepEqual(found(before, path), [`state directory ${path}`]);
  } finally {
    rmdirSync(path);
  }
});

test('a process and a mount that are left are found', { requires: ['root'] }, async t => {
  const directory = makeDirectory(t);
  const before = snapshot();
  // A mount in its own namespace would go with the process: this one is in ours.
  const run = spawn('sh', ['-c', `mount -t tmpfs leak "${directory}" && echo mounted && exec sleep 600`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const unmount = () => spawn('umount', [directory], { stdio: 'ignore' });
  try {
    await within(new Promise(resolve => run.stdout.once('data', resolve)), 'the mount');
    assert.equal(found(before, `process ${run.pid} `).length, 1);
    assert.equal(found(before, `mount ${directory} `).length, 1);
  } finally {
    run.kill('SIGKILL');
    const done = unmount();
    await within(new Promise(resolve => done.once('exit', resolve)), 'umount');
  }
  assert.deepEqual(
    (await leaksSince(before)).filter(
      leak => leak.includes(directory) || leak.includes(`process ${run.pid} `),
    ),
    [],
  );
});
