/** User namespaces together with namespaces that are joined by path: what runc can do, and what the kernel refuses. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { LinuxFactory } from '../../lib/index.ts';
import { containerId, type SpecDocument } from '../harness/bundle.ts';
import { eventually, text, waitFor, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';
import { namespaceHolder } from './namespace-holder.ts';

const base = 100_000;
const rows = [{ containerID: 0, hostID: base, size: 1000 }];

/** A container with a new user namespace that lives until the end of the test. Returns its first process. */
async function owner(t: TestContext): Promise<{ on: Fixture; pid: number }> {
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.namespaces.push({ type: 'user' });
      Object.assign(spec.linux, { uidMappings: rows, gidMappings: rows });
      return undefined;
    },
  });
  const container = await on.create();
  const main = on.sh('exec sleep 1000');
  await container.run(main);
  return { on, pid: main.pid ?? assert.fail() };
}

const joining =
  (pid: number, mappings: readonly object[] = rows) =>
  (spec: SpecDocument): undefined => {
    spec.linux.namespaces.push({ type: 'user', path: `/proc/${pid}/ns/user` });
    if (mappings.length > 0) Object.assign(spec.linux, { uidMappings: mappings, gidMappings: mappings });
  };

/** Processes of the kernel's list whose parent is this one's monitor, or this one. */
function childrenOf(parents: readonly number[]): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return parents.includes(Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
      } catch {
        return false;
      }
    });
}

const parentOf = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
};

const look =
  'echo $$; id -u; readlink /proc/self/ns/user; mount -t tmpfs none /mnt && echo mounted; ls -d /proc/[0-9]* | wc -l; read line; exit 7';
const admin = ['CAP_SYS_ADMIN', 'CAP_KILL'];
const capabilities = { bounding: admin, effective: admin, permitted: admin };

for (const monitor of [true, false])
  test(`a new pid namespace below a user namespace that is joined, ${monitor ? 'with' : 'without'} a monitor: the program is its process 1`, {
    requires: ['root', 'userns'],
    proves: ['linux.namespaces[user]', 'linux.namespaces[pid]', 'linux.namespaces[].path'],
    trap: 15,
  }, async t => {
    const { pid } = await owner(t);
    const on = await fixture(t, { patch: joining(pid), process: { capabilities } });
    const factory = new LinuxFactory({ root: on.root, monitor });
    const container = await factory.create(containerId('joined'), on.config);
    t.after(() => container.destroy({ force: true }));
    const main = on.sh(look, { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
    await container.run(main);
    const state = await container.state();
    assert.equal(state.init_process_pid, main.pid);
    // The process that made it is gone: of the two that the parent has had for it, one is left.
    const parent = parentOf(main.pid ?? assert.fail());
    await eventually('one process', () => {
      const group = childrenOf([parent]).filter(
        child => readlinkSync(`/proc/${child}/ns/user`) === readlinkSync(`/proc/${pid}/ns/user`),
      );
      return group.every(child => child === main.pid || child === pid);
    });
    // The files of what is not dumpable would be root's: its program is, and runs as the mapped root.
    assert.equal(statSync(`/proc/${main.pid}`).uid, base);
    for (const name of ['pid', 'mnt', 'net', 'ipc', 'uts'])
      assert.notEqual(
        readlinkSync(`/proc/${main.pid}/ns/${name}`),
        readlinkSync(`/proc/self/ns/${name}`),
        name,
      );
    const more = on.sh('echo $$ $(id -u)', { stdout: 'pipe' });
    await container.start(more);
    assert.match(await text(more.stdout ?? assert.fail()), /^[2-9]\d* 0\n$/);
    await more.wait();
    main.stdin?.end('\n');
    const lines = (await text(main.stdout ?? assert.fail())).trim().split('\n');
    assert.deepEqual(lines.slice(0, 4), ['1', '0', readlinkSync(`/proc/${pid}/ns/user`), 'mounted']);
    assert.ok(Number(lines[4]) <= 5, `${lines[4]} processes in /proc`);
    assert.deepEqual(await within(main.wait(), 'the end'), { kind: 'exited', code: 7 });
    assert.equal(await container.status(), 'stopped');
    await container.destroy();
  });

test('a new pid namespace below a joined user namespace: create, start from another factory, signal, without maps', {
  requires: ['root', 'userns'],
  trap: 15,
}, async t => {
  const { pid } = await owner(t);
  const on = await fixture(t, { patch: joining(pid, []) });
  const container = await on.create();
  const main = on.sh('trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done', { stdout: 'pipe' });
  await container.start(main);
  assert.equal(await container.status(), 'created');
  const other = await new LinuxFactory({ root: on.root }).load(container.id);
  assert.equal((await other.state()).init_process_pid, main.pid);
  await other.exec();
  await within(waitFor(main.stdout ?? assert.fail(), 'data'), 'its word');
  main.stdout?.destroy();
  await other.signal('SIGTERM');
  assert.deepEqual(await within(main.wait(), 'the end'), { kind: 'exited', code: 9 });
  await other[Symbol.asyncDispose]();
  await container.destroy();
});

test('the process that makes the pid namespace dies at the wrong moment: nothing is left', {
  requires: ['root', 'userns', 'init-faults'],
}, async t => {
  const { pid } = await owner(t);
  const on = await fixture(t, { patch: joining(pid) });
  const members = () => childrenOf([parentOf(pid)]).length;
  const before = members();
  t.after(() => {
    delete process.env.LIBCONTAINER_FAIL_AT;
  });
  for (const fault of [
    'born@exit',
    'born@error',
    'firstInside@error',
    'openRootfs@error',
    'openRootfs@exit',
  ]) {
    process.env.LIBCONTAINER_FAIL_AT = fault;
    const container = await on.create();
    await within(assert.rejects(container.run(on.sh('sleep 1000'))), fault);
    // Those of the faults have a monitor of their own.
    await eventually(`nobody after ${fault}`, () => members() === before);
    await container.destroy({ force: true });
  }
  delete process.env.LIBCONTAINER_FAIL_AT;
});

test('a time namespace is joined from a new user namespace', {
  requires: ['root', 'userns', 'file:/proc/self/ns/time', 'file:/usr/bin/unshare'],
  proves: ['linux.namespaces[time]', 'linux.namespaces[].path'],
  trap: 15,
}, async t => {
  const pid = await namespaceHolder(t, ['--time', '--boottime', '86400000', '--fork', '--kill-child']);
  const [child] = childrenOf([pid]);
  const theirs = readlinkSync(`/proc/${child}/ns/time`);
  assert.notEqual(theirs, readlinkSync('/proc/self/ns/time'));
  const on = await fixture(t, {
    patch: spec => {
      spec.linux.namespaces.push({ type: 'user' }, { type: 'time', path: `/proc/${child}/ns/time` });
      Object.assign(spec.linux, { uidMappings: rows, gidMappings: rows });
      return undefined;
    },
  });
  const seen = (await on.output('readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime; id -u'))
    .trim()
    .split('\n');
  assert.equal(seen[0], theirs);
  assert.ok(Number(seen[1]) > 86_400_000, seen[1]);
  assert.equal(seen[2], '0');
  // As nrunc does it.
  const alone = await new LinuxFactory({ root: on.root, monitor: false }).create(containerId(), on.config);
  const main = on.sh('readlink /proc/self/ns/time; cat /proc/self/uid_map', { stdout: 'pipe' });
  await alone.run(main);
  assert.match(
    await text(main.stdout ?? assert.fail()),
    new RegExp(`^${theirs.replace(/[[\]]/g, '\\$&')}\n +0 +${base} +1000\n$`),
  );
  await main.wait();
  await alone.destroy();
});

test('a mount namespace that is joined below a new user namespace is refused, as the kernel does', {
  requires: ['root', 'userns', 'file:/usr/bin/unshare', 'file:/usr/bin/nsenter'],
  proves: ['linux.namespaces[].path'],
  trap: 15,
}, async t => {
  const pid = await namespaceHolder(t, ['--mount']);
  const on = await fixture(t, {
    patch: spec => {
      const row = spec.linux.namespaces.find(({ type }) => type === 'mount') ?? assert.fail();
      row.path = `/proc/${pid}/ns/mnt`;
      spec.linux.namespaces.push({ type: 'user' });
      Object.assign(spec.linux, { uidMappings: rows, gidMappings: rows });
      return undefined;
    },
  });
  await assert.rejects(
    async () => {
      const container = await on.create();
      await container.run(on.process());
    },
    {
      code: 'ERR_UNSUPPORTED',
      message: /linux\.namespaces: a mount namespace that is joined, below a new user/,
    },
  );
  // Whoever is root of the younger user namespace only: all that a container's init would do there.
  const words = ['--mount', `--target=${pid}`, 'unshare', '--user', '--map-root-user', 'sh', '-c'];
  for (const act of ['mount -t tmpfs none /mnt', 'mount --make-rslave /', 'mount --bind /usr /mnt']) {
    const { status, stderr } = spawnSync('/usr/bin/nsenter', [...words, act], { encoding: 'utf8' });
    assert.notEqual(status, 0, act);
    assert.match(stderr, /permission denied|must be superuser|Operation not permitted/i, act);
  }
  const { status } = spawnSync('/usr/bin/nsenter', [...words, 'id -u'], { encoding: 'utf8' });
  assert.equal(status, 0, 'the namespaces themselves can be entered');
});
