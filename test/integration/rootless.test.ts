/** Containers of an ordinary user: one id, what is refused, what it cannot do. Runs in the rootless part of a lane. */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { LinuxFactory, loadConfig } from '../../lib/index.ts';
import { makeBundle, type SpecDocument } from '../harness/bundle.ts';
import { text } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const uid = process.geteuid?.() ?? 0;
const gid = process.getegid?.() ?? 0;

test('an ordinary user runs a container: root inside, itself outside, setgroups denied', {
  requires: ['not-root', 'userns'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const main = on.sh(
    'id -u; id -g; cat /proc/self/setgroups; cat /proc/self/uid_map; hostname; echo .; read line',
    {
      stdin: 'pipe',
      stdout: 'pipe',
    },
  );
  await container.run(main);
  const status = readFileSync(`/proc/${main.pid}/status`, 'utf8');
  assert.match(status, new RegExp(`^Uid:\\t${uid}\\t${uid}\\t${uid}\\t${uid}$`, 'm'));
  assert.match(status, new RegExp(`^Gid:\\t${gid}\\t${gid}\\t${gid}\\t${gid}$`, 'm'));
  assert.notEqual(readlinkSync(`/proc/${main.pid}/ns/user`), readlinkSync('/proc/self/ns/user'));
  main.stdin?.end('\n');
  const lines = (await text(main.stdout ?? assert.fail()))
    .trim()
    .split('\n')
    .map(line => line.trim().replaceAll(/\s+/g, ' '));
  assert.deepEqual(lines, ['0', '0', 'deny', `0 ${uid} 1`, 'runc', '.']);
  await main.wait();
  await container.destroy();
});

test('create, start, signal and list as an ordinary user', { requires: ['not-root', 'userns'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const main = on.sh('trap "exit 5" TERM; echo ready; while :; do read line; done', {
    stdin: 'pipe',
    stdout: 'pipe',
  });
  await container.start(main);
  assert.equal(await container.status(), 'created');
  await container.exec();
  for await (const _ of main.stdout ?? assert.fail()) break;
  const [row] = await on.factory.list();
  assert.deepEqual([row?.id, row?.status, row?.owner], [container.id, 'running', uid]);
  await container.signal('SIGTERM');
  main.stdin?.end();
  await main.wait();
  await container.destroy();
});

test('an ordinary user executes a process in its container', {
  requires: ['not-root', 'userns'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const main = on.sh('read line', { stdin: 'pipe' });
  await container.run(main);
  const more = on.sh('id -u; readlink /proc/self/ns/pid', { stdout: 'pipe', stderr: 'inherit' });
  await container.start(more);
  const lines = (await text(more.stdout ?? assert.fail())).trim().split('\n');
  assert.deepEqual(lines, ['0', readlinkSync(`/proc/${main.pid}/ns/pid`)]);
  assert.deepEqual(await more.wait(), { kind: 'exited', code: 0 });
  main.stdin?.end('\n');
  await main.wait();
  await container.destroy();
});

const range = { requires: ['not-root', 'userns', 'subids'] } as const;

test('an ordinary user with a range of ids: newuidmap and newgidmap map them', range, async t => {
  const rows = (own: number) => [
    { containerID: 0, hostID: own, size: 1 },
    { containerID: 1, hostID: 100_000, size: 65_536 },
  ];
  const on = await fixture(t, {
    process: { user: { uid: 1000, gid: 1000, additionalGids: [20] } },
    patch: spec => {
      Object.assign(spec.linux, { uidMappings: rows(uid), gidMappings: rows(gid) });
      return undefined;
    },
  });
  const container = await on.create();
  const main = on.sh('id -u; id -G; echo .; read line', { stdin: 'pipe', stdout: 'pipe' });
  await container.run(main);
  const status = readFileSync(`/proc/${main.pid}/status`, 'utf8');
  assert.match(status, /^Uid:\t100999\t/m);
  assert.match(status, /^Groups:\t100019 100999 $|^Groups:\t100019 $/m);
  main.stdin?.end('\n');
  assert.equal(await text(main.stdout ?? assert.fail()), '1000\n1000 20\n.\n');
  await main.wait();
  await container.destroy();
});

test('an ordinary user: ids that are not given to it are refused, and nothing is left', range, async t => {
  const rows = (own: number) => [
    { containerID: 0, hostID: own, size: 1 },
    { containerID: 1, hostID: 1, size: 1000 },
  ];
  const on = await fixture(t, {
    patch: spec => {
      Object.assign(spec.linux, { uidMappings: rows(uid), gidMappings: rows(gid) });
      return undefined;
    },
  });
  const container = await on.create();
  await assert.rejects(container.run(on.sh('true')), { code: 'ERR_ID_MAP', message: /newuidmap/ });
});

const refusals: readonly (readonly [what: string, patch: (spec: SpecDocument) => void, message: RegExp])[] = [
  [
    'no user namespace',
    spec => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'user');
      delete spec.linux.uidMappings;
      delete spec.linux.gidMappings;
    },
    /rootless container requires user namespaces/,
  ],
  [
    'an unmapped gid= option',
    spec => {
      for (const mount of spec.mounts) if (mount.type === 'devpts') mount.options?.push('gid=5');
    },
    /cannot specify gid= mount options for unmapped gid in rootless containers/,
  ],
  [
    'additional groups that are not mapped',
    spec => Object.assign(spec.process, { user: { uid: 0, gid: 0, additionalGids: [7] } }),
    /process\.user\.additionalGids\[0\]: id 7 is not mapped/,
  ],
];
for (const [what, patch, message] of refusals)
  test(`an ordinary user: ${what} is refused`, { requires: ['not-root'] }, async t => {
    const bundle = makeBundle(t, { patch: spec => void patch(spec) });
    await assert.rejects(loadConfig(bundle), { code: 'ERR_SPEC_INVALID', message });
  });

test('an ordinary user: limits that need a cgroup are refused by name', {
  requires: ['not-root', 'userns'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.resources = { memory: { limit: 64 << 20 } };
      return undefined;
    },
  });
  const container = await on.create();
  await assert.rejects(container.run(on.sh('true')), { code: 'ERR_CGROUP_CONTROLLER', message: /memory/ });
  await container.destroy({ force: true });
});

test('row 18: CVE-2023-25809: without namespaces of network and cgroups nothing below /sys can be written', {
  requires: ['not-root', 'userns'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      const shared = ['network', 'cgroup'];
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => !shared.includes(type));
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'cgroup');
      return undefined;
    },
  });
  const output = await on.output(
    'cd /sys/fs/cgroup && for d in . */; do mkdir $d/x 2>&1; done | sed "s/.*: //" | sort -u',
  );
  // Not "Permission denied", which is what the owner of a cgroup outside would not hear.
  assert.equal(output, 'Read-only file system\n');
});

test('an ordinary user: oomScoreAdj can be raised, not lowered', {
  requires: ['not-root', 'userns'],
}, async t => {
  const value = async (oomScoreAdj: number): Promise<string> => {
    const on = await fixture(t, { process: { oomScoreAdj } });
    return await on.output('cat /proc/self/oom_score_adj');
  };
  assert.equal(await value(700), '700\n');
  await assert.rejects(value(-900), { message: /oom_score_adj/ });
});

test('the default state root of an ordinary user is below XDG_RUNTIME_DIR', { requires: ['not-root'] }, t => {
  const former = process.env.XDG_RUNTIME_DIR;
  t.after(() => {
    if (former === undefined) delete process.env.XDG_RUNTIME_DIR;
    else process.env.XDG_RUNTIME_DIR = former;
  });
  process.env.XDG_RUNTIME_DIR = '/run/user/of-somebody';
  assert.equal(new LinuxFactory().root, '/run/user/of-somebody/libcontainer');
  delete process.env.XDG_RUNTIME_DIR;
  assert.equal(new LinuxFactory().root, '/run/libcontainer');
});
