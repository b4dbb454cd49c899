/** `nrunc checkpoint` and `nrunc restore`: each command another process. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupMount } from '../../lib/criu/cgroup-options.ts';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Cli, cli, errorMessage, nruncPath, start } from './cli-fixture.ts';
import { type Counter, counterOf, requires } from './criu-fixture.ts';

const timeoutMs = 60_000;
const counting = 'i=0; while :; do i=$((i+1)); echo $i >/mnt/count; usleep 20000; done';

interface Counting extends Counter {
  /** nrunc, or the program that was given, over one bundle each, of the same configuration. */
  readonly runs: readonly [Cli, Cli];
}

function countingCli(t: TestContext, ...programs: readonly (string | undefined)[]): Counting {
  const data = makeDirectory(t);
  const patch = (spec: SpecDocument): undefined => {
    spec.mounts.push({ destination: '/mnt', type: 'bind', source: data, options: ['bind', 'rw'] });
    return undefined;
  };
  const [first, second] = [programs[0], programs[1]].map(program =>
    cli(t, {
      process: { args: ['/bin/sh', '-c', counting] },
      patch,
      ...(program === undefined ? {} : { program }),
    }),
  );
  return { runs: [first ?? assert.fail(), second ?? assert.fail()], ...counterOf(data) };
}

/** Without streams of ours, since the container keeps them; what it says is in a log. */
async function good(run: Cli, ...words: string[]): Promise<void> {
  const log = join(run.bundle, 'log');
  const { code } = await run(['--log', log, ...words], { noStreams: true });
  if (code !== 0) assert.fail(`${words.join(' ')}: ${readFileSync(log, 'utf8')}`);
}

const stateOf = async (run: Cli, id: string): Promise<{ status: string; pid: number }> =>
  JSON.parse((await run(['state', id])).stdout);

test('checkpoint deletes the container, restore brings it back with a pid file, twice, after a pre-dump', {
  requires,
  timeoutMs,
}, async t => {
  const { runs, further, count } = countingCli(t);
  const [nrunc] = runs;
  const images = makeDirectory(t);
  const image = (name: string): string => {
    mkdirSync(join(images, name));
    return join(images, name);
  };
  await good(nrunc, 'run', '-d', '-b', nrunc.bundle, nrunc.id);
  await further();
  await good(nrunc, 'checkpoint', '--pre-dump', '--image-path', image('0'), nrunc.id);
  const before = await further();
  const [first, work] = [image('1'), image('work')];
  await good(
    nrunc,
    ...['checkpoint', '--image-path', first, '--work-path', work, '--parent-path', '../0', nrunc.id],
  );
  assert.match(readFileSync(join(work, 'dump.log'), 'utf8'), /Dumping finished successfully/);
  assert.equal(errorMessage(await nrunc(['state', nrunc.id])), 'container does not exist');
  assert.ok(count() >= before);

  const pidFile = join(work, 'pid');
  const restore = (path: string) => [
    ...['restore', '-d', '--image-path', path, '--work-path', work],
    ...['--pid-file', pidFile, '-b', nrunc.bundle, nrunc.id],
  ];
  await good(nrunc, ...restore(first));
  assert.ok((await further()) > before);
  const { status, pid } = await stateOf(nrunc, nrunc.id);
  assert.equal(status, 'running');
  assert.equal(readFileSync(pidFile, 'utf8'), String(pid));
  assert.match(errorMessage(await nrunc(restore(first))), /already exists/);
  await further();

  const second = image('2');
  await good(nrunc, 'checkpoint', '--image-path', second, nrunc.id);
  await good(nrunc, ...restore(second));
  await further();
  const beside = await nrunc(['exec', nrunc.id, 'cat', '/proc/1/comm']);
  assert.equal(beside.stdout, 'sh\n', beside.stderr);
  await nrunc(['kill', nrunc.id, 'KILL']);
  await eventually('its end', async () => (await stateOf(nrunc, nrunc.id)).status === 'stopped');
  await good(nrunc, 'delete', nrunc.id);
});

test('pipes of who restores are the streams, detached and in the foreground', {
  requires,
  timeoutMs,
}, async t => {
  const program = 'echo begin; while [ ! -e /mnt/stop ]; do echo $((i=i+1)); usleep 20000; done; exit 7';
  const data = makeDirectory(t);
  const nrunc = cli(t, {
    process: { args: ['/bin/sh', '-c', program] },
    patch: spec => {
      spec.mounts.push({ destination: '/mnt', type: 'bind', source: data, options: ['bind', 'ro'] });
      return undefined;
    },
  });
  const image = makeDirectory(t);
  // Real pipes are made by a shell; it ends with the last writer.
  const piped = (...words: string[]) =>
    start('/bin/sh', [
      '-c',
      '{ "$@" 2>&1; echo code $?; } </dev/null | cat',
      'sh',
      nruncPath,
      '--root',
      nrunc.root,
      ...words,
    ]);
  const first = piped('run', '-d', '-b', nrunc.bundle, nrunc.id);
  await eventually(
    'its numbers',
    () => first.stdout().includes('\n3\n') && first.stdout().includes('code 0\n'),
  );
  await good(nrunc, 'checkpoint', '--image-path', image, nrunc.id);
  const { stdout } = await first.ended();
  assert.match(stdout, /begin\n/);
  const last = Number([...stdout.matchAll(/^\d+$/gm)].at(-1)?.[0]);
  const second = piped('restore', '--image-path', image, '-b', nrunc.bundle, nrunc.id);
  await eventually('further numbers', () => second.stdout().includes(`${last + 2}\n`));
  mkdirSync(join(data, 'stop'));
  // In the foreground nrunc ends with it, with its status, and deletes it.
  const end = await second.ended();
  assert.match(end.stdout, /code 7\n$/);
  assert.doesNotMatch(end.stdout, /begin/);
  assert.equal(errorMessage(await nrunc(['state', nrunc.id])), 'container does not exist');
});

/** Node cannot receive descriptors: Python does, types a line into the terminal and copies what that says. */
const receiver = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); print("listening", flush=True)
c, _ = s.accept()
data, ancillary, _, _ = c.recvmsg(4096, socket.CMSG_SPACE(4))
fd = array.array("i", ancillary[0][2])[0]
os.write(fd, (sys.argv[2] + "\\n").encode())
try:
  while True:
    part = os.read(fd, 4096)
    if not part: break
    sys.stdout.write(part.decode()); sys.stdout.flush()
except OSError: pass
print("closed", flush=True)`;

test('a terminal is sent to the console socket, once more after the restore', {
  requires: [...requires, 'file:/usr/bin/python3'],
  timeoutMs,
}, async t => {
  const program = 'stty -echo; while read line; do echo "got $line"; done';
  const nrunc = cli(t, { process: { args: ['/bin/sh', '-c', program], terminal: true } });
  const directory = makeDirectory(t);
  const image = makeDirectory(t);
  const receive = async (word: string) => {
    const socket = join(directory, word);
    const python = start('/usr/bin/python3', ['-c', receiver, socket, word]);
    await eventually('the socket', () => python.stdout().startsWith('listening'));
    return {
      socket,
      python,
      answered: () => eventually('an answer', () => python.stdout().includes(`got ${word}\r\n`)),
    };
  };
  const one = await receive('one');
  await good(nrunc, 'run', '-d', '--console-socket', one.socket, '-b', nrunc.bundle, nrunc.id);
  await one.answered();
  await good(nrunc, 'checkpoint', '--image-path', image, nrunc.id);
  assert.match((await one.python.ended()).stdout, /closed\n$/);
  const two = await receive('two');
  await good(
    nrunc,
    ...['restore', '-d', '--console-socket', two.socket, '--image-path', image, '-b', nrunc.bundle, nrunc.id],
  );
  await two.answered();
  await good(nrunc, 'delete', '--force', nrunc.id);
  assert.match((await two.python.ended()).stdout, /closed\n$/);
});

/** runc lets CRIU mount cgroup2 without its options (lib/criu/cgroup-options.ts), and CRIU makes the cgroups of the image. */
function cleanAfterRunc(t: TestContext, cgroup: string): void {
  const before = cgroupMount(readFileSync('/proc/self/mountinfo', 'utf8'));
  t.after(() => {
    if (before !== undefined) execFileSync('mount', ['-o', `remount,${before.options}`, before.point]);
    if (existsSync(cgroup)) rmdirSync(cgroup);
  });
}

for (const [from, to] of [
  ['runc', undefined],
  [undefined, 'runc'],
] as const)
  test(`a checkpoint by ${from ?? 'nrunc'} is restored by ${to ?? 'nrunc'}`, {
    requires: [...requires, 'runc', 'cgroup-v2'],
    timeoutMs,
  }, async t => {
    const { runs, further, count } = countingCli(t, from, to);
    const [source, target] = runs;
    const cgroup = join('/sys/fs/cgroup', source.id);
    cleanAfterRunc(t, cgroup);
    const image = makeDirectory(t);
    await good(source, 'run', '-d', '-b', source.bundle, source.id);
    await further();
    await good(source, 'checkpoint', '--image-path', image, source.id);
    assert.ok(!existsSync(cgroup));
    const reached = count();
    await good(target, 'restore', '-d', '--image-path', image, '-b', target.bundle, target.id);
    assert.ok((await further()) > reached);
    await good(target, 'delete', '--force', target.id);
  });
