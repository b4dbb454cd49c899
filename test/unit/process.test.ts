import assert from 'node:assert/strict';
import type { ProcessConfig } from '../../lib/config/config.ts';
import { Process, type ProcessOptions, resolveProcess } from '../../lib/process.ts';
import { test } from '../harness/test.ts';

const base: ProcessConfig = {
  args: ['sh'],
  env: ['PATH=/bin', 'A=1'],
  cwd: '/work',
  user: { uid: 5, gid: 6, additionalGids: [7], umask: 0o27 },
  terminal: true,
  rlimits: [{ type: 'RLIMIT_NOFILE', soft: '10', hard: '20' }],
  noNewPrivileges: true,
  oomScoreAdj: 100,
};

test('Process refuses options that no kernel would take, naming the property', () => {
  const cases: readonly [ProcessOptions, RegExp][] = [
    [{ args: [] }, /process\.args/],
    [{ args: ['a\0b'] }, /NUL/],
    [{ args: ['a'], env: ['noequals'] }, /"noequals"/],
    [{ args: ['a'], env: ['=x'] }, /"=x"/],
    [{ args: ['a'], cwd: 'relative' }, /process\.cwd/],
    [{ args: ['a'], consoleSocket: '/x' }, /consoleSocket/],
    [{ args: ['a'], terminal: true, stdout: 'pipe' }, /process\.stdout/],
    [{ args: ['a'], user: { uid: -1 } }, /process\.user\.uid/],
    [{ args: ['a'], user: { gid: 2 ** 32 - 1 } }, /process\.user\.gid/],
    [{ args: ['a'], user: { uid: 1.5 } }, /process\.user\.uid/],
  ];
  for (const [options, pattern] of cases)
    assert.throws(
      () => new Process(options),
      (error: Error) => {
        assert.match(error.message, pattern);
        assert.equal('code' in error && error.code, 'ERR_ARGUMENT');
        return true;
      },
    );
});

test('Process refuses what this version does not do, as a configuration does', () => {
  for (const name of ['apparmorProfile', 'selinuxLabel'] as const) {
    assert.throws(() => new Process({ args: ['a'], [name]: 'x' }), {
      code: 'ERR_UNSUPPORTED',
      message: new RegExp(`process\\.${name}`),
    });
    // "Not given", as in config.json.
    new Process({ args: ['a'], [name]: '' });
  }
});

test('resolveProcess takes what is not given from the container, but not the terminal', () => {
  const resolved = resolveProcess({ args: ['id'], user: { uid: 9 } }, base);
  assert.deepEqual(resolved, {
    ...base,
    args: ['id'],
    terminal: false,
    user: { uid: 9, gid: 6, additionalGids: [7], umask: 0o27 },
  });
});

test('resolveProcess without a container process has safe defaults', () => {
  assert.deepEqual(resolveProcess({ args: ['id'] }, undefined), {
    args: ['id'],
    env: [],
    cwd: '/',
    user: { uid: 0, gid: 0, additionalGids: [] },
    terminal: false,
    rlimits: [],
    noNewPrivileges: false,
  });
});

test('resolveProcess of a spread config.process keeps its very objects, so that plans are found again', () => {
  const resolved = resolveProcess({ ...base, terminal: false, stdout: 'pipe' }, base);
  for (const name of ['args', 'env', 'user', 'rlimits'] as const) assert.equal(resolved[name], base[name]);
});

test('Process before its start: no pid, and wait, signal and resize say so', async () => {
  const process = new Process({ args: ['a'] });
  assert.equal(process.pid, undefined);
  await assert.rejects(process.wait(), { code: 'ERR_ARGUMENT' });
  assert.throws(() => process.signal('TERM'), { code: 'ERR_ARGUMENT' });
  assert.throws(() => process.signal('NOPE'), { code: 'ERR_SIGNAL_UNKNOWN' });
  assert.throws(() => process.resize({ columns: 1, rows: -1 }), /rows is -1/);
});
