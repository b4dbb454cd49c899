/** state.json, load, list: what one process leaves, another finds. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LibcontainerError, LinuxFactory } from '../../lib/index.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

test('the record: keys of runc, modes, pid and start time', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.sh('sleep 1000');
  await container.start(process);
  const path = join(container.directory, 'state.json');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(container.directory).mode & 0o777, 0o711);
  assert.ok(statSync(join(container.directory, 'exec.fifo')).isFIFO());
  const record: { [key: string]: unknown } = JSON.parse(readFileSync(path, 'utf8'));
  const stat = readFileSync(`/proc/${process.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  assert.equal(record.id, container.id);
  assert.equal(record.init_process_pid, process.pid);
  assert.equal(record.init_process_start, Number(fields[19]));
  assert.equal(record.rootless, false);
  assert.ok(Math.abs(Date.parse(String(record.created)) - Date.now()) < 60_000);
  const state = await container.state();
  assert.equal(state.namespace_paths.NEWPID, `/proc/${process.pid}/ns/pid`);
  assert.deepEqual(state.cgroup_paths, record.cgroup_paths);
  assert.deepEqual(state.config, on.config);
  await container.destroy();
});

test('another factory finds it, starts it, signals it, destroys it', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.sh('exec sleep 1000');
  await container.start(process);
  const other = await new LinuxFactory({ root: on.root }).load(container.id);
  assert.equal(await other.status(), 'created');
  assert.deepEqual(other.config, on.config);
  const stopped = new Promise<void>(resolve => other.on('stopped', () => resolve()));
  await other.exec();
  assert.equal(await container.status(), 'running');
  await assert.rejects(container.exec(), {
    code: 'ERR_CONTAINER_STARTED',
    message: 'cannot start an already running container',
  });
  await other.signal('TERM', { all: true });
  await other.signal('KILL');
  await within(stopped, 'stopped');
  await process.wait();
  await other.destroy();
  await assert.rejects(container.destroy(), { code: 'ERR_CONTAINER_NOT_EXIST' });
});

test('a pid that belongs to another process now is a stopped container', {
  trap: 25,
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.process();
  await container.run(process);
  await process.wait();
  const path = join(container.directory, 'state.json');
  const text = readFileSync(path, 'utf8').replace(
    /"init_process_pid":\d+/,
    `"init_process_pid":${globalThis.process.pid}`,
  );
  writeFileSync(path, text);
  const loaded = await on.factory.load(container.id);
  assert.equal(await loaded.status(), 'stopped');
  assert.equal((await loaded.ociState()).pid, 0);
  await assert.rejects(loaded.signal('KILL'), { code: 'ERR_CONTAINER_NOT_RUNNING' });
  await loaded.destroy();
});

test('list() shows broken entries and never fails for one', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const good = readFileSync(join(container.directory, 'state.json'), 'utf8');
  const broken: { readonly [id: string]: string | undefined } = {
    empty: '',
    missing: undefined,
    torn: good.slice(0, good.length / 2),
    'wrong-id': good,
    'wrong-version': good.replace('"version":1', '"version":99').replace(container.id, 'wrong-version'),
    'wrong-paths': good
      .replace(container.id, 'wrong-paths')
      .replace(/"cgroup_paths":\{[^}]*\}/, '"cgroup_paths":{"cpu":"/etc"}'),
    'zero-bytes': '\0'.repeat(100),
  };
  for (const [id, text] of Object.entries(broken)) {
    mkdirSync(join(on.root, id));
    if (text !== undefined) writeFileSync(join(on.root, id, 'state.json'), text);
  }
  writeFileSync(join(on.root, 'a-file'), '');
  const rows = await on.factory.list();
  assert.deepEqual(
    rows.map(row => [row.id, row.status]),
    [...Object.keys(broken), container.id]
      .sort()
      .map(id => [id, id === container.id ? 'running' : 'corrupt']),
  );
  for (const row of rows) if (row.status === 'corrupt') assert.ok(row.error instanceof Error, row.id);
  for (const id of Object.keys(broken)) {
    await assert.rejects(
      on.factory.load(id),
      { code: /^ERR_(STATE_CORRUPT|CONTAINER_NOT_EXIST|CGROUP)$/ },
      id,
    );
    rmSync(join(on.root, id), { recursive: true });
  }
  await container.destroy({ force: true });
});

test('IDs that are none are refused before a path is made of them', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  for (const id of ['', '.', '..', 'a/b', '../x', '-x', 'a b', 'ü', 'a\n', 'a\0', 'x'.repeat(256)]) {
    await assert.rejects(on.factory.create(id, on.config), { code: 'ERR_ID_INVALID' }, JSON.stringify(id));
    await assert.rejects(on.factory.load(id), { code: 'ERR_ID_INVALID' }, JSON.stringify(id));
  }
  assert.throws(() => new LinuxFactory({ root: '/' }), { code: 'ERR_STATE_ROOT' });
});

test('a root that others may write to is refused', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const root = join(on.root, '..', `open-${process.pid}`);
  mkdirSync(root, { mode: 0o777 });
  t.after(() => rmSync(root, { recursive: true }));
  chmodSync(root, 0o777);
  const container = await new LinuxFactory({ root }).create('a', on.config);
  await assert.rejects(container.run(on.process()), { code: 'ERR_STATE_ROOT' });
});

test('set() changes the limits, records them, and writes the old ones back when one is refused', {
  requires: ['root', 'controller:pids', 'controller:memory'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  await container.run(on.sh('sleep 1000'));
  const { paths, file } = pidsFile(await container.state());
  await container.set({ ...container.config.resources, pids: { limit: 77 } });
  assert.equal(readFileSync(file, 'utf8').trim(), '77');
  assert.equal((await on.factory.load(container.id)).config.resources.pids?.limit, 77);
  assert.ok(paths);
  await assert.rejects(
    container.set({ ...container.config.resources, pids: { limit: 78 }, cpu: { cpus: '4095' } }),
    (error: Error & { code?: string }) => {
      assert.match(error.code ?? '', /^ERR_CGROUP/);
      return true;
    },
  );
  assert.equal(readFileSync(file, 'utf8').trim(), '77');
  assert.equal(container.config.resources.pids?.limit, 77);
  await container.destroy({ force: true });
});

function pidsFile(state: { readonly cgroup_paths: { readonly [name: string]: string } }): {
  readonly paths: boolean;
  readonly file: string;
} {
  const directory = state.cgroup_paths.pids ?? state.cgroup_paths[''];
  assert.ok(directory);
  return { paths: true, file: join(directory, 'pids.max') };
}

test('a start whose process was killed is found half-made: reconcile, create and destroy remove it', {
  trap: [2, 25],
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const { id, directory } = container;
  const process = on.sh('sleep 1000');
  await container.start(process);
  // As if the starting process had died before init was recorded: its cgroups and a process in them are there.
  const path = join(directory, 'state.json');
  const halfMade = (): void =>
    writeFileSync(
      path,
      readFileSync(path, 'utf8')
        .replace(/"init_process_pid":\d+/, '"init_process_pid":0')
        .replace(/"creator":\{[^}]*\}/, '"creator":{"pid":1,"start":1}'),
    );
  halfMade();
  const loaded = await on.factory.load(id);
  assert.equal(await loaded.status(), 'stopped');
  assert.deepEqual(await on.factory.reconcile(), [id]);
  assert.deepEqual(await process.wait(), { kind: 'signaled', signal: 'SIGKILL', coreDumped: false });
  assert.deepEqual(await on.factory.list(), []);
  await container.destroy({ force: true });

  const second = await on.create();
  const abandoned = on.process();
  await second.start(abandoned);
  const record = join(second.directory, 'state.json');
  writeFileSync(
    record,
    readFileSync(record, 'utf8')
      .replace(/"init_process_pid":\d+/, '"init_process_pid":0')
      .replace(/"creator":\{[^}]*\}/, `"creator":{"pid":${globalThis.process.pid},"start":0}`),
  );
  const again = await new LinuxFactory({ root: on.root }).create(second.id, on.config);
  await abandoned.wait();
  const fresh = on.process();
  await again.run(fresh);
  await fresh.wait();
  await again.destroy();
  assert.deepEqual(await on.factory.list(), []);
});

test('a full state disk: refused with the file system named, nothing left', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t);
  const disk = makeDirectory(t);
  // From no room for the first record to room for one record but not for its successor.
  for (const size of ['4k', '8k', '12k', '16k', '24k', '32k']) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', disk]);
    try {
      const container = await new LinuxFactory({ root: join(disk, 'root') }).create(
        `full-${size}`,
        on.config,
      );
      const run = on.process();
      try {
        await container.run(run);
        await run.wait();
      } catch (error) {
        assert.ok(error instanceof LibcontainerError);
        assert.equal(error.code, 'ERR_STATE_ROOT', `${size}: ${error.message}`);
        assert.match(error.hint, /is full$/);
      }
      // Also needs no room.
      await container.destroy();
      const root = join(disk, 'root');
      assert.deepEqual(existsSync(root) ? readdirSync(root) : [], [], size);
    } finally {
      execFileSync('umount', [disk]);
    }
  }
});
