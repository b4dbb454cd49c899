/** Checkpoint and restore of a container whose root is an ordinary id outside; images are lent to it for the restore. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { counter, counting, requires } from './criu-fixture.ts';

const owners = (directory: string): string[] =>
  ['.', ...readdirSync(directory)].map(name => {
    const { uid, gid, mode } = statSync(join(directory, name));
    return `${name} ${uid}:${gid} ${mode.toString(8)}`;
  });

test('a container in a user namespace is restored in one; its images are root’s alone afterwards', {
  requires: [...requires, 'userns'],
  timeoutMs: 60_000,
}, async t => {
  const on = await counter(t, spec => {
    spec.linux.namespaces.push({ type: 'user' });
    const maps = [{ containerID: 0, hostID: 100000, size: 65536 }];
    Object.assign(spec.linux, { uidMappings: maps, gidMappings: maps });
  });
  execFileSync('chown', ['-R', '100000:100000', join(on.bundle, 'rootfs'), on.data]);
  const imagePath = makeDirectory(t);
  const container = await on.create();
  await container.run(on.sh(counting));
  await on.further();
  await container.checkpoint({ imagePath });
  await container.destroy();
  const reached = on.count();
  const before = owners(imagePath);
  const restored = await on.factory.restore(container.id, on.config, on.sh(counting), { imagePath });
  assert.ok((await on.further()) > reached);
  const { pid } = await restored.ociState();
  assert.match(readFileSync(`/proc/${pid}/uid_map`, 'utf8'), /0\s+100000\s+65536/);
  assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\s+100000\s/m);
  assert.deepEqual(
    owners(imagePath).filter(row => !/^(restore\.log|stats-restore) /.test(row)),
    before,
  );
  await restored.destroy({ force: true });
});
