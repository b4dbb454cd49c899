/** Containers of an ordinary user as units of that user's systemd. This file, as the user's program, makes them. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle } from '../harness/bundle.ts';
import { eventually, slowness, text } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';

const uid = 65534;
const MiB = 1 << 20;

interface Place {
  /** XDG_RUNTIME_DIR. */
  readonly directory: string;
  /** The unit of the system in which the user's systemd is. */
  readonly service: string;
  readonly bundle: string;
  /** One whose limits are not delegated. */
  readonly refused: string;
  readonly id: string;
}

const place = process.env.SYSTEMD_USER_PLACE;
if (place === undefined) tests();
else await program(JSON.parse(place) as Place);

/** `systemctl --user`, as who runs this. */
function systemctl(...words: readonly string[]): string[] {
  const said = execFileSync('systemctl', ['--user', ...words], { encoding: 'utf8' });
  return said.split('\n').filter(line => line !== '');
}

async function program({ directory, service, bundle, refused, id }: Place): Promise<void> {
  const factory = new LinuxFactory({ root: join(directory, 'state') });
  const unit = `test-${id}.scope`;
  const show = (...names: readonly string[]): string[] =>
    systemctl('show', unit, ...names.map(name => `--property=${name}`)).sort();
  const container = await factory.create(id, await loadConfig(bundle, { systemdCgroup: true }));
  try {
    await container.run(new Process({ args: ['/bin/sleep', '1000'], ...container.config.process }));
    assert.deepEqual(show('ActiveState', 'Slice', 'TasksMax', 'MemoryMax'), [
      'ActiveState=active',
      `MemoryMax=${64 * MiB}`,
      'Slice=user.slice',
      'TasksMax=20',
    ]);
    const { init_process_pid: pid, cgroup_paths: paths } = await container.state();
    const cgroup = join('/sys/fs/cgroup', readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().slice(3));
    assert.ok(cgroup.endsWith(`/${service}/user.slice/${unit}`), cgroup);
    assert.deepEqual(paths, { '': cgroup });
    const read = (file: string): string => readFileSync(join(cgroup, file), 'utf8').trim();
    assert.deepEqual([read('pids.max'), read('memory.max')], ['20', String(64 * MiB)]);

    // In the container's cgroup namespace its cgroup is the root; only systemd could move the process there.
    const second = new Process({
      ...container.config.process,
      args: ['/bin/cat', '/proc/self/cgroup'],
      stdout: 'pipe',
    });
    await container.start(second);
    assert.equal(await text(second.stdout ?? assert.fail()), '0::/\n');
    await second.wait();

    await container.set({ ...container.config.resources, pids: { limit: 30 } });
    assert.deepEqual([read('pids.max'), ...show('TasksMax')], ['30', 'TasksMax=30']);
    await container.pause();
    assert.equal(read('cgroup.freeze'), '1');
    await container.resume();
    await container.destroy({ force: true });
    assert.equal(existsSync(cgroup), false);
  } finally {
    await container.destroy({ force: true });
  }

  // What is not handed on to the user is refused by name.
  const more = await factory.create(`${id}-more`, await loadConfig(refused, { systemdCgroup: true }));
  await assert.rejects(more.run(new Process({ args: ['/bin/true'], ...more.config.process })), {
    code: 'ERR_CGROUP_CONTROLLER',
    message: /hugepageLimits\[0\]: wanted hugetlb, available: .*memory.*, delegated: /,
  });
  await more.destroy({ force: true });
  assert.deepEqual(await factory.list(), []);
  await eventually(
    'no unit',
    () => systemctl('list-units', '--all', '--plain', '--no-legend', 'test-*').length === 0,
  );
}

interface UserSystemd {
  readonly directory: string;
  readonly service: string;
}

/** As user@.service makes one: delegated memory and pids, which is all that Debian's gives; ready when it says so. */
function userSystemd(t: TestContext): UserSystemd {
  const directory = `/run/test-user-${process.pid}`;
  const service = `test-user-${process.pid}.service`;
  mkdirSync(directory, { mode: 0o700 });
  // Its own units and no others: reading all of a machine's takes a slow guest a minute.
  mkdirSync(join(directory, 'units'));
  writeFileSync(join(directory, 'units/basic.target'), '[Unit]\nDescription=All that there is\n');
  for (const path of [directory, join(directory, 'units')]) chownSync(path, uid, uid);
  t.after(() => {
    execFileSync('systemctl', ['stop', service], { stdio: 'ignore' });
    rmSync(directory, { recursive: true, force: true });
  });
  const words = ['--quiet', '--collect', `--unit=${service}`, `--uid=${uid}`, `--gid=${uid}`];
  const properties = ['Type=notify', 'Delegate=pids memory', 'TimeoutStartSec=300', 'KillSignal=SIGKILL'];
  execFileSync('systemd-run', [
    ...words,
    ...properties.map(one => `--property=${one}`),
    ...[`--setenv=XDG_RUNTIME_DIR=${directory}`, `--setenv=HOME=${directory}`],
    ...[`--setenv=SYSTEMD_UNIT_PATH=${directory}/units`, '--setenv=SYSTEMD_GENERATOR_PATH=/nonexistent'],
    '--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent',
    ...['/lib/systemd/systemd', '--user', '--unit=basic.target'],
  ]);
  return { directory, service };
}

/** In a user namespace with the one id that is the user's. */
function bundleOf(t: TestContext, cgroupsPath: string, resources: object): string {
  const bundle = makeBundle(t, {
    process: { args: ['/bin/sleep', '1000'] },
    patch: spec => {
      spec.linux.namespaces.push({ type: 'user' });
      const own = [{ containerID: 0, hostID: uid, size: 1 }];
      Object.assign(spec.linux, { uidMappings: own, gidMappings: own, resources, cgroupsPath });
      for (const row of spec.mounts)
        if (row.options !== undefined) row.options = row.options.filter(one => !/^[ug]id=/.test(one));
      return spec;
    },
  });
  chmodSync(bundle, 0o755);
  chmodSync(join(bundle, 'config.json'), 0o644);
  return bundle;
}

/** A Node program of the user, whose systemd is, or is not, there. */
function asUser(directory: string, words: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const { PATH = '', LIBCONTAINER_TEST_SLOWNESS } = process.env;
  const env = { PATH, HOME: directory, XDG_RUNTIME_DIR: directory, LIBCONTAINER_TEST_SLOWNESS, ...more };
  return spawnSync(process.execPath, words, {
    uid,
    gid: uid,
    env,
    cwd: '/',
    encoding: 'utf8',
    timeout: 30_000 * slowness,
  });
}

function tests(): void {
  test("an ordinary user's container is a scope of its own systemd: limits, exec, update, pause, and nothing left", {
    proves: ['linux.cgroupsPath', 'linux.resources.pids.limit', 'linux.resources.memory.limit'],
    requires: ['root', 'systemd', 'cgroup-v2', 'userns'],
    timeoutMs: 60_000,
  }, t => {
    const id = containerId('user');
    const bundle = bundleOf(t, `user.slice:test:${id}`, {
      pids: { limit: 20 },
      memory: { limit: 64 * MiB },
    });
    const hugepageLimits = [{ pageSize: '2MB', limit: 2 * MiB }];
    const refused = bundleOf(t, `user.slice:test:${id}-more`, { hugepageLimits });
    const { directory, service } = userSystemd(t);
    const SYSTEMD_USER_PLACE = JSON.stringify({ directory, service, bundle, refused, id });
    const { status, stderr } = asUser(directory, [fileURLToPath(import.meta.url)], { SYSTEMD_USER_PLACE });
    assert.equal(status, 0, stderr);
  });

  test('an ordinary user without a systemd is told so, and nothing is made', {
    requires: ['root', 'systemd', 'cgroup-v2', 'userns'],
  }, t => {
    const directory = `/run/test-user-${process.pid}-none`;
    mkdirSync(directory, { mode: 0o700 });
    chownSync(directory, uid, uid);
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const nrunc = [
      join(projectRoot, 'dist/nrunc.cjs'),
      '--root',
      join(directory, 'state'),
      '--systemd-cgroup',
    ];
    const bundle = bundleOf(t, '', { pids: { limit: 20 } });
    const { status, stderr } = asUser(directory, [...nrunc, 'run', '--bundle', bundle, containerId('user')]);
    assert.notEqual(status, 0);
    assert.match(stderr, /the systemd of this user/);
    assert.equal(existsSync(join(directory, 'state')), false);
  });
}
