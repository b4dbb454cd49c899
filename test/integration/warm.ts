/**
 * What the library makes once and keeps as long as the process: the spawner's thread, its epoll descriptor, its hold on
 * its own pid namespace, the monitor. Made here, by jobs whose clone fails (CLONE_THREAD needs CLONE_SIGHAND), so that no
 * test is taken for the one that leaked them.
 */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { binding } from '../../lib/native/binding.ts';

const cloneThread = 0x10000;
const exitFile = join(tmpdir(), `libcontainer-fixture-${process.pid}-${threadId}`);
for (const monitor of [undefined, { exitFile, orders: '' }])
  await new Promise<void>(resolve => {
    binding().spawn(
      {
        before: [],
        plan: new Uint8Array(1),
        cloneFlags: cloneThread,
        pidNamespace: '/proc/self/ns/pid',
        stdio: [0, 1, 2],
        preserved: [],
        slots: [],
        askReady: false,
        faults: false,
        ...(monitor === undefined ? {} : { monitor }),
      },
      event => {
        assert.equal(event.type, 'failed');
        resolve();
      },
    );
  });
