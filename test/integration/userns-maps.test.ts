/** The maps of a user namespace that is joined by path are those of the namespace. user_namespaces(7). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory } from '../../lib/index.ts';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';
import { namespaceHolder } from './namespace-holder.ts';

const uidMappings = [
  { containerID: 0, hostID: 100_000, size: 1000 },
  { containerID: 1000, hostID: 300_000, size: 10 },
];
const gidMappings = [{ containerID: 0, hostID: 200_000, size: 2000 }];
const user = { uid: 1003, gid: 1004, additionalGids: [5, 1005] };
const placeholder = [{ containerID: 0, hostID: 0, size: 1 }];

/** A process with a user namespace that has these maps; gone at the end of the test. */
async function holder(t: TestContext): Promise<number> {
  const pid = await namespaceHolder(t, ['--user']);
  const rows = (mappings: readonly { containerID: number; hostID: number; size: number }[]) =>
    mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('');
  writeFileSync(`/proc/${pid}/uid_map`, rows(uidMappings));
  writeFileSync(`/proc/${pid}/gid_map`, rows(gidMappings));
  return pid;
}

/** The namespace by another path: a bind mount of it, as `ip netns` and engines keep theirs. */
function bound(t: TestContext, path: string): string {
  const file = join(makeDirectory(t), 'user');
  writeFileSync(file, '');
  execFileSync('mount', ['--bind', path, file]);
  t.after(() => execFileSync('umount', [file]));
  return file;
}

const joining =
  (path: string, more: object = {}) =>
  (spec: SpecDocument): undefined => {
    spec.linux.namespaces.push({ type: 'user', path });
    Object.assign(spec.linux, more);
  };

const requires = ['root', 'userns', 'file:/usr/bin/unshare'] as const;

test('a user namespace that is joined: its own maps say who a process is outside, whatever path it has', {
  requires,
  proves: ['linux.namespaces[user]', 'linux.namespaces[].path', 'process.user.additionalGids'],
  trap: 8,
}, async t => {
  const pid = await holder(t);
  const path = `/proc/${pid}/ns/user`;
  const cases: readonly (readonly [path: string, maps: object])[] = [
    [path, {}],
    [bound(t, path), {}],
    // As Podman writes it with --userns=ns:PATH and container:ID.
    [`/proc/${pid}/task/${pid}/ns/user`, { uidMappings: placeholder, gidMappings: placeholder }],
    [path, { uidMappings: [...uidMappings].reverse(), gidMappings }],
  ];
  for (const [at, maps] of cases) {
    const on = await fixture(t, { process: { user }, patch: joining(at, maps) });
    const container = await on.create();
    const main = on.sh('id -u; id -G; echo again >/proc/self/fd/1; read line', {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'inherit',
    });
    await within(container.run(main), at);
    const status = readFileSync(`/proc/${main.pid}/status`, 'utf8');
    assert.match(status, /^Uid:\t300003\t/m);
    assert.match(status, /^Gid:\t201004\t/m);
    assert.match(status, /^Groups:\t200005 201005 $/m);
    const output = statSync(`/proc/${main.pid}/fd/1`);
    assert.deepEqual([output.uid, output.gid], [300_003, 200_000], at);
    // Who executes in it later has the maps from the record, not from the document.
    const other = await new LinuxFactory({ root: on.root }).load(container.id);
    const more = on.sh('echo $(id -u) >/proc/self/fd/1', { stdout: 'pipe', stderr: 'inherit' });
    await within(other.start(more), `exec, ${at}`);
    assert.equal(await text(more.stdout ?? assert.fail()), '1003\n');
    await more.wait();
    await other[Symbol.asyncDispose]();
    main.stdin?.end('\n');
    assert.equal(await text(main.stdout ?? assert.fail()), '1003\n1004 5 1005\nagain\n');
    await main.wait();
    await container.destroy();
  }
});

test('a user namespace that is joined: its terminal belongs to the user of the process', {
  requires,
  proves: ['process.terminal'],
  trap: 8,
}, async t => {
  const path = bound(t, `/proc/${await holder(t)}/ns/user`);
  const on = await fixture(t, { process: { user, terminal: true }, patch: joining(path) });
  const container = await on.create();
  const main = on.sh('stat -L -c %u:%g /proc/self/fd/0; echo again >/dev/tty; read line');
  await container.run(main);
  const terminal = main.terminal ?? assert.fail();
  let output = '';
  for await (const part of terminal) {
    output += String(part);
    if (!output.includes('again\r\n')) continue;
    assert.equal(statSync(`/proc/${main.pid}/fd/0`).uid, 300_003);
    break;
  }
  assert.match(output, /^1003:\d+\r\nagain\r\n/);
  await container.signal('SIGKILL');
  await main.wait();
  await container.destroy();
});

test('a user namespace that is joined: maps that are not its own, ids that it does not map and what is none are refused', {
  requires,
  proves: ['linux.uidMappings', 'linux.gidMappings'],
  trap: 2,
}, async t => {
  const path = `/proc/${await holder(t)}/ns/user`;
  const refused = async (at: string, given: { maps?: object; user?: object }, error: object) => {
    const on = await fixture(t, {
      process: { user: given.user ?? { uid: 0, gid: 0 } },
      patch: joining(at, given.maps),
    });
    await assert.rejects(on.create(), error);
    assert.deepEqual(await on.factory.list(), []);
  };
  const other = [{ containerID: 0, hostID: 100_000, size: 999 }];
  for (const maps of [
    { uidMappings: other, gidMappings },
    { uidMappings, gidMappings: other },
    { uidMappings: placeholder, gidMappings: other },
  ])
    await refused(path, { maps }, { code: 'ERR_SPEC_INVALID', message: /non-matching mapping specified/ });
  for (const [unmapped, message] of [
    [{ uid: 1010, gid: 0 }, /process\.user\.uid: id 1010 is not mapped/],
    [{ uid: 0, gid: 2000 }, /process\.user\.gid: id 2000 is not mapped/],
    [{ uid: 0, gid: 0, additionalGids: [4, 5000] }, /process\.user\.additionalGids\[1\]: id 5000/],
  ] as const)
    await refused(bound(t, path), { user: unmapped }, { code: 'ERR_SPEC_INVALID', message });
  // Nobody can join the one that it is in (setns(2)): what a member would say is not known.
  await refused(
    bound(t, '/proc/self/ns/user'),
    {},
    { code: 'ERR_ID_MAP', message: /the id maps of the user namespace .* cannot be read/ },
  );
  await refused(
    bound(t, '/proc/self/ns/uts'),
    {},
    { code: 'ERR_NAMESPACE_KIND', message: /no user namespace/ },
  );
});

test('a user namespace that is joined and denies setgroups: no groups can be given, and none are missed', {
  requires,
  proves: ['process.user.additionalGids'],
  trap: 5,
}, async t => {
  const pid = await namespaceHolder(t, ['--user', '--map-root-user']);
  const patch = joining(`/proc/${pid}/ns/user`);
  const mounts = (spec: SpecDocument): undefined => {
    patch(spec);
    // gid=5 of the terminals is not mapped there.
    for (const mount of spec.mounts) mount.options = mount.options?.filter(word => word !== 'gid=5') ?? [];
  };
  const on = await fixture(t, { patch: mounts });
  assert.equal(await on.output('cat /proc/self/setgroups; id -u'), 'deny\n0\n');
  const asked = await fixture(t, {
    process: { user: { uid: 0, gid: 0, additionalGids: [0] } },
    patch: mounts,
  });
  const container = await asked.create();
  await assert.rejects(container.run(asked.process()), {
    message: /additional groups cannot be set in this user namespace/,
  });
});

test('an ordinary user joins a user namespace of its own', {
  requires: ['not-root', 'userns', 'file:/usr/bin/unshare'],
  proves: ['linux.namespaces[user]', 'linux.namespaces[].path'],
  trap: 8,
}, async t => {
  const pid = await namespaceHolder(t, ['--user', '--map-root-user']);
  const joined = (path: string, options: readonly string[]) => (spec: SpecDocument) => {
    spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'user');
    spec.linux.namespaces.push({ type: 'user', path });
    delete spec.linux.uidMappings;
    delete spec.linux.gidMappings;
    spec.mounts.push({ destination: '/mnt', type: 'tmpfs', source: 'tmpfs', options: [...options] });
    return undefined;
  };
  // Without the short cut by the number of a process: init has joined it.
  for (const path of [`/proc/${pid}/ns/user`, `/proc/${pid}/task/${pid}/ns/user`]) {
    const on = await fixture(t, { patch: joined(path, ['uid=0', 'gid=0']) });
    const uid = process.geteuid?.();
    assert.equal(
      (await on.output('id -u; cat /proc/self/uid_map; echo again >/proc/self/fd/1', { stderr: 'inherit' }))
        .split('\n')
        .map(line => line.trim().replaceAll(/ +/g, ' '))
        .join(';'),
      `0;0 ${uid} 1;again;`,
    );
    const refused = await fixture(t, { patch: joined(path, ['gid=5']) });
    await assert.rejects(refused.create(), {
      code: 'ERR_SPEC_INVALID',
      message: /cannot specify gid= mount options for unmapped gid in rootless containers/,
    });
  }
});
