/** What a container sees in /sys/fs/cgroup: its own cgroups and no others, with and without a cgroup namespace. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';
import { onV2 } from './limits-random.ts';

interface Options {
  readonly systemdCgroup?: boolean;
  readonly namespaced: boolean;
  readonly writable: boolean;
  readonly uid?: number;
}

/** Runs a shell text in a container and gives its output, and what the host says about its cgroups while it waits. */
async function inside(
  t: TestContext,
  script: string,
  { systemdCgroup = false, namespaced, writable, uid = 0 }: Options,
) {
  const id = containerId();
  const bundle = makeBundle(t, {
    process: { args: ['/bin/sh', '-c', `${script}; echo END; read line`], user: { uid, gid: uid } },
    patch: spec => {
      spec.linux.resources.pids = { limit: 123 };
      if (!namespaced) spec.linux.namespaces = spec.linux.namespaces.filter(n => n.type !== 'cgroup');
      for (const mount of spec.mounts)
        if (mount.type === 'cgroup' && writable)
          mount.options = (mount.options ?? []).filter(o => o !== 'ro');
      return spec;
    },
  });
  const config = await loadConfig(bundle, { systemdCgroup });
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(id, config);
  t.after(() => container.destroy({ force: true }));
  const process = new Process({ args: ['/bin/true'], ...config.process, stdin: 'pipe', stdout: 'pipe' });
  await container.run(process);
  const { cgroup_paths: paths } = await container.state();
  let output = '';
  const { stdout } = process;
  assert.ok(stdout !== undefined);
  for await (const part of stdout) {
    output += String(part);
    if (output.endsWith('END\n')) break;
  }
  return { paths, lines: output.trim().split('\n').slice(0, -1), container };
}

// The directory of the pids controller; on v2 there is one for all.
const own = onV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
const script = [
  `grep -c . ${own}/cgroup.procs`,
  `cat ${own}/pids.max`,
  `mkdir ${own}/sub 2>/dev/null && echo made || echo refused`,
  `rmdir ${own}/sub 2>/dev/null`,
  "grep -c ' - cgroup' /proc/self/mountinfo",
  'awk \'$5 ~ "^/sys/fs/cgroup" && / - cgroup/ { print $4 }\' /proc/self/mountinfo | sort -u',
].join('; ');

for (const [systemdCgroup, namespaced, writable] of [false, true].flatMap(unit =>
  [true, false].flatMap(namespaced => [true, false].map(writable => [unit, namespaced, writable] as const)),
))
  test(`the container's own cgroups${systemdCgroup ? ' of a unit of systemd' : ''}, ${namespaced ? 'in a cgroup namespace' : 'bound'}, ${writable ? 'read-write' : 'read-only'}`, {
    requires: ['root', 'controller:pids', ...(systemdCgroup ? (['systemd'] as const) : [])],
  }, async t => {
    const { paths, lines } = await inside(t, script, { systemdCgroup, namespaced, writable });
    const [processes, limit, made, mounts, ...roots] = lines;
    assert.ok(Number(processes) >= 1, 'its own processes');
    assert.equal(limit, '123', 'its own limits');
    assert.equal(made, writable ? 'made' : 'refused');
    // The unified hierarchy of a hybrid host is systemd's own matter, also with runc.
    const hierarchies = new Set(Object.keys(paths).flatMap(key => (key === '' ? [] : [paths[key]]))).size;
    assert.equal(Number(mounts), onV2 ? 1 : hierarchies);
    // As mountinfo shows it from inside: the namespace hides where the cgroup is.
    for (const root of roots)
      assert.equal(
        root,
        namespaced
          ? '/'
          : Object.values(paths)[0]?.replace(onV2 ? '/sys/fs/cgroup' : /^\/sys\/fs\/cgroup\/[^/]+/, ''),
      );
  });

test('v2: who runs in a container with a writable cgroup owns it, and none of its limits', {
  requires: ['root', 'cgroup-v2', 'controller:pids'],
}, async t => {
  const steps = [
    'mkdir /sys/fs/cgroup/sub && echo made',
    'echo 0 > /sys/fs/cgroup/sub/cgroup.procs && echo moved',
    '(echo 5 > /sys/fs/cgroup/pids.max) 2>/dev/null || echo refused',
    'echo 0 > /sys/fs/cgroup/cgroup.procs && rmdir /sys/fs/cgroup/sub && echo removed',
  ].join('; ');
  const { lines, paths, container } = await inside(t, steps, { namespaced: true, writable: true, uid: 1000 });
  assert.deepEqual(lines, ['made', 'moved', 'refused', 'removed']);
  const directory = paths[''] ?? '';
  assert.equal(statSync(directory).uid, 1000);
  for (const name of readFileSync('/sys/kernel/cgroup/delegate', 'utf8').trim().split('\n')) {
    const stat = statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat !== undefined) assert.equal(stat.uid, 1000, name);
  }
  for (const name of ['pids.max', 'memory.max', 'cgroup.freeze', 'cgroup.kill']) {
    const stat = statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat !== undefined) assert.equal(stat.uid, 0, name);
  }
  await container.destroy({ force: true });

  const closed = await inside(t, 'true', { namespaced: true, writable: false, uid: 1000 });
  assert.equal(statSync(closed.paths[''] ?? '').uid, 0, 'read-only: it stays ours');
});
