/** linux.* of the specification that the kernel keeps per process: time namespaces, memory policy, personality. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { loadConfig } from '../../lib/index.ts';
import { makeBundle, type SpecDocument } from '../harness/bundle.ts';
import { text, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

/** A host process in a time namespace of its own; gone at the end of the test. */
async function timeHolder(t: TestContext): Promise<number> {
  const words = ['--time', '--fork', '--boottime', '7000000', 'sh', '-c', 'echo $$; exec sleep 1000'];
  const child = spawn('/usr/bin/unshare', words, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const gone = waitFor(child, 'exit', 30_000);
  t.after(async () => {
    process.kill(-(child.pid ?? assert.fail()), 'SIGKILL');
    await gone;
  });
  const [line] = await waitFor<[Buffer]>(child.stdout, 'data');
  child.stdout.destroy();
  return Number(String(line));
}

const withTime =
  (row: object, offsets?: object) =>
  (spec: SpecDocument): undefined => {
    spec.linux.namespaces.push({ type: 'time', ...row });
    if (offsets !== undefined) Object.assign(spec.linux, { timeOffsets: offsets });
  };
const uptime = (line: string): number => Number(line.split(' ')[0]);

test('time namespace: offsets hold for the first process, for an exec, and not outside', {
  requires: ['rootless', 'file:/proc/self/timens_offsets'],
  proves: [
    'linux.namespaces[time]',
    'linux.timeOffsets',
    'linux.timeOffsets.*.secs',
    'linux.timeOffsets.*.nanosecs',
  ],
  trap: 15,
}, async t => {
  const offsets = {
    boottime: { secs: 9_000_000, nanosecs: 5 },
    monotonic: { secs: -1, nanosecs: 999_999_999 },
  };
  const on = await fixture(t, { patch: withTime({}, offsets) });
  const container = await on.create();
  // One write: a pipe has no lines.
  const look = 'echo "$(cat /proc/uptime /proc/self/timens_offsets; readlink /proc/self/ns/time)"';
  const first = on.sh(`${look}; read line`, { stdin: 'pipe', stdout: 'pipe' });
  await container.run(first);
  const [shown] = await waitFor<[Buffer]>(first.stdout ?? assert.fail(), 'data');
  const host = uptime(readFileSync('/proc/uptime', 'utf8'));
  const [up = '', monotonic = '', boottime = '', own = ''] = String(shown).trim().split('\n');
  assert.ok(Math.abs(uptime(up) - host - 9_000_000) < 600, up);
  assert.match(monotonic, /^monotonic +-1 +999999999$/);
  assert.match(boottime, /^boottime +9000000 +5$/);
  const theirs = readlinkSync(`/proc/${first.pid}/ns/time`);
  assert.equal(own, theirs);
  assert.notEqual(theirs, readlinkSync('/proc/self/ns/time'));
  assert.equal(readlinkSync(`/proc/${first.pid}/ns/time_for_children`), theirs);

  const second = on.sh(look, { stdout: 'pipe' });
  await container.start(second);
  const lines = (await text(second.stdout ?? assert.fail())).trim().split('\n');
  assert.ok(Math.abs(uptime(lines[0] ?? '') - host - 9_000_000) < 600, lines[0]);
  assert.equal(lines[3], theirs);
  await second.wait();
  first.stdin?.end('\n');
  first.stdout?.destroy();
  await first.wait();
  await container.destroy();
  assert.ok(uptime(readFileSync('/proc/uptime', 'utf8')) < 9_000_000);
});

test('time namespace: without offsets it is a new one; by path it is that of another process', {
  requires: ['root', 'file:/proc/self/timens_offsets', 'file:/usr/bin/unshare'],
  proves: ['linux.namespaces[].path'],
  trap: 15,
}, async t => {
  const holder = await timeHolder(t);
  const fresh = await fixture(t, { patch: withTime({}) });
  const own = (await fresh.output('readlink /proc/self/ns/time')).trim();
  assert.notEqual(own, readlinkSync('/proc/self/ns/time'));
  const joined = await fixture(t, { patch: withTime({ path: `/proc/${holder}/ns/time` }) });
  const [link = '', up = ''] = (await joined.output('readlink /proc/self/ns/time; cat /proc/uptime')).split(
    '\n',
  );
  assert.equal(link, readlinkSync(`/proc/${holder}/ns/time`));
  assert.ok(uptime(up) > 7_000_000, up);
});

/** The default policy of the process: proc_pid_numa_maps(5) tells it of each range that has none of its own. */
const policy =
  "awk '{ print $2 }' /proc/self/numa_maps | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'";
for (const [mode, flags, shown] of [
  ['MPOL_BIND', [], 'bind:0'],
  ['MPOL_INTERLEAVE', ['MPOL_F_STATIC_NODES'], 'interleave=static:0'],
  ['MPOL_PREFERRED', ['MPOL_F_RELATIVE_NODES'], 'prefer=relative:0'],
] as const)
  test(`memoryPolicy ${mode} ${flags.join(' ')}: the first process has it, and one that is exec'd`, {
    requires: ['rootless', 'file:/proc/self/numa_maps'],
    proves: ['linux.memoryPolicy.mode', 'linux.memoryPolicy.nodes', 'linux.memoryPolicy.flags'],
    trap: 24,
  }, async t => {
    const on = await fixture(t, {
      patch: spec => void Object.assign(spec.linux, { memoryPolicy: { mode, nodes: '0', flags } }),
    });
    const container = await on.create();
    const first = on.sh(`${policy}; read line`, { stdin: 'pipe', stdout: 'pipe' });
    await container.run(first);
    const [line] = await waitFor<[Buffer]>(first.stdout ?? assert.fail(), 'data');
    assert.equal(String(line).trim(), shown);
    const second = on.sh(policy, { stdout: 'pipe' });
    await container.start(second);
    assert.equal((await text(second.stdout ?? assert.fail())).trim(), shown);
    await second.wait();
    first.stdin?.end('\n');
    first.stdout?.destroy();
    await first.wait();
    await container.destroy();
  });

test('memoryPolicy: a node that is not there is an error of the start, and nothing is left', {
  requires: ['rootless', 'file:/proc/self/numa_maps'],
}, async t => {
  const memoryPolicy = { mode: 'MPOL_BIND', nodes: '1000' };
  const on = await fixture(t, { patch: spec => void Object.assign(spec.linux, { memoryPolicy }) });
  const container = await on.create();
  await assert.rejects(container.run(on.process()), (error: Error & { step?: string; syscall?: string }) => {
    assert.deepEqual([error.step, error.syscall], ['memoryPolicy', 'set_mempolicy']);
    return true;
  });
});

test('personality: LINUX32 shows a 32-bit machine, also to an exec; flags are refused', {
  requires: ['rootless'],
  proves: ['linux.personality.domain', 'linux.personality.flags'],
  trap: 24,
}, async t => {
  const patch = (personality: object) => (spec: SpecDocument) =>
    void Object.assign(spec.linux, { personality });
  const on = await fixture(t, { patch: patch({ domain: 'LINUX32' }) });
  const container = await on.create();
  const first = on.sh('uname -m; read line', { stdin: 'pipe', stdout: 'pipe' });
  await container.run(first);
  const [line] = await waitFor<[Buffer]>(first.stdout ?? assert.fail(), 'data');
  assert.match(String(line), /^(i686|armv8l)\n$/);
  const second = on.sh('uname -m', { stdout: 'pipe' });
  await container.start(second);
  assert.equal(await text(second.stdout ?? assert.fail()), String(line));
  await second.wait();
  first.stdin?.end('\n');
  first.stdout?.destroy();
  await first.wait();
  await container.destroy();
  await assert.rejects(loadConfig(makeBundle(t, { patch: patch({ domain: 'LINUX', flags: ['X'] }) })), {
    code: 'ERR_UNSUPPORTED',
  });
});
