import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config, Mount } from '../../../lib/config/config.ts';
import { logReasons } from '../../../lib/criu/log.ts';
import { externalMounts, resolveInside } from '../../../lib/criu/mounts.ts';
import { checkCheckpoint, checkRestore } from '../../../lib/criu/options.ts';
import { decodeStatistics } from '../../../lib/criu/rpc.ts';
import { makeDirectory } from '../../harness/bundle.ts';
import { test } from '../../harness/test.ts';

test('resolveInside() follows links of the rootfs and never leaves it', t => {
  const rootfs = makeDirectory(t);
  mkdirSync(join(rootfs, 'run'));
  mkdirSync(join(rootfs, 'var'));
  symlinkSync('/run', join(rootfs, 'var/run'));
  symlinkSync('../../../../etc', join(rootfs, 'var/up'));
  symlinkSync('loop', join(rootfs, 'loop'));
  assert.equal(resolveInside(rootfs, '/var/run/secrets'), '/run/secrets');
  assert.equal(resolveInside(rootfs, '/var/up/passwd'), '/etc/passwd');
  assert.equal(resolveInside(rootfs, '//a/./b/../c/'), '/a/c');
  assert.equal(resolveInside(rootfs, '/../../x'), '/x');
  assert.throws(() => resolveInside(rootfs, '/loop'), { code: 'ERR_CRIU_MOUNT', message: /too many links/ });
});

const bind = (destination: string, source = '/source'): Mount => ({
  destination,
  source,
  type: 'bind',
  flags: 4096,
  clearedFlags: 0,
  propagation: [],
  recursiveSet: 0,
  recursiveClear: 0,
  data: '',
  copyUp: false,
});
const configOf = (rootfs: string, ...mounts: Mount[]): Config =>
  ({ rootfs, mounts, namespaces: [], devices: [], maskedPaths: [] }) as unknown as Config;

test('externalMounts() refuses what CRIU could take for another mount', t => {
  const rootfs = makeDirectory(t);
  symlinkSync('/b', join(rootfs, 'a'));
  symlinkSync('/x]:/etc', join(rootfs, 'evil'));
  const names = (...mounts: Mount[]) =>
    externalMounts(configOf(rootfs, ...mounts), []).map(({ name, source }) => `${name}=${source}`);
  assert.deepEqual(names(bind('/a/c'), bind('/d', '/s')), ['/b/c=/source', '/d=/s']);
  for (const bad of ['/x:y', '/x]', '/x[', '/x,y', '/x\ny', '/evil'])
    assert.throws(() => names(bind(bad)), { code: 'ERR_CRIU_MOUNT' }, bad);
  // A link makes one place of two.
  assert.throws(() => names(bind('/a'), bind('/b')), {
    code: 'ERR_CRIU_MOUNT',
    message: /lead to this place/,
  });
  assert.throws(() => names(bind('/a', '/s\nt')), { code: 'ERR_CRIU_MOUNT' });
});

test('cgroup binds are external, cgroup mounts of a namespace are not', t => {
  const rootfs = makeDirectory(t);
  const cgroup = { ...bind('/sys/fs/cgroup', 'cgroup'), type: 'cgroup', flags: 0 };
  const row = { name: 'cpu', path: '/host/cpu/c', type: 'cgroup', data: 'cpu', links: [] } as const;
  const config = configOf(rootfs, cgroup);
  assert.deepEqual(externalMounts(config, [row]), [{ name: '/sys/fs/cgroup/cpu', source: '/host/cpu/c' }]);
  assert.deepEqual(externalMounts({ ...config, namespaces: [{ type: 'cgroup' }] }, [row]), []);
});

test('logReasons() gives the first errors of a log, in the order of the log', async t => {
  const log = join(makeDirectory(t), 'dump.log');
  writeFileSync(
    log,
    [
      '(00.001) Version: 3.17.1',
      '(00.017384)      1: Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using --tcp-established option.',
      '(00.02) Warn  (criu/x.c:1): nothing',
      '(00.02) Error (criu/cr-dump.c:1635): Dump files (pid: 7) failed with -1',
      '(00.03) Error (criu/cr-dump.c:2053): Dumping FAILED.',
    ].join('\n'),
  );
  assert.deepEqual(await logReasons(log), [
    'inet: Connected TCP socket, consider using --tcp-established option. (criu/sk-inet.c:188)',
    'Dump files (pid: 7) failed with -1 (criu/cr-dump.c:1635)',
    'Dumping FAILED. (criu/cr-dump.c:2053)',
  ]);
  assert.deepEqual(await logReasons(`${log}.none`), []);
});

test('decodeStatistics() reads the image of a dump and refuses anything else', () => {
  const message = Buffer.from([0x0a, 14, 8, 1, 16, 2, 24, 3, 32, 4, 40, 5, 48, 6, 56, 7]);
  const header = Buffer.alloc(12);
  header.writeUInt32LE(0x55105940, 0);
  header.writeUInt32LE(0x57093306, 4);
  header.writeUInt32LE(message.length, 8);
  const { dump } = decodeStatistics(Buffer.concat([header, message])) ?? assert.fail();
  assert.equal(dump?.frozenTime, 2);
  assert.equal(Number(dump?.pagesWritten), 7);
  assert.equal(decodeStatistics(header), undefined);
  assert.equal(decodeStatistics(Buffer.concat([Buffer.alloc(12), message])), undefined);
  assert.equal(decodeStatistics(Buffer.alloc(0)), undefined);
});

test('options of checkpoint and restore are checked before any effect', t => {
  const imagePath = makeDirectory(t);
  const wrong = { code: 'ERR_ARGUMENT' };
  checkCheckpoint({ imagePath });
  assert.throws(() => checkCheckpoint({ imagePath: 'relative' }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, workPath: 'w' }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, parentPath: '/p' }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, parentPath: '../none' }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, pageServer: { address: '', port: 1 } }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, pageServer: { address: 'a', port: 65536 } }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, statusFd: 1 }), wrong);
  assert.throws(() => checkCheckpoint({ imagePath, preDump: true, lazyPages: true }), wrong);
  checkRestore({ imagePath });
  assert.throws(() => checkRestore({ imagePath: join(imagePath, 'none') }), wrong);
  assert.throws(() => checkRestore({ imagePath, lsmProfile: 'x' }), wrong);
});
