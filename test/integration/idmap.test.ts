/** Idmapped mounts: mount_setattr(2) "ID-mapped mounts"; config.md mounts, uidMappings and gidMappings. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

/** A tmpfs (which knows idmapped mounts since Linux 6.3) with a second one in it; both with files of 0 and of 1000. */
function source(t: TestContext): string {
  const directory = makeDirectory(t);
  for (const part of ['.', 'below']) {
    const at = join(directory, part);
    mkdirSync(at, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', 'none', at]);
    t.after(() => execFileSync('umount', [at]));
    writeFileSync(join(at, 'root'), '');
    writeFileSync(join(at, 'user'), '');
    chownSync(join(at, 'user'), 1000, 1001);
  }
  return directory;
}

const uidMappings = [{ containerID: 1000, hostID: 5000, size: 1 }];
const gidMappings = [
  { containerID: 0, hostID: 0, size: 1 },
  { containerID: 1001, hostID: 6000, size: 2 },
];
const withMount = (mount: object) => ({
  patch: (spec: SpecDocument) => void spec.mounts.push({ destination: '/mnt', ...mount } as never),
});
const look = 'cd /mnt; stat -c "%n %u %g" root user below/root below/user';
const requires = ['root', 'kernel:6.3'] as const;

for (const [options, below] of [
  [['rbind'], 'below/root 0 0\nbelow/user 1000 1001\n'],
  [['rbind', 'idmap'], 'below/root 0 0\nbelow/user 1000 1001\n'],
  [['rbind', 'ridmap'], 'below/root 65534 0\nbelow/user 5000 6000\n'],
] as const)
  test(`idmapped mount: ${options.join(',')} with maps`, {
    requires,
    proves: [
      'mounts[].uidMappings',
      'mounts[].gidMappings',
      ...options.map(option => `mounts[].options[${option}]`),
    ],
    trap: 14,
  }, async t => {
    const on = await fixture(t, withMount({ source: source(t), options, uidMappings, gidMappings }));
    assert.equal(await on.output(look), `root 65534 0\nuser 5000 6000\n${below}`);
  });

test('idmapped mount: what a user writes there belongs to the id behind it; other options hold too', {
  requires,
  proves: ['mounts[].uidMappings', 'mounts[].gidMappings'],
  trap: 14,
}, async t => {
  const directory = source(t);
  const maps = { uidMappings: [{ containerID: 0, hostID: 5000, size: 1 }], gidMappings };
  const options = ['bind', 'idmap', 'nosuid', 'noexec'];
  const on = await fixture(t, withMount({ source: directory, options, ...maps }));
  const user = { uid: 5000, gid: 6001, additionalGids: [] };
  const shown = await on.output('touch /mnt/made && grep " /mnt " /proc/self/mountinfo', { user });
  assert.match(shown, / \/mnt rw,nosuid,noexec,[^ ]*idmapped /);
  const { uid, gid } = statSync(join(directory, 'made'));
  assert.deepEqual([uid, gid], [0, 1002]);
});

test('idmapped mount: a file system that knows none is an error of the start', {
  requires: ['root'],
  proves: ['mounts[].uidMappings'],
  trap: 14,
}, async t => {
  const on = await fixture(
    t,
    withMount({ source: '/sys/kernel', options: ['bind', 'idmap'], uidMappings, gidMappings }),
  );
  const container = await on.create();
  await assert.rejects(container.run(on.process()), {
    code: 'ERR_IDMAP',
    message: /"\/sys\/kernel", MOUNT_ATTR_IDMAP/,
  });
});
