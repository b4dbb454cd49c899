/** nrunc sandbox: options, exit codes, a terminal; the same as root and as an ordinary user. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { inTerminal } from '../harness/runtimes.ts';
import { type TestContext, test } from '../harness/test.ts';
import { nruncPath, type Result, start } from './cli-fixture.ts';

const any = { requires: ['rootless'], timeoutMs: 60_000 } as const;
const sandbox = (t: TestContext, ...words: string[]): Promise<Result> =>
  start(process.execPath, [nruncPath, '--root', makeStateRoot(t), 'sandbox', ...words], {}).ended();

test("nrunc sandbox: output and exit code are the command's", any, async t => {
  const result = await sandbox(
    t,
    '-e',
    'A=b',
    '--hostname',
    'box',
    '--',
    'sh',
    '-c',
    'echo $A $(hostname); exit 7',
  );
  assert.deepEqual([result.code, result.stdout, result.stderr], [7, 'b box\n', '']);
});

test('nrunc sandbox: --timeout, --rw, --cwd, a program that is not there', any, async t => {
  const directory = makeDirectory(t);
  chmodSync(directory, 0o777);
  const late = await sandbox(
    t,
    '--timeout',
    '1s',
    '--rw',
    `${directory}:/out`,
    '--cwd',
    '/out',
    'sh',
    '-c',
    'echo x >y; sleep 1000',
  );
  assert.equal(late.code, 124, late.stderr);
  assert.equal(readFileSync(join(directory, 'y'), 'utf8'), 'x\n');
  const none = await sandbox(t, 'no-such-program');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /executable file not found/);
  assert.equal((await sandbox(t)).code, 1);
});

test('nrunc sandbox: a shell in a terminal', { requires: ['root', 'lane:host'] }, t => {
  const { status, stdout } = inTerminal('nrunc', [
    '--root',
    makeStateRoot(t),
    'sandbox',
    'sh',
    '-c',
    'tty; stty size; exit 5',
  ]);
  assert.equal(status, 5, stdout);
  assert.match(stdout, /\/dev\/pts\/0/);
});
