/** nrunc exec: options, streams, exit codes, with 255 for everything that fails before the program runs. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Cli, type CliOptions, cli, errorMessage, nruncPath, start } from './cli-fixture.ts';

async function running(t: TestContext, options: CliOptions = {}): Promise<Cli> {
  const nrunc = cli(t, options);
  const result = await nrunc(['run', '-d', '-b', nrunc.bundle, nrunc.id]);
  assert.equal(result.code, 0, result.stderr);
  return nrunc;
}

test('exec passes streams and the exit status on', { requires: ['root'] }, async t => {
  const nrunc = await running(t);
  const echo = await nrunc(['exec', nrunc.id, 'sh', '-c', 'read a; echo "$a"; echo err >&2; exit 9'], {
    input: 'x\n',
  });
  assert.deepEqual(echo, { code: 9, signal: null, stdout: 'x\n', stderr: 'err\n' });
  assert.equal((await nrunc(['exec', nrunc.id, 'sh', '-c', 'kill -9 $$'])).code, 137);
  const running2 = nrunc.start([
    'exec',
    nrunc.id,
    'sh',
    '-c',
    'trap "exit 4" TERM; echo up; while :; do sleep 0.02; done',
  ]);
  await eventually('up', () => running2.stdout() === 'up\n');
  running2.process.kill('SIGTERM');
  assert.equal((await running2.ended()).code, 4);
});

test('exec takes user, groups, environment, directory and capabilities', {
  proves: ['process.user.additionalGids', 'process.env', 'process.cwd'],
  trap: [4, 5],
  requires: ['root'],
}, async t => {
  const nrunc = await running(t);
  const script = 'id -u; id -g; id -G; echo $ONE $TWO; pwd; grep -E "^(CapBnd|NoNewPrivs)" /proc/self/status';
  const words = [
    '-u',
    '12:34',
    '-g',
    '56',
    '--additional-gids',
    '57',
    '-e',
    'ONE=1',
    '--env=TWO=2',
    '--cwd',
    '/tmp',
  ];
  const { stdout, stderr } = await nrunc(['exec', ...words, '-c', 'CAP_CHOWN', nrunc.id, 'sh', '-c', script]);
  // AUDIT_WRITE, KILL, NET_BIND_SERVICE of the bundle and CHOWN.
  assert.equal(stdout, '12\n34\n34 56 57\n1 2\n/tmp\nCapBnd:\t0000000020000421\nNoNewPrivs:\t1\n', stderr);
});

test('exec --process takes a whole process from a file', { requires: ['root'] }, async t => {
  const nrunc = await running(t);
  const file = join(makeDirectory(t), 'process.json');
  const document = {
    args: ['/bin/sh', '-c', 'echo $V; pwd; id -u'],
    env: ['PATH=/bin', 'V=file'],
    cwd: '/etc',
    user: { uid: 3, gid: 4 },
  };
  writeFileSync(file, JSON.stringify(document));
  const result = await nrunc(['exec', '--process', file, nrunc.id]);
  assert.deepEqual(result, { code: 0, signal: null, stdout: 'file\n/etc\n3\n', stderr: '' });
  writeFileSync(file, '{"args": 7, "cwd": "/"}');
  const wrong = await nrunc(['exec', '-p', file, nrunc.id]);
  assert.equal(wrong.code, 255);
  assert.match(errorMessage(wrong), /^exec failed: .*args/);
});

test('exec --detach writes a pid file and returns while the process lives', {
  requires: ['root'],
}, async t => {
  const nrunc = await running(t);
  const pidFile = join(makeDirectory(t), 'pid');
  const result = await nrunc(['exec', '-d', '--pid-file', pidFile, nrunc.id, 'sleep', '1000']);
  assert.equal(result.code, 0, result.stderr);
  const pid = readFileSync(pidFile, 'utf8');
  assert.equal(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), 'sleep\x001000\x00');
});

test('exec that cannot be set up is 255, in the words of runc', { trap: 3, requires: ['root'] }, async t => {
  const nrunc = await running(t);
  const { id } = nrunc;
  const rows: readonly (readonly [string[], string | RegExp])[] = [
    [
      [id, 'nosuch'],
      'exec failed: unable to start container process: exec: "nosuch": executable file not found in $PATH',
    ],
    [[id], 'exec failed: process args cannot be empty'],
    [['absent', 'ls'], 'exec failed: container does not exist'],
    [['-u', 'root', id, 'ls'], /^exec failed: parsing root as int for uid failed: /],
    [['--cwd', 'relative', id, 'ls'], /^exec failed: .*cwd.*not absolute/],
    [['--cwd', '/nosuch/dir', '-u', '1', id, 'ls'], /^exec failed: /],
    [['--cgroup', 'a:b:c', id, 'ls'], 'exec failed: invalid --cgroup argument: a:b:c'],
    [['--apparmor', 'x', id, 'ls'], /^exec failed: .*apparmor/],
    [['--process-label', 'x', id, 'ls'], /^exec failed: .*label/],
    [['--preserve-fds', '1', id, 'ls'], 'exec failed: please check that preserved-fd 0 (of 1) is present'],
    [
      ['--console-socket', '/s', id, 'ls'],
      'exec failed: cannot use console socket if nrunc will not detach or allocate tty',
    ],
    [
      ['-d', '-t', id, 'ls'],
      'exec failed: cannot allocate tty if nrunc will detach without setting console socket',
    ],
    [['--process', '/nosuch', id], /^exec failed: /],
  ];
  for (const [words, message] of rows) {
    const result = await nrunc(['exec', ...words]);
    assert.equal(result.code, 255, `${words.join(' ')}: ${result.stdout}`);
    if (typeof message === 'string') assert.equal(errorMessage(result), message);
    else assert.match(errorMessage(result), message);
  }
  const usage = await nrunc(['exec']);
  assert.equal(usage.code, 1, 'a wrong command line is 1, as with every command');
});

test('exec is refused in a paused container unless told to ignore that', {
  trap: 21,
  requires: ['root'],
}, async t => {
  const nrunc = await running(t);
  const { id } = nrunc;
  assert.equal((await nrunc(['pause', id])).code, 0);
  const refused = await nrunc(['exec', id, 'true']);
  assert.equal(refused.code, 255);
  assert.equal(
    errorMessage(refused),
    'exec failed: cannot exec in a paused container (use --ignore-paused to override)',
  );
  const waiting = nrunc.start(['exec', '--ignore-paused', id, 'echo', 'thawed']);
  assert.equal((await nrunc(['resume', id])).code, 0);
  const result = await waiting.ended();
  assert.deepEqual(result, { code: 0, signal: null, stdout: 'thawed\n', stderr: '' });
});

test('exec --tty has a terminal of its own in the container', {
  proves: ['process.terminal'],
  trap: 8,
  requires: ['root', 'file:/usr/bin/script'],
}, async t => {
  const nrunc = await running(t);
  const inner = `stty rows 21 cols 77; ${nruncPath} --root ${nrunc.root} exec -t ${nrunc.id} sh -c 'tty; stty size; exit 6'`;
  const words = ['-qec', `${inner}; echo code $?`, '/dev/null'];
  const { stdout } = await start('/usr/bin/script', words, { openInput: true }).ended();
  assert.match(stdout, /\/dev\/pts\/\d+\r\n21 77\r\n[^\n]*code 6\r\n/);
  // Not to a terminal (the one of stderr is borrowed): no \r, as with runc.
  const copy = `${nruncPath} --root ${nrunc.root} exec -t ${nrunc.id} printf 'a\\nb\\r\\n' | od -An -c`;
  const piped = await start('/usr/bin/script', ['-qec', copy, '/dev/null'], { openInput: true }).ended();
  assert.match(piped.stdout, /^ +a +\\n +b +\\r +\\n\r\n$/m);
});

test('exec --console-socket sends the ptmx', { requires: ['root', 'file:/usr/bin/python3'] }, async t => {
  const nrunc = await running(t);
  const directory = makeDirectory(t);
  const socket = join(directory, 'console.sock');
  // Node cannot receive descriptors: Python does, and copies what the terminal says.
  const receiver = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); print("listening", flush=True)
c, _ = s.accept()
data, ancillary, _, _ = c.recvmsg(4096, socket.CMSG_SPACE(4))
fd = array.array("i", ancillary[0][2])[0]
print("name", data.decode(), flush=True)
try:
  while True:
    part = os.read(fd, 4096)
    if not part: break
    sys.stdout.write(part.decode()); sys.stdout.flush()
except OSError: pass
print("closed", flush=True)`;
  const python = start('/usr/bin/python3', ['-c', receiver, socket]);
  await eventually('the socket', () => python.stdout().startsWith('listening'));
  const result = await nrunc([
    'exec',
    '-d',
    '-t',
    '--console-socket',
    socket,
    nrunc.id,
    'sh',
    '-c',
    'tty; echo bye',
  ]);
  assert.equal(result.code, 0, result.stderr);
  const { stdout } = await python.ended();
  assert.match(stdout, /^listening\nname \S+\n\/dev\/pts\/\d+\r\nbye\r\nclosed\n$/);
});

test('A console socket that nobody listens on fails the exec', { requires: ['root'] }, async t => {
  const nrunc = await running(t);
  const path = join(makeDirectory(t), 'closed.sock');
  const server = createServer().listen(path);
  await waitFor(server, 'listening');
  server.close();
  const result = await nrunc(['exec', '-d', '-t', '--console-socket', path, nrunc.id, 'sh']);
  assert.equal(result.code, 255);
  assert.match(errorMessage(result), /^exec failed: /);
});
