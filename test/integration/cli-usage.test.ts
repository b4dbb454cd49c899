/**
 * The command line itself: logs, help, wrong use, version, what is refused, and what a quick command does not load. Nothing
 * of it depends on the kernel: the VMs, where each start of Node takes seconds, leave it out.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { cli, errorMessage, nruncPath, start } from './cli-fixture.ts';

test('An error goes to stderr as text or JSON, and with --log to the file and, plain, to stderr', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const text = await nrunc(['state', 'none']);
  assert.match(
    text.stderr,
    /^time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)" level=error msg="container does not exist"\n$/,
  );
  const json = await nrunc(['--log-format', 'json', 'state', 'none']);
  assert.match(json.stderr, /^\{"level":"error","msg":"container does not exist","time":"[^"]+"\}\n$/);

  const file = join(makeDirectory(t), 'log');
  writeFileSync(file, 'before\n');
  for (const words of [
    ['--log', file, '--log-format', 'json', 'state', 'none'],
    ['-log', file, '-log-format=json', 'kill', 'none'],
  ]) {
    const logged = await nrunc(words);
    assert.deepEqual(logged, { code: 1, signal: null, stdout: '', stderr: 'container does not exist\n' });
  }
  const lines = readFileSync(file, 'utf8').split('\n');
  assert.equal(lines[0], 'before', 'the log is appended to');
  for (const line of lines.slice(1, 3)) {
    const { time, ...rest } = JSON.parse(line);
    assert.deepEqual(rest, { level: 'error', msg: 'container does not exist' });
    assert.ok(!Number.isNaN(Date.parse(time)));
  }
  assert.deepEqual(lines.slice(3), ['']);
  const unwritable = await nrunc(['--log', '/nosuch/log', 'list']);
  assert.equal(unwritable.code, 1);
  assert.equal(errorMessage(unwritable), 'open /nosuch/log: no such file or directory');
});

test('--debug tells what is done, with hints, and leaves stdout alone', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const result = await nrunc(['--debug', 'state', 'none']);
  assert.equal(result.stdout, '');
  assert.match(result.stderr, /level=debug msg="nrunc state none"/);
  assert.match(result.stderr, /level=debug msg="ERR_CONTAINER_NOT_EXIST: /);
  assert.match(result.stderr, /level=error msg="container does not exist"/);
});

test('A wrong command line prints help on stdout, the reason on stderr, and exits with 1', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const rows: readonly (readonly [string[], string, string])[] = [
    [
      ['state'],
      'Incorrect Usage.\n\nNAME:\n   nrunc state - ',
      'nrunc: "state" requires exactly 1 argument(s)',
    ],
    [['state', 'a', 'b'], 'Incorrect Usage.\n\n', 'nrunc: "state" requires exactly 1 argument(s)'],
    [['kill'], 'Incorrect Usage.\n\n', 'nrunc: "kill" requires a minimum of 1 argument(s)'],
    [['kill', 'a', 'b', 'c'], 'Incorrect Usage.\n\n', 'nrunc: "kill" requires a maximum of 2 argument(s)'],
    [['exec'], 'Incorrect Usage.\n\n', 'nrunc: "exec" requires a minimum of 1 argument(s)'],
    [['list', 'x'], 'Incorrect Usage.\n\n', 'nrunc: "list" requires exactly 0 argument(s)'],
    [
      ['run', '--zzz', 'x'],
      'Incorrect Usage: flag provided but not defined: -zzz\n\n',
      'flag provided but not defined: -zzz',
    ],
    [
      ['--zzz', 'list'],
      'Incorrect Usage. flag provided but not defined: -zzz\n\nNAME:\n   nrunc - ',
      'flag provided but not defined: -zzz',
    ],
  ];
  for (const [words, output, message] of rows) {
    const result = await nrunc(words);
    assert.equal(result.code, 1, words.join(' '));
    assert.ok(result.stdout.startsWith(output), result.stdout);
    assert.match(result.stdout, /\nUSAGE:\n {3}nrunc /);
    assert.equal(errorMessage(result), message);
  }
  const unknown = await nrunc(['bogus']);
  assert.equal(unknown.code, 3);
  assert.equal(errorMessage(unknown), "No help topic for 'bogus'");
  for (const [words, message] of [
    [['--log-format', 'xml', 'list'], 'invalid log-format: xml'],
    [['--rootless', 'maybe', 'list'], 'invalid rootless: maybe'],
  ] as const) {
    const result = await nrunc(words);
    assert.equal(result.code, 1);
    assert.equal(errorMessage(result), message);
  }
});

test('Help and version need nothing, and exit with 0', { requires: ['root', 'lane:host'] }, async t => {
  const nrunc = cli(t);
  for (const words of [[], ['-h'], ['--help'], ['help']]) {
    const { code, stdout, stderr } = await nrunc(words);
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    assert.match(stdout, /^NAME:\n {3}nrunc - Open Container Initiative runtime\n/);
  }
  for (const words of [
    ['exec', '-h'],
    ['help', 'exec'],
  ])
    assert.match((await nrunc(words)).stdout, /^NAME:\n {3}nrunc exec - /);
  const lines = (await nrunc(['--version'])).stdout.split('\n');
  assert.match(lines[0] ?? '', /^nrunc version \d+\.\d+\.\d+/);
  assert.deepEqual(
    lines.slice(1).map(line => line.split(':')[0]),
    ['commit', 'spec', 'node', 'libseccomp', ''],
  );
  assert.deepEqual((await nrunc(['-v'])).stdout.split('\n'), lines);
});

test('checkpoint and restore take all options of runc, and complain as it does', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const image = makeDirectory(t);
  const common = ['--image-path', image, '--work-path', image, '--tcp-established', '--ext-unix-sk'];
  const more = ['--shell-job', '--file-locks', '--manage-cgroups-mode', 'full', '--empty-ns', 'network'];
  const last = ['--auto-dedup', '--lazy-pages'];
  const dump = [
    '--leave-running',
    '--tcp-skip-in-flight',
    '--link-remap',
    '--status-fd',
    '1',
    '--parent-path',
  ];
  const message = async (...words: string[]): Promise<string> => {
    const result = await nrunc([...words, 'id']);
    assert.equal(result.code, 1);
    return errorMessage(result);
  };
  const checkpoint = ['checkpoint', ...common, ...more, ...last, ...dump, '', '--page-server', 'a:1'];
  assert.equal(await message(...checkpoint), 'container does not exist');
  const none = /JSON specification file config.json not found/;
  const restore = ['-d', '--pid-file', '/p', '-no-subreaper', '--no-pivot', '-b', image];
  const lsm = ['--lsm-profile', 'apparmor:x', '--lsm-mount-context', 'y', '--console-socket', '/s'];
  assert.match(await message('restore', ...common, ...more, ...last, ...restore, ...lsm), none);
  assert.equal(
    await message('restore', '--image-path', image, '--manage-cgroups-mode', 'x'),
    'Invalid manage-cgroups-mode value',
  );
  assert.equal(
    await message('restore', '--image-path', image, '--empty-ns', 'pid'),
    'namespace "pid" is not supported',
  );
});

test('The state root must be ours, and "/" is none', { requires: ['root', 'lane:host'] }, async () => {
  const result = await start(nruncPath, ['--root', '/', 'list']).ended();
  assert.equal(result.code, 1);
  assert.match(errorMessage(result), /^state root is not usable/);
});

// They are what a container engine calls most; zod and protobufjs would double their time.
test('state, kill, delete and list load neither zod nor protobufjs', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const { id, bundle } = nrunc;
  const directory = makeDirectory(t);
  const hook = join(directory, 'loaded.cjs');
  writeFileSync(
    hook,
    `const { appendFileSync } = require('node:fs');
process.on('exit', () => appendFileSync(${JSON.stringify(join(directory, 'files'))}, Object.keys(require.cache).map(f => require('node:path').basename(f) + '\\n').join('')));`,
  );
  const loaded = async (...words: string[]): Promise<string[]> => {
    writeFileSync(join(directory, 'files'), '');
    const result = await nrunc(words, { env: { NODE_OPTIONS: `--require ${hook}` } });
    assert.equal(result.code, 0, result.stderr);
    const files = readFileSync(join(directory, 'files'), 'utf8').split('\n');
    assert.ok(files.includes('nrunc.cjs'));
    return files;
  };
  const heavy = ['spec.cjs', 'encode.cjs'];
  // The files are what holds the libraries.
  for (const [file, word] of [
    ['spec.cjs', 'ZodError'],
    ['encode.cjs', 'Writer.create'],
  ] as const) {
    assert.ok(readFileSync(join(nruncPath, '..', file), 'utf8').includes(word), file);
    assert.ok(!readFileSync(join(nruncPath, '../index.cjs'), 'utf8').includes(word), 'index.cjs');
    assert.ok(!readFileSync(join(nruncPath, '../cli.cjs'), 'utf8').includes(word), 'cli.cjs');
  }
  const create = await loaded('create', '-b', bundle, id);
  assert.deepEqual(
    heavy.filter(file => create.includes(file)),
    heavy,
    'create needs both',
  );
  for (const words of [
    ['list', '-q'],
    ['state', id],
    ['kill', id, 'KILL'],
    ['delete', '--force', id],
  ]) {
    const files = await loaded(...words);
    assert.deepEqual(
      heavy.filter(file => files.includes(file)),
      [],
      words.join(' '),
    );
  }
  assert.deepEqual(readdirSync(nrunc.root), []);
});
