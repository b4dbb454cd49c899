/** nrunc ps, pause, resume, update, events, plan, features, spec. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Cli, type CliOptions, cli, errorMessage } from './cli-fixture.ts';

const ok = { code: 0, signal: null, stdout: '', stderr: '' };

async function running(t: TestContext, options: CliOptions = {}): Promise<Cli> {
  const nrunc = cli(t, options);
  const result = await nrunc(['run', '-d', '-b', nrunc.bundle, nrunc.id]);
  assert.equal(result.code, 0, result.stderr);
  return nrunc;
}

test('ps shows the processes of the container only', { trap: 23, requires: ['root'] }, async t => {
  const nrunc = await running(t, { process: { args: ['/bin/sh', '-c', 'sleep 1000 & wait'] } });
  const { id } = nrunc;
  const pids = await eventually('two processes', async () => {
    const { stdout } = await nrunc(['ps', '--format', 'json', id]);
    assert.match(stdout, /^\[\d+(,\d+)*\]\n$/);
    const list: number[] = JSON.parse(stdout);
    return list.length === 2 && list;
  });
  const table = (await nrunc(['ps', id])).stdout.trimEnd().split('\n');
  assert.match(table[0] ?? '', /^UID +PID +PPID +C STIME TTY +TIME CMD$/);
  assert.equal(table.length, 3);
  const own = (await nrunc(['ps', id, '-o', 'pid,args', '-A'])).stdout;
  assert.match(
    own,
    new RegExp(`^ *PID COMMAND\\n *${pids[0]} /bin/sh -c sleep 1000 & wait\\n *${pids[1]} sleep 1000\\n$`),
  );
  assert.equal(errorMessage(await nrunc(['ps', id, '-o', 'args'])), "couldn't find PID field in ps output");
  assert.match(errorMessage(await nrunc(['ps', id, '--nonsense'])), /^exit status 1: /);
  assert.equal(errorMessage(await nrunc(['ps', '-f', 'xml', id])), 'invalid format option');
});

test('pause and resume change the status, and a paused container can be killed', {
  requires: ['root'],
}, async t => {
  const nrunc = await running(t);
  const { id } = nrunc;
  const status = async () => JSON.parse((await nrunc(['state', id])).stdout).status;
  assert.deepEqual(await nrunc(['pause', id]), ok);
  assert.equal(await status(), 'paused');
  assert.equal((await nrunc(['pause', id])).code, 1);
  const early = await nrunc(['delete', id]);
  assert.equal(errorMessage(early), `cannot delete container ${id} that is not stopped: paused`);
  assert.deepEqual(await nrunc(['resume', id]), ok);
  assert.equal(await status(), 'running');
  assert.equal(errorMessage(await nrunc(['resume', id])), 'container not paused');
  assert.deepEqual(await nrunc(['pause', id]), ok);
  assert.deepEqual(await nrunc(['kill', id, 'KILL']), ok);
  await eventually('stopped', async () => (await status()) === 'stopped');
  assert.equal(errorMessage(await nrunc(['pause', id])), 'container not running');
  assert.deepEqual(await nrunc(['ps', '-f', 'json', id]), { ...ok, stdout: 'null\n' });
  assert.equal(
    errorMessage(await nrunc(['events', '--stats', id])),
    `container with id ${id} is not running`,
  );
  assert.equal(errorMessage(await nrunc(['update', '--pids-limit', '5', id])), 'container not running');
});

test('update changes limits, keeps the rest and records them', {
  requires: ['root', 'controller:pids', 'controller:cpu', 'controller:memory'],
}, async t => {
  const nrunc = await running(t, {
    patch: spec => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 20 }, memory: { limit: 64 << 20 } };
      return spec;
    },
  });
  const { id, root } = nrunc;
  const recorded = () => JSON.parse(readFileSync(join(root, id, 'state.json'), 'utf8')).config.resources;
  assert.deepEqual(
    await nrunc(['update', '--pids-limit', '30', '--cpu-quota', '50000', '--cpu-period=100000', id]),
    ok,
  );
  assert.deepEqual(recorded().pids, { limit: 30 });
  assert.deepEqual(recorded().memory, { limit: 64 << 20 });
  const stats = JSON.parse((await nrunc(['events', '--stats', id])).stdout);
  assert.equal(stats.data.pids.limit, 30);
  assert.equal(stats.data.memory.usage.limit, 64 << 20);

  const input = JSON.stringify({ memory: { limit: 96 << 20 }, pids: { limit: 0 } });
  assert.deepEqual(await nrunc(['update', '--resources', '-', id], { input }), ok);
  const file = join(makeDirectory(t), 'resources.json');
  writeFileSync(file, '{"cpu": {"shares": 512}}');
  assert.deepEqual(await nrunc(['update', '-r', file, id]), ok);
  const after = recorded();
  assert.equal(after.memory.limit, 96 << 20);
  assert.equal(after.pids.limit, 30, '0 means unchanged');
  assert.equal(after.cpu.shares, 512);
  assert.equal(after.cpu.quota, 50_000);
  const limit = JSON.parse((await nrunc(['events', '--stats', id])).stdout).data.memory.usage.limit;
  assert.equal(limit, 96 << 20);

  for (const [words, message] of [
    [['--memory', '100x'], "invalid value for memory: invalid size: '100x'"],
    [['--l3-cache-schema', 'L3:0=f'], /linux.intelRdt of a container that was made without/],
    [['-r', '/nosuch'], 'open /nosuch: no such file or directory'],
  ] as const) {
    const result = await nrunc(['update', ...words, id]);
    assert.equal(result.code, 1);
    if (typeof message === 'string') assert.equal(errorMessage(result), message);
    else assert.match(errorMessage(result), message);
  }
  const wrong = await nrunc(['update', '-r', '-', id], { input: '{"memory": {"limit": "much"}}' });
  assert.match(errorMessage(wrong), /memory\.limit/);
});

test('events prints a line of JSON for each interval until the container stops', {
  trap: 23,
  requires: ['root'],
}, async t => {
  const nrunc = await running(t);
  const { id } = nrunc;
  const events = nrunc.start(['events', '--interval', '20ms', id]);
  await eventually('two lines', () => events.stdout().split('\n').length > 2);
  assert.deepEqual(await nrunc(['kill', id, 'KILL']), ok);
  const { code, stdout, stderr } = await events.ended();
  assert.equal(code, 0, stderr);
  for (const line of stdout.trimEnd().split('\n')) {
    const event = JSON.parse(line);
    assert.deepEqual(Object.keys(event), ['type', 'id', 'data']);
    assert.deepEqual(Object.keys(event.data), [
      'cpu',
      'cpuset',
      'memory',
      'pids',
      'blkio',
      'hugetlb',
      'intel_rdt',
      'network_interfaces',
    ]);
    assert.deepEqual([event.type, event.id], ['stats', id]);
  }
  for (const interval of ['0s', '-1s'])
    assert.match(
      errorMessage(await nrunc(['events', '--interval', interval, id])),
      /duration interval must be greater than 0/,
    );
});

test('events tells of an OOM kill', { requires: ['root', 'controller:memory'] }, async t => {
  const nrunc = await running(t, {
    patch: spec => {
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 16 << 20, swap: 16 << 20 } };
      return spec;
    },
  });
  const { id } = nrunc;
  const events = nrunc.start(['events', '--interval', '1h', id]);
  // The watch is there when its process has read the state and waits: its descriptors tell.
  await eventually(
    'the watch',
    () => existsSync(`/proc/${events.process.pid}`) && watches(Number(events.process.pid)),
  );
  const eater = await nrunc(['exec', id, 'sh', '-c', 'tail /dev/zero']);
  assert.equal(eater.code, 137, eater.stderr);
  const line = `{"type":"oom","id":"${id}"}\n`;
  await eventually('the oom line', () => events.stdout().startsWith(line));
  assert.deepEqual(await nrunc(['kill', id, '9']), ok);
  assert.equal((await events.ended()).code, 0);
});

/** memory.events or memory.oom_control is open, so that the next OOM is told. */
function watches(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some(fd => {
      try {
        return /memory\.(events|oom_control)$/.test(readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

test('plan prints the steps of a bundle and of a container and makes nothing', {
  requires: ['root'],
}, async t => {
  const nrunc = cli(t);
  const { id, bundle } = nrunc;
  const text = await nrunc(['plan', '-b', bundle]);
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /^clone3 /);
  assert.match(text.stdout, /^ +\d+ {2}pivotRoot/m);
  assert.match(text.stdout, /^ +\d+ {2}exec +.*args=\[\/bin\/sleep 1000\]/m);
  assert.doesNotMatch(text.stdout, /waitStart/);
  assert.equal((await nrunc(['list', '-q'])).stdout, '');
  await nrunc(['create', '-b', bundle, id]);
  const json = JSON.parse((await nrunc(['plan', '--json', '--wait', id])).stdout);
  const steps = json.steps.map((step: { step: string }) => step.step);
  assert.equal(steps.at(-1), 'exec');
  assert.ok(steps.includes('waitStart'));
  assert.equal((await nrunc(['plan', '-b', '/nosuch'])).code, 1);
});

test('spec writes what run accepts, and never over a file', { requires: ['root'] }, async t => {
  const nrunc = cli(t);
  const directory = makeDirectory(t);
  assert.deepEqual(await nrunc(['spec', '--bundle', directory]), ok);
  const text = readFileSync(join(directory, 'config.json'), 'utf8');
  assert.equal(text, JSON.stringify(JSON.parse(text), undefined, '\t'));
  const again = await nrunc(['spec'], { cwd: directory });
  assert.equal(again.code, 1);
  assert.equal(errorMessage(again), 'File config.json exists. Remove it first');
});

test('features prints the structure of the specification', {
  proves: [
    'features.ociVersionMin',
    'features.ociVersionMax',
    'features.hooks',
    'features.annotations',
    'features.linux.cgroup',
    'features.linux.apparmor',
    'features.linux.selinux',
    'features.linux.intelRdt',
    'features.linux.memoryPolicy',
    'features.linux.mountExtensions.idmap',
    'features.linux.netDevices',
    'features.potentiallyUnsafeConfigAnnotations',
  ],
  requires: ['root'],
}, async t => {
  const nrunc = cli(t);
  const { stdout } = await nrunc(['features']);
  const document = JSON.parse(stdout);
  assert.equal(stdout, `${JSON.stringify(document, undefined, 4)}\n`);
  assert.equal(document.ociVersionMin, '1.0.0');
  assert.ok(document.mountOptions.includes('rbind'));
  assert.equal(document.ociVersionMax, '1.3.0');
  assert.equal(document.hooks.length, 6);
  assert.deepEqual(document.potentiallyUnsafeConfigAnnotations, ['org.systemd.property.']);
  const { linux } = document;
  assert.ok(linux.namespaces.includes('cgroup'));
  assert.deepEqual([linux.cgroup.v1, linux.cgroup.v2], [true, true]);
  for (const { enabled } of [linux.apparmor, linux.selinux, linux.intelRdt])
    assert.equal(typeof enabled, 'boolean');
  assert.ok(linux.memoryPolicy.modes.includes('MPOL_BIND'));
  assert.ok(linux.memoryPolicy.flags.includes('MPOL_F_STATIC_NODES'));
  assert.deepEqual([linux.mountExtensions.idmap, linux.netDevices], [{ enabled: true }, { enabled: true }]);
  assert.match(document.annotations['io.github.seccomp.libseccomp.version'], /^\d+\.\d+/);
});
