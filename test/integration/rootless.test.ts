/** Containers of an ordinary user: one id, what is refused, what it cannot do. Runs in the rootless part of a lane. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LinuxFactory, loadConfig } from '../../lib/index.ts';
import { makeBundle, type SpecDocument } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
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
    'an id-mapped mount',
    spec => void spec.mounts.push({ destination: '/mnt', source: '/', options: ['bind', 'idmap'] }),
    /id-mapped mounts are not supported for rootless containers/,
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
  requires: ['not-root', 'userns', 'not-delegated'],
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

test('an ordinary user without a cgroup: KILL ends the container, another signal to all is refused by name', {
  requires: ['not-root', 'userns', 'not-delegated'],
  trap: 20,
}, async t => {
  const on = await fixture(t);
  for (const options of [{ all: true }, {}]) {
    const container = await on.create();
    const main = on.sh('exec sleep 1000');
    await container.run(main);
    await assert.rejects(container.signal('TERM', { all: true }), {
      code: 'ERR_CGROUP_CONTROLLER',
      message: /only its first process is known/,
    });
    await container.signal('KILL', options);
    assert.equal((await within(main.wait(), 'the end')).kind, 'signaled');
    await container.destroy();
  }
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

test('an ordinary user with a delegated cgroup: the container is beside our own, exec and kill go by it, and it is removed', {
  requires: ['not-root', 'userns', 'delegated'],
  trap: 16,
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const main = on.sh('exec sleep 1000');
  await container.run(main);
  const { cgroup_paths: paths } = await container.state();
  const directory = paths[''] ?? assert.fail(JSON.stringify(paths));
  // We are not in the way of its controllers.
  const own = /^0::(\S+)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? assert.fail();
  assert.equal(dirname(directory), join('/sys/fs/cgroup', dirname(own)));
  assert.equal(readFileSync(join(directory, 'cgroup.procs'), 'utf8'), `${main.pid}\n`);
  const more = on.sh('exec sleep 1000');
  await container.start(more);
  assert.deepEqual((await container.processes()).sort(), [main.pid, more.pid].sort());
  await container.pause();
  assert.equal(await container.status(), 'paused');
  await container.resume();
  await container.signal('SIGKILL');
  await within(Promise.all([main.wait(), more.wait()]), 'the end of both');
  await container.destroy();
  assert.equal(existsSync(directory), false);
});

test('an ordinary user with a delegated cgroup: limits hold and can be changed', {
  requires: ['not-root', 'userns', 'delegated', 'controller:memory', 'controller:pids'],
  trap: 16,
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.resources = { memory: { limit: 64 << 20 }, pids: { limit: 50 } };
      return undefined;
    },
  });
  const container = await on.create();
  await container.run(on.sh('exec sleep 1000'));
  const { cgroup_paths: paths } = await container.state();
  const value = (file: string): string => readFileSync(join(paths[''] ?? '', file), 'utf8').trim();
  assert.equal(value('memory.max'), String(64 << 20));
  assert.equal(value('pids.max'), '50');
  await container.set({ ...container.config.resources, pids: { limit: 40 } });
  assert.equal(value('pids.max'), '40');
  assert.ok((await container.stats()).memory.usage.usage > 0n);
  await container.destroy({ force: true });
});

test('an ordinary user with a delegated cgroup: more processes than the limit allows cannot be', {
  requires: ['not-root', 'userns', 'delegated', 'controller:pids'],
}, async t => {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.resources = { pids: { limit: 3 } };
      return undefined;
    },
  });
  const container = await on.create();
  const main = on.sh('for i in 1 2 3 4 5 6; do sleep 100 & done; echo all', {
    stdout: 'pipe',
    stderr: 'pipe',
  });
  await container.run(main);
  const [said, errors] = await Promise.all(
    [main.stdout, main.stderr].map(stream => text(stream ?? assert.fail())),
  );
  assert.equal(said, '');
  assert.match(errors ?? '', /can't fork/);
  await main.wait();
  await container.destroy();
});

test('an ordinary user: two-phase exec', { requires: ['not-root', 'userns'], trap: 7 }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const main = on.sh('exec sleep 1000');
  await container.run(main);
  const further = on.sh('echo released', { stdout: 'pipe' });
  const prepared = await container.prepare(further);
  assert.equal(prepared.pid, further.pid);
  // Not dumpable before its program: of what /proc shows of it only this is ours to read.
  const status = readFileSync(`/proc/${prepared.pid}/status`, 'utf8');
  assert.match(status, new RegExp(`^NSpid:\\t${prepared.pid}\\t\\d+$`, 'm'));
  await prepared.release();
  assert.equal(await text(further.stdout ?? assert.fail()), 'released\n');
  assert.deepEqual(await further.wait(), { kind: 'exited', code: 0 });
  const other = await container.prepare(on.sh('echo never'));
  await other.cancel();
  assert.equal(existsSync(`/proc/${other.pid}`), false);
  await container.destroy({ force: true });
});
