/** nrunc run in the foreground: streams, exit codes, signals, descriptors, terminal; nothing is left at the end. */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { cli, errorMessage, nruncPath, start } from './cli-fixture.ts';

const sh = (text: string) => ({ process: { args: ['/bin/sh', '-c', text] } });

test('run gives the status of the process and destroys the container', { requires: ['root'] }, async t => {
  const nrunc = cli(t, sh('read line; echo "got $line"; echo err >&2; exit 42'));
  const result = await nrunc(['run', '-b', nrunc.bundle, nrunc.id], { input: 'word\n' });
  assert.deepEqual(result, { code: 42, signal: null, stdout: 'got word\n', stderr: 'err\n' });
  assert.deepEqual(readdirSync(nrunc.root), []);
});

test('run gives 128 + signal, and --keep keeps the container', { trap: 3, requires: ['root'] }, async t => {
  // PID 1 cannot kill itself: its child does that from outside of the signal protection, by exec of a second process.
  const nrunc = cli(t);
  const { id, bundle } = nrunc;
  const running = nrunc.start(['run', '--keep', '-b', bundle, id]);
  await eventually('running', async () => /"running"/.test((await nrunc(['state', id])).stdout));
  assert.equal((await nrunc(['kill', id, '9'])).code, 0);
  assert.equal((await running.ended()).code, 137);
  assert.match((await nrunc(['state', id])).stdout, /"pid": 0,\n {2}"status": "stopped"/);
  assert.equal((await nrunc(['delete', id])).code, 0);
});

test('run forwards signals to the process', { requires: ['root'] }, async t => {
  const text = `for s in HUP INT QUIT USR1 USR2 TERM; do trap "echo $s; [ $s = TERM ] && exit 5" $s; done
echo ready; while :; do sleep 0.02; done`;
  const nrunc = cli(t, sh(text));
  const running = nrunc.start(['run', '-b', nrunc.bundle, nrunc.id]);
  await eventually('ready', () => running.stdout() === 'ready\n');
  const expected = ['ready'];
  for (const signal of ['HUP', 'INT', 'QUIT', 'USR1', 'USR2']) {
    expected.push(signal);
    running.process.kill(`SIG${signal}` as NodeJS.Signals);
    await eventually(`trap of ${signal}`, () => running.stdout() === `${expected.join('\n')}\n`);
  }
  running.process.kill('SIGTERM');
  const { code, signal } = await running.ended();
  assert.deepEqual({ code, signal }, { code: 5, signal: null });
  assert.deepEqual(readdirSync(nrunc.root), []);
});

test('run --preserve-fds and LISTEN_FDS hand descriptors over, and no other', {
  trap: 7,
  requires: ['root'],
}, async t => {
  const nrunc = cli(t, sh('cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l'));
  const directory = makeDirectory(t);
  // Opened anew for each use: what is read from a shared file offset is gone for the next.
  const withFiles = async (count: number, use: (fds: readonly number[]) => Promise<void>): Promise<void> => {
    const fds = ['three\n', 'four\n', 'five\n'].slice(0, count).map((text, index) => {
      writeFileSync(join(directory, String(index)), text);
      return openSync(join(directory, String(index)), 'r');
    });
    try {
      await use(fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  };
  await withFiles(3, async fds => {
    const two = await nrunc(['run', '--preserve-fds', '2', '-b', nrunc.bundle, nrunc.id], { fds });
    // 0, 1, 2, 3, 4 and the directory that ls reads.
    assert.equal(two.stdout, 'three\nfour\n\n6\n', two.stderr);
  });
  await withFiles(2, async fds => {
    // LISTEN_PID has to be nrunc's: a shell knows its own pid and becomes nrunc.
    const words = [
      nruncPath,
      '--root',
      nrunc.root,
      'run',
      '--preserve-fds',
      '1',
      '-b',
      nrunc.bundle,
      nrunc.id,
    ];
    const become = ['-c', 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', 'sh', ...words];
    const listening = await start('/bin/sh', become, { fds }).ended();
    assert.equal(listening.stdout, 'three\nfour\n1 1\n6\n', listening.stderr);
  });
  await withFiles(3, async fds => {
    const short = await nrunc(['run', '--preserve-fds', '4', '-b', nrunc.bundle, nrunc.id], { fds });
    assert.equal(short.code, 1);
    assert.equal(errorMessage(short), 'nrunc run failed: please check that preserved-fd 3 (of 4) is present');
  });
});

test('A start that fails says why, with code 1, and leaves nothing', {
  requires: ['root', 'lane:host'],
}, async t => {
  const rows: readonly (readonly [{ readonly [property: string]: unknown }, RegExp])[] = [
    [{ args: ['nosuch'] }, /: exec: "nosuch": executable file not found in \$PATH$/],
    [{ args: ['/nosuch'] }, /: exec: "\/nosuch": stat \/nosuch: no such file or directory$/],
    [{ args: ['/etc'] }, /: exec: "\/etc": .*(is a directory|permission denied)$/],
    [{ args: ['sh'], cwd: 'relative' }, /process\.cwd/],
  ];
  for (const [process, message] of rows) {
    const nrunc = cli(t, { process });
    for (const command of ['run', 'create']) {
      const result = await nrunc([command, '-b', nrunc.bundle, nrunc.id]);
      assert.equal(result.code, 1);
      assert.match(errorMessage(result), message);
      assert.match(errorMessage(result), new RegExp(`^nrunc ${command} failed: `));
      assert.deepEqual(readdirSync(nrunc.root), []);
    }
  }
});

test('run refuses bad bundles, IDs and terminals in the words of runc', {
  requires: ['root', 'lane:host'],
}, async t => {
  const nrunc = cli(t);
  const terminal = cli(t, { process: { terminal: true } });
  const empty = makeDirectory(t);
  const broken = makeDirectory(t);
  writeFileSync(join(broken, 'config.json'), '{\n  "ociVersion": tru\n}');
  const rows: readonly (readonly [string[], string | RegExp])[] = [
    [['run', '-b', '/nonexist', 'x'], 'nrunc run failed: chdir /nonexist: no such file or directory'],
    [['run', '-b', empty, 'x'], /^nrunc run failed: JSON specification file config\.json not found/],
    [['run', '-b', broken, 'x'], /^nrunc run failed: config\.json is not valid JSON: .*line 2/],
    [['run', '-b', nrunc.bundle, ''], 'nrunc run failed: container id cannot be empty'],
    [['run', '-b', nrunc.bundle, '..'], /^nrunc run failed: invalid container ID format/],
    [['run', '-b', nrunc.bundle, 'a/b'], /^nrunc run failed: invalid container ID format/],
    [['create', '-b', nrunc.bundle, 'x'.repeat(256)], /^nrunc create failed: invalid container ID format/],
    [
      ['create', '-b', nrunc.bundle, '--console-socket', '/s', 'x'],
      'nrunc create failed: cannot use console socket if nrunc will not detach or allocate tty',
    ],
    [
      ['create', '-b', terminal.bundle, 'x'],
      'nrunc create failed: cannot allocate tty if nrunc will detach without setting console socket',
    ],
  ];
  for (const [words, message] of rows) {
    const result = await nrunc(words);
    assert.equal(result.code, 1, words.join(' '));
    if (typeof message === 'string') assert.equal(errorMessage(result), message);
    else assert.match(errorMessage(result), message);
  }
  assert.deepEqual(readdirSync(nrunc.root), []);
});

test('--no-pivot and --no-new-keyring are taken, and the bundle may be the current directory', {
  requires: ['root'],
}, async t => {
  const nrunc = cli(t, sh('echo fine'));
  const words = ['run', '--no-pivot', '--no-new-keyring', '--no-subreaper', nrunc.id];
  const result = await nrunc(words, { cwd: nrunc.bundle });
  assert.deepEqual(result, { code: 0, signal: null, stdout: 'fine\n', stderr: '' });
});

test('run with a terminal passes input, output and the window size on', {
  requires: ['root', 'file:/usr/bin/script'],
}, async t => {
  const text =
    'trap "stty size; exit 3" WINCH; tty; stty size; read line; echo "got $line"; while :; do sleep 0.02; done';
  const nrunc = cli(t, { process: { args: ['/bin/sh', '-c', text], terminal: true } });
  const directory = makeDirectory(t);
  mkdirSync(join(directory, 'out'));
  const inner = `stty rows 33 cols 101; ${nruncPath} --root ${nrunc.root} run -b ${nrunc.bundle} ${nrunc.id} & tty > ${directory}/tty; wait $!; echo code $?`;
  // In the background of that shell nrunc must not be stopped when it sets the terminal: the job control is off.
  const running = start('/usr/bin/script', ['-qec', inner, '/dev/null'], { input: '' });
  await eventually('the first size', () => running.stdout().includes('33 101'));
  const tty = readFileSync(join(directory, 'tty'), 'utf8').trim();
  const resize = await start('/bin/sh', ['-c', `stty rows 44 cols 55 < ${tty}`]).ended();
  assert.equal(resize.code, 0, resize.stderr);
  await eventually('the new size', () => running.stdout().includes('44 55'));
  const { stdout } = await running.ended();
  assert.match(stdout, /\/dev\/pts\/0|\/dev\/console/);
  assert.match(stdout, /code 3/);
});

test('run with a terminal and none to borrow is refused as runc does', { requires: ['root'] }, async t => {
  const nrunc = cli(t, { process: { terminal: true } });
  const words = [nruncPath, '--root', nrunc.root, 'run', '-b', nrunc.bundle, nrunc.id];
  const result = await start('/usr/bin/setsid', ['--wait', ...words]).ended();
  assert.equal(result.code, 1);
  assert.equal(errorMessage(result), 'nrunc run failed: open /dev/tty: no such device or address');
  assert.deepEqual(readdirSync(nrunc.root), []);
});

test('run --detach and start wait for READY=1 when there is a NOTIFY_SOCKET', {
  requires: ['root', 'file:/usr/bin/python3'],
}, async t => {
  const nrunc = cli(t);
  const path = join(makeDirectory(t), 'host.sock');
  const env = { NOTIFY_SOCKET: path };
  // Node has no datagram sockets of this family.
  const receiver = start('/usr/bin/python3', [
    '-c',
    'import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); print("bound", flush=True)\nfor _ in range(2): print(s.recv(999).decode().split("\\n")[0], flush=True)',
    path,
  ]);
  await eventually('the socket of the host', () => receiver.stdout() === 'bound\n');
  const say = async (): Promise<void> => {
    const pid = await eventually('running', async () => {
      const { stdout } = await nrunc(['state', nrunc.id]);
      return stdout.includes('"running"') && Number(JSON.parse(stdout).pid);
    });
    const script =
      'import socket, sys\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", sys.argv[1])';
    const said = await start('/usr/bin/python3', [
      '-c',
      script,
      `/proc/${pid}/root/run/notify/notify.sock`,
    ]).ended();
    assert.equal(said.code, 0, said.stderr);
  };
  const detached = nrunc.start(['run', '-d', '-b', nrunc.bundle, nrunc.id], { env });
  await say();
  assert.equal((await detached.ended()).code, 0);
  await nrunc(['delete', '-f', nrunc.id]);

  assert.equal((await nrunc(['create', '-b', nrunc.bundle, nrunc.id], { env })).code, 0);
  const started = nrunc.start(['start', nrunc.id], { env });
  await say();
  assert.equal((await started.ended()).code, 0);
  assert.equal((await receiver.ended()).stdout, 'bound\nREADY=1\nREADY=1\n');
});

test('The status of run is that of the process, whatever becomes of the removal', {
  requires: ['root'],
}, async t => {
  const nrunc = cli(t);
  const running = nrunc.start(['run', '-b', nrunc.bundle, nrunc.id]);
  await eventually('running', async () => /"running"/.test((await nrunc(['state', nrunc.id])).stdout));
  assert.equal((await nrunc(['delete', '--force', nrunc.id])).code, 0);
  assert.deepEqual(await running.ended(), { code: 137, signal: null, stdout: '', stderr: '' });

  const hooks = { poststop: [{ path: '/bin/false' }] };
  const hooked = cli(t, {
    process: { args: ['/bin/sh', '-c', 'exit 6'] },
    patch: spec => ({ ...spec, hooks }),
  });
  const result = await hooked(['run', '-b', hooked.bundle, hooked.id]);
  assert.equal(result.code, 6);
  assert.match(result.stderr, /^time="[^"]+" level=warning msg=".*poststop.*"\n$/);
  assert.equal((await hooked(['run', '-d', '-b', hooked.bundle, hooked.id])).code, 0);
  const deleted = await hooked(['delete', '-f', hooked.id]);
  assert.equal(deleted.code, 0);
  assert.match(deleted.stderr, /level=warning msg=".*poststop/);
});

test("The caller's soft limit of open files is the container's when a launcher tells it", {
  requires: ['rootless'],
  trap: 24,
  proves: ['process.rlimits'],
}, async t => {
  const patch = (spec: SpecDocument) => {
    delete spec.process.rlimits;
    return undefined;
  };
  const look = 'sed -n "s/^Max open files *//p" /proc/self/limits';
  const limits = (text: string) => text.trim().split(/ +/).slice(0, 2);
  // docs/engines.md has this launcher.
  const told = 'LIBCONTAINER_SOFT_NOFILE=$(ulimit -Sn) exec "$0" "$@"';
  const by = async (launcher: string, program: string, ...words: readonly string[]) =>
    start('/bin/sh', ['-c', `ulimit -Sn 300; ulimit -Hn 900; ${launcher}`, program, ...words]).ended();
  const nrunc = cli(t, { patch, process: { args: ['/bin/sh', '-c', look] } });
  const run = ['--root', nrunc.root, 'run', '-b', nrunc.bundle, nrunc.id];
  assert.deepEqual(limits((await by(told, nruncPath, ...run)).stdout), ['300', '900']);
  // What Node itself has made of it: it cannot be known any more.
  assert.deepEqual(limits((await by('exec "$0" "$@"', nruncPath, ...run)).stdout), ['900', '900']);

  const living = cli(t, { patch });
  assert.equal((await living(['run', '-d', '-b', living.bundle, living.id])).code, 0);
  const exec = ['--root', living.root, 'exec', living.id, '/bin/sh', '-c', look];
  assert.deepEqual(limits((await by(told, nruncPath, ...exec)).stdout), ['300', '900']);
  const wrong = await start(nruncPath, exec, { env: { LIBCONTAINER_SOFT_NOFILE: 'x' } }).ended();
  assert.equal(wrong.code, 255);
  assert.match(errorMessage(wrong), /LIBCONTAINER_SOFT_NOFILE is "x", not a number/);
  // A configuration that says it is not touched.
  const own = cli(t, { process: { args: ['/bin/sh', '-c', look] } });
  const words = ['--root', own.root, 'run', '-b', own.bundle, own.id];
  const configured = await start(nruncPath, words, { env: { LIBCONTAINER_SOFT_NOFILE: '300' } }).ended();
  assert.deepEqual(limits(configured.stdout), ['1024', '1024']);
});
