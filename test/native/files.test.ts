import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding, type FileOperation } from '../../lib/native/binding.ts';
import { type TestContext, test } from '../harness/test.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lc-files-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('files() makes directories, files and fifos with exact modes whatever the umask is', async t => {
  const at = scratch(t);
  const former = process.umask(0o077);
  t.after(() => process.umask(former));
  await binding().files(
    [
      { op: 'mkdir', path: `${at}/d`, mode: 0o755, existing: 'error' },
      { op: 'mkdir', path: `${at}/d`, mode: 0o755, existing: 'ok' },
      { op: 'put', path: `${at}/d/state`, data: 'one', mode: 0o640, sync: true },
      { op: 'put', path: `${at}/d/state`, data: 'two', mode: 0o644, sync: false },
      { op: 'mkfifo', path: `${at}/d/fifo`, mode: 0o622, uid: 0, gid: 0 },
      { op: 'write', path: `${at}/d/state`, data: 'TW' },
      { op: 'unlink', path: `${at}/d/absent` },
      { op: 'rmdir', path: `${at}/absent` },
    ],
    true,
  );
  assert.equal(statSync(`${at}/d`).mode & 0o7777, 0o755);
  assert.equal(statSync(`${at}/d/state`).mode & 0o7777, 0o644);
  assert.equal(readFileSync(`${at}/d/state`, 'utf8'), 'TWo');
  const fifo = statSync(`${at}/d/fifo`);
  assert.ok(fifo.isFIFO());
  assert.equal(fifo.mode & 0o7777, 0o622);
  assert.deepEqual(readdirSync(`${at}/d`).sort(), ['fifo', 'state']);
});

test('a failing operation takes back the ones before it, last first, and leaves what was there', async t => {
  const at = scratch(t);
  mkdirSync(`${at}/kept`);
  const operations: FileOperation[] = [
    { op: 'mkdir', path: `${at}/kept`, mode: 0o700, existing: 'ok' },
    { op: 'mkdir', path: `${at}/kept/a`, mode: 0o700, existing: 'ok' },
    { op: 'mkdir', path: `${at}/kept/a/b`, mode: 0o700, existing: 'error' },
    { op: 'put', path: `${at}/kept/a/b/f`, data: 'x', mode: 0o600, sync: false },
    { op: 'mkfifo', path: `${at}/kept/a/p`, mode: 0o600, uid: 0, gid: 0 },
    { op: 'write', path: `${at}/nowhere/f`, data: '1' },
  ];
  const expected = { code: 'ENOENT', errno: -2, syscall: 'open', path: `${at}/nowhere/f`, index: 5 };
  await assert.rejects(binding().files(operations, true), expected);
  assert.deepEqual(readdirSync(`${at}/kept`), []);
  await assert.rejects(binding().files(operations, false), expected);
  assert.ok(existsSync(`${at}/kept/a/b/f`), 'undo: false keeps what was done');
});

test('a directory that exists is refused when it must be new, and a file is never one', async t => {
  const at = scratch(t);
  writeFileSync(`${at}/f`, '');
  const mkdir = (path: string, existing: 'ok' | 'error'): FileOperation[] => [
    { op: 'mkdir', path, mode: 0o700, existing },
  ];
  await assert.rejects(binding().files(mkdir(at, 'error'), true), { code: 'EEXIST', index: 0 });
  await assert.rejects(binding().files(mkdir(`${at}/f`, 'ok'), true), { code: 'EEXIST' });
  await binding().files(mkdir(at, 'ok'), true);
  assert.ok(existsSync(at));
});

test('errno names in `tolerate` are no error; others are', async t => {
  const at = scratch(t);
  const write = (tolerate: string[]): FileOperation[] => [
    { op: 'write', path: `${at}/none`, data: '1', tolerate },
  ];
  await binding().files(write(['EPERM', 'ENOENT']), true);
  await assert.rejects(binding().files(write(['EPERM']), true), { code: 'ENOENT' });
});

test('a put that fails leaves neither the file nor its temporary', async t => {
  const at = scratch(t);
  mkdirSync(`${at}/target/full`, { recursive: true });
  const put: FileOperation = { op: 'put', path: `${at}/target`, data: 'x', mode: 0o600, sync: true };
  // rename(2) of a file over a directory.
  await assert.rejects(binding().files([put], true), { code: 'EISDIR', syscall: 'rename' });
  assert.deepEqual(readdirSync(at), ['target']);
});

test('rmdir of a directory with content fails with its errno', async t => {
  const at = scratch(t);
  chmodSync(at, 0o700);
  writeFileSync(`${at}/f`, '');
  await assert.rejects(binding().files([{ op: 'rmdir', path: at }], false), {
    code: 'ENOTEMPTY',
    syscall: 'rmdir',
  });
});
