/** The systemd driver where there is no systemd. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { CgroupError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';

test('--systemd-cgroup without systemd says so and how to go on; nothing is made', {
  requires: ['root', 'no-systemd'],
}, async t => {
  const bundle = makeBundle(t, {
    patch: (spec: SpecDocument) => {
      spec.linux.cgroupsPath = 'system.slice:test:x';
      return spec;
    },
  });
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  const config = await loadConfig(bundle, { systemdCgroup: true });
  const container = await factory.create(containerId('sd'), config);
  await assert.rejects(
    container.run(new Process({ ...config.process, args: ['/bin/true'] })),
    (error: unknown) => {
      assert.ok(error instanceof CgroupError);
      assert.equal(error.code, 'ERR_SYSTEMD');
      assert.match(error.message, /systemd is not what runs this system/);
      assert.match(error.hint, /cgroupfs driver/);
      return true;
    },
  );
  assert.deepEqual(await factory.list(), []);
  await container.destroy();
  // As it is built, where the systemd driver is a file of its own.
  const nrunc = [join(projectRoot, 'dist/nrunc.cjs'), '--root', makeStateRoot(t), '--systemd-cgroup', 'run'];
  const { status, stderr } = spawnSync(process.execPath, [...nrunc, '--bundle', bundle, containerId('sd')], {
    encoding: 'utf8',
  });
  assert.notEqual(status, 0);
  assert.match(stderr, /systemd is not what runs this system/);
  await assert.rejects(
    factory.create(containerId('sd'), { ...config, cgroupsPath: '/a/b' }),
    /expected cgroupsPath to be of format "slice:prefix:name"/,
  );
});
