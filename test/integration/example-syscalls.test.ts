/** examples/syscall-handlers.ts, run by a user without any capability. */
import assert from 'node:assert/strict';
import { unprivileged } from '../../examples/syscall-handlers.ts';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import './fixture.ts';

const script = `exec 2>&1
cd /tmp
mknod null c 1 3 && echo gone >null && ls -ln null
mknod null c 1 3
mknod mem c 1 1
mknod /etc/null c 1 3
mkdir m
mount -t tmpfs none m && grep ' /tmp/m ' /proc/mounts && touch m/x && ls m
mount -t proc none m
mount -t tmpfs none /etc
mkdir link; ln -s ../../../etc link/out; mknod link/out/null c 1 3
busybox nc 127.0.0.1 9
grep -E '^(CapEff|NoNewPrivs)' /proc/self/status`;

test('mknod of /dev/null and mount of tmpfs for an unprivileged container; connect is written down', {
  requires: ['root', 'seccomp'],
}, async t => {
  const none = { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] };
  const bundle = makeBundle(t, {
    writable: true,
    process: { user: { uid: 1000, gid: 1000 }, capabilities: none },
    patch: spec => {
      spec.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['mode=1777'] });
      return undefined;
    },
  });
  const config = await loadConfig(bundle);
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  const log: string[] = [];
  const container = await unprivileged(factory, containerId('example'), config, line => log.push(line));
  t.after(() => factory.destroy(container.id, { force: true }));
  const errors: unknown[] = [];
  container.on('syscallError', event => errors.push(event));
  const process = new Process({ ...config.process, args: ['/bin/sh', '-c', script], stdout: 'pipe' });
  await within(container.run(process), 'the start');
  assert.ok(process.stdout !== undefined);
  const lines = (await text(process.stdout)).trimEnd().split('\n');
  await within(process.wait(), 'the exit');
  const expected = [
    /^crw-r--r-- +1 1000 +1000 +1, +3 .* null$/,
    /null: File exists$/,
    /mem: Operation not permitted$/,
    /\/etc\/null: Permission denied$/,
    /^none|tmpfs \/tmp\/m tmpfs rw,nosuid,nodev,.*size=1024k/,
    /^x$/,
    /^mount: .*(denied|not permitted)/,
    /^mount: .*(denied|not permitted)/,
    /link\/out\/null: Permission denied$/,
    /^nc: .*Connection refused$/,
    /^CapEff:\s*0+$/,
    /^NoNewPrivs:\s*1$/,
  ];
  assert.equal(lines.length, expected.length, lines.join('\n'));
  for (const [index, pattern] of expected.entries()) assert.match(lines[index] ?? '', pattern);
  assert.deepEqual(log, ['busybox (uid 1000) connects to 127.0.0.1:9']);
  assert.deepEqual(errors, []);
});
