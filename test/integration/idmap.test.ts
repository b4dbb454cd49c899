/** Idmapped mounts: mount_setattr(2) "ID-mapped mounts"; config.md mounts, uidMappings and gidMappings. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { loadConfig } from '../../lib/index.ts';
import { makeBundle, makeDirectory, type SpecDocument } from '../harness/bundle.ts';
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

const own = [{ containerID: 0, hostID: 100_000, size: 2000 }];
const userns = (spec: SpecDocument, path?: string): void => {
  spec.linux.namespaces.push({ type: 'user', ...(path === undefined ? {} : { path }) });
  Object.assign(spec.linux, { uidMappings: own, gidMappings: own });
};

test("idmapped mount without maps: those of the container's own user namespace, new or joined", {
  requires: [...requires, 'userns'],
  proves: ['mounts[].options[idmap]', 'mounts[].options[ridmap]'],
  trap: 14,
}, async t => {
  const directory = source(t);
  const mounts = (spec: SpecDocument): void => {
    for (const option of ['idmap', 'ridmap', 'nodev'])
      spec.mounts.push({ destination: `/mnt/${option}`, source: directory, options: ['rbind', option] });
    spec.mounts.splice(-3, 0, { destination: '/mnt', type: 'tmpfs', source: 'tmpfs' });
  };
  const shown = (below: string): string => `root 0 0\nuser 1000 1001\n${below}`;
  const nobody = 'below/root 65534 65534\nbelow/user 65534 65534\n';
  const command = ['idmap', 'ridmap', 'nodev']
    .map(option => `cd /mnt/${option}; stat -c "%n %u %g" root user below/root below/user`)
    .join('; ');
  const on = await fixture(t, {
    patch: spec => {
      userns(spec);
      mounts(spec);
      return undefined;
    },
  });
  const all = [
    shown(nobody),
    shown('below/root 0 0\nbelow/user 1000 1001\n'),
    `root 65534 65534\nuser 65534 65534\n${nobody}`,
  ].join('');
  assert.equal(await on.output(command), all);

  const container = await on.create();
  const main = on.sh('exec sleep 1000');
  await container.run(main);
  const joined = await fixture(t, {
    patch: spec => {
      userns(spec, `/proc/${main.pid}/ns/user`);
      mounts(spec);
      return undefined;
    },
  });
  assert.equal(await joined.output(command), all);
  // Root of the container owns what it makes, on the disk too.
  await on.output('touch /mnt/idmap/made');
  const { uid, gid } = statSync(join(directory, 'made'));
  assert.deepEqual([uid, gid], [0, 0]);
});

test('idmapped mounts: one source several times, read-only, from a relative path, each with its own maps', {
  requires,
  proves: ['mounts[].uidMappings', 'mounts[].gidMappings'],
  trap: 14,
}, async t => {
  const directory = source(t);
  const map = (hostID: number) => {
    const rows = [{ containerID: 0, hostID, size: 1 }];
    return { uidMappings: rows, gidMappings: rows };
  };
  const on = await fixture(t, {
    patch: spec => {
      const path = relative(makeDirectory(t), directory);
      spec.mounts.push(
        { destination: '/mnt', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/mnt/one', source: directory, options: ['bind', 'ro'], ...map(5) } as never,
        { destination: '/mnt/two', source: `${path}/`, options: ['rbind', 'ridmap'], ...map(6) } as never,
        { destination: '/mnt/file', source: join(directory, 'root'), options: ['bind'], ...map(7) } as never,
      );
      return undefined;
    },
  });
  const command =
    'cd /mnt; stat -c "%n %u %g" one/root two/root two/below/root file; touch one/x 2>/dev/null || echo read-only';
  assert.equal(
    await on.output(command),
    'one/root 5 5\ntwo/root 6 6\ntwo/below/root 6 6\nfile 7 7\nread-only\n',
  );
});

const refused: readonly (readonly [what: string, mount: object, message: RegExp])[] = [
  [
    'a new file system',
    { type: 'tmpfs', source: 'tmpfs', uidMappings, gidMappings },
    /id-mapped mounts are only supported for bind-mounts/,
  ],
  [
    'user ids alone',
    { source: '/', options: ['bind'], uidMappings },
    /id-mapped mounts must have both uid and gid mappings specified/,
  ],
  [
    'no maps and no user namespace',
    { source: '/', options: ['bind', 'idmap'] },
    /without mappings take those of the user namespace, and there is none/,
  ],
  [
    'a range of no ids',
    { source: '/', options: ['bind'], uidMappings: [{ containerID: 0, hostID: 0, size: 0 }], gidMappings },
    /must be a range of ids/,
  ],
  [
    'an id beyond the last',
    {
      source: '/',
      options: ['bind'],
      uidMappings: [{ containerID: 0, hostID: 4_294_967_295, size: 1 }],
      gidMappings,
    },
    /must be a range of ids/,
  ],
];
for (const [what, mount, message] of refused)
  test(`idmapped mount: ${what} is refused`, { proves: ['mounts[].uidMappings'], trap: 14 }, async t => {
    await assert.rejects(loadConfig(makeBundle(t, withMount(mount))), { code: 'ERR_SPEC_INVALID', message });
  });
