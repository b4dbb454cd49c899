/**
 * System calls that an older kernel lacks (ENOSYS) or a sandbox around us refuses (EPERM): a fallback that is as safe, or a
 * clear refusal. scripts/fallbacks.mjs runs the other integration tests in the same way.
 */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { testProgram } from '../../scripts/programs.mjs';
import { containerId, makeBundle, makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { nruncPath, type Result, start } from './cli-fixture.ts';

const root = { requires: ['root'], timeoutMs: 90_000 } as const;

const nrunc = (state: string, denied: readonly string[], ...words: string[]): Promise<Result> =>
  start(testProgram('deny', projectRoot), [
    ...denied,
    '--',
    process.execPath,
    nruncPath,
    '--root',
    state,
    ...words,
  ]).ended();

async function run(t: TestContext, denied: readonly string[], script: string): Promise<Result> {
  const volume = makeDirectory(t);
  writeFileSync(join(volume, 'file'), 'volume');
  const bundle = makeBundle(t, {
    writable: true,
    process: { args: ['/bin/sh', '-c', script] },
    patch: spec => {
      spec.mounts.push(
        { destination: '/mnt/a', source: volume, type: 'bind', options: ['rbind', 'ro'] },
        { destination: '/etc/file', source: join(volume, 'file'), type: 'bind', options: ['bind', 'ro'] },
        { destination: '/var', source: 'tmpfs', type: 'tmpfs', options: ['tmpcopyup', 'ro'] },
      );
      spec.linux.maskedPaths = ['/etc/passwd', '/home', '/root'];
      spec.linux.readonlyPaths = ['/etc', '/proc/sys'];
      return spec;
    },
  });
  return nrunc(makeStateRoot(t), denied, 'run', '--bundle', bundle, containerId('denied'));
}

const mountApi = ['fsopen', 'fsmount', 'open_tree', 'move_mount', 'mount_setattr'];
const everything = [...mountApi, 'close_range', 'faccessat2'];
const unified = existsSync('/sys/fs/cgroup/cgroup.controllers');
const look = `cat /etc/file /etc/passwd; ls -A /home; ls -A /root
for f in /mnt/a/x /etc/file /etc/x /var/x /proc/sys/kernel/domainname; do (echo x > $f) 2>&1; done; ls /var; ls /proc/self/fd | wc -l`;
const rows: readonly (readonly string[])[] = [
  ...everything.map(call => [call]),
  mountApi,
  [...everything, 'clone3'],
];
for (const calls of rows)
  test(`without ${calls.join(', ')}: the same container`, root, async t => {
    // glibc takes only ENOSYS of clone3 for its absence, so where it is EPERM no Node.js has threads.
    for (const errno of ['ENOSYS', 'EPERM']) {
      const denied = calls.filter(call => call !== 'clone3' || errno === 'ENOSYS');
      const { code, stdout, stderr } = await run(
        t,
        denied.map(call => `${call}=${errno}`),
        look,
      );
      if (unified && denied.includes('clone3')) {
        // How a process is born in its cgroup (CLONE_INTO_CGROUP), so that no moment of it is outside.
        assert.equal(code, 1);
        assert.match(stderr, /clone3/);
        continue;
      }
      const readonly = (path: string): string => `sh: can't create ${path}: Read-only file system\n`;
      const paths = ['/mnt/a/x', '/etc/file', '/etc/x', '/var/x', '/proc/sys/kernel/domainname'];
      assert.equal(
        stdout.replaceAll(/\/bin\/sh: /g, 'sh: '),
        `volume${paths.map(readonly).join('')}tmp\n4\n`,
        `${errno}: ${stderr}`,
      );
      assert.equal(code, 0);
    }
  });

test('without openat2 or memfd_create: refused, with the reason, and nothing is left', root, async t => {
  for (const [call, words] of [
    ['openat2', /openat2\(2\) is missing \(Linux 5\.6\) or refused by a sandbox/],
    ['memfd_create', /memfd_create\(.*libcontainer-init/],
  ] as const)
    for (const errno of ['ENOSYS', 'EPERM']) {
      const { code, stdout, stderr } = await run(t, [`${call}=${errno}`], 'echo ran');
      assert.deepEqual([code, stdout], [1, ''], `${call}=${errno}`);
      assert.match(stderr, words);
    }
});

test('without pidfd_open a process is never signalled by number', root, async t => {
  const state = makeStateRoot(t);
  const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } });
  const id = containerId('denied');
  assert.equal((await nrunc(state, [], 'run', '--detach', '--bundle', bundle, id)).code, 0);
  for (const errno of ['ENOSYS', 'EPERM'])
    for (const verb of [
      ['kill', id, 'KILL'],
      ['exec', id, '/bin/true'],
      ['delete', '--force', id],
    ]) {
      const { code, stderr } = await nrunc(state, [`pidfd_open=${errno}`], ...verb);
      assert.notEqual(code, 0, verb.join(' '));
      assert.match(stderr, /pidfd_open: /);
    }
  assert.match((await nrunc(state, [], 'state', id)).stdout, /"running"/);
  assert.equal((await nrunc(state, [], 'delete', '--force', id)).code, 0);
});
