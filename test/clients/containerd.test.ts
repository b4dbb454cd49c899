/**
 * containerd of Debian: its shim with nrunc as BinaryName, and with runc as the control. The daemon is our own, with its
 * state on tmpfs.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { Containerd, requires } from './containerd-daemon.ts';
import { Cgroup, comparable, factsScript, image, imageArchive, output, underSystemd } from './engine.ts';

const timeoutMs = 60_000;

let shared: Promise<Containerd> | undefined;
function containerd(): Promise<Containerd> {
  shared ??= (async () => {
    const daemon = new Containerd();
    await daemon.start();
    await output(daemon.ctr, ['images', 'import', imageArchive(daemon.directory)]);
    return daemon;
  })();
  return shared;
}

const words = (daemon: Containerd, runtime: string, ...more: string[]): string[] => [
  ...['run', '--runc-binary', daemon.pathOf(runtime), ...(underSystemd ? ['--runc-systemd-cgroup'] : [])],
  ...['--runc-root', join(daemon.directory, `root-${runtime}`), ...more],
];

async function lives(daemon: Containerd, runtime: string): Promise<readonly string[]> {
  const { ctr } = daemon;
  const id = `life-${runtime}`;
  await output(ctr, [
    ...words(
      daemon,
      runtime,
      '--detach',
      '--memory-limit',
      '67108864',
      '--cgroup',
      underSystemd ? `system.slice:test:${id}` : `/test-engines/${id}`,
    ),
    ...['--env', 'A=b', '--seccomp', '--read-only', image, id],
    ...['sh', '-c', 'trap "exit 9" USR1; echo begun; while :; do sleep 1 & wait $!; done'],
  ]);
  const pid = Number(
    (await output(ctr, ['task', 'ls']))
      .split('\n')
      .map(line => line.split(/\s+/))
      .find(([name]) => name === id)?.[1],
  );
  const cgroup = new Cgroup(pid);
  assert.equal(cgroup.limits()[0], '67108864');
  const place = underSystemd ? `test-${id}.scope` : `/test-engines/${id}`;
  assert.ok(cgroup.directory('memory').endsWith(place), cgroup.directory('memory'));
  const facts = await output(ctr, ['task', 'exec', '--exec-id', 'facts', id, 'sh', '-c', factsScript]);
  const seven = await ctr([
    'task',
    'exec',
    '--exec-id',
    'seven',
    id,
    'sh',
    '-c',
    'echo out; echo err >&2; exit 7',
  ]);
  const terminal = await daemon.inTerminal([
    'task',
    'exec',
    '--tty',
    '--exec-id',
    'tty',
    id,
    'sh',
    '-c',
    'tty; exit 5',
  ]);
  const missing = await ctr(['task', 'exec', '--exec-id', 'missing', id, '/nosuch']);
  await output(ctr, ['task', 'pause', id]);
  assert.ok(cgroup.frozen());
  const status =
    (await output(ctr, ['task', 'ls'])).split('\n').find(line => line.startsWith(`${id} `)) ?? '';
  await output(ctr, ['task', 'resume', id]);
  const metrics = await output(ctr, ['task', 'metrics', '--format', 'json', id]);
  const pids = await output(ctr, ['task', 'ps', id]);
  assert.match(pids, new RegExp(`^${pid}\\b`, 'm'));
  // The shim goes on without its daemon, and is found by the next one.
  await daemon.stop();
  assert.ok(existsSync(`/proc/${pid}`), 'the container outlives the daemon');
  await daemon.start();
  assert.equal((await ctr(['task', 'exec', '--exec-id', 'again', id, 'true'])).code, 0, daemon.log());
  await output(ctr, ['task', 'kill', '--signal', 'SIGUSR1', id]);
  await eventually('stopped', async () => /STOPPED/.test(await output(ctr, ['task', 'ls'])), 30_000);
  const removed = await ctr(['task', 'delete', id]);
  await output(ctr, ['containers', 'delete', id]);
  assert.ok(cgroup.gone(), 'the cgroup is gone');
  return [
    ...comparable(facts, { [id]: '<id>', [daemon.directory]: '<directory>' }),
    `${seven.code} ${seven.stdout} ${seven.stderr}`,
    // The client itself may complain that a program which has ended cannot be resized.
    `${terminal.code} ${terminal.stdout.split('\r')[0]}`,
    `missing ${missing.code} ${/exec: ".*?": .*?(?=: unknown)/.exec(missing.stderr)?.[0] ?? missing.stderr}`,
    status.replace(id, '<id>').replace(/\d+/, '<pid>').replace(/\s+/g, ' '),
    Object.keys(JSON.parse(metrics)).join(' '),
    `deleted ${removed.code}`,
  ];
}

test('containerd: exec, pause, metrics, restart of the daemon, kill, as under runc', {
  requires,
  timeoutMs,
  leaks: false, // The daemon lives until the end of the file.
}, async () => {
  const daemon = await containerd();
  const control = await lives(daemon, 'runc');
  assert.deepEqual(await lives(daemon, 'nrunc'), control);
  assert.match(control.join('\n'), /^7 out/m);
});

test('containerd: foreground, terminal, a failed start', {
  requires,
  timeoutMs,
  leaks: false, // As above.
}, async () => {
  const daemon = await containerd();
  const seen = async (runtime: string): Promise<readonly string[]> => {
    // ctr takes systemd's driver only with a unit by name.
    const once = (name: string): string[] => [
      ...words(daemon, runtime, '--rm'),
      ...(underSystemd ? ['--cgroup', `system.slice:test:${name}-${runtime}`] : []),
    ];
    const five = await daemon.ctr([
      ...once('five'),
      image,
      `five-${runtime}`,
      'sh',
      '-c',
      'echo out; exit 5',
    ]);
    const terminal = await daemon.inTerminal([
      ...once('tty'),
      '--tty',
      image,
      `tty-${runtime}`,
      'sh',
      '-c',
      'tty; exit 6',
    ]);
    const missing = await daemon.ctr([...once('missing'), image, `missing-${runtime}`, '/nosuch']);
    return [
      `${five.code} ${five.stdout}`,
      `${terminal.code} ${terminal.stdout.split('\r')[0]}`,
      `${missing.code} ${/exec: ".*?": .*?(?=: unknown)/.exec(missing.stderr)?.[0] ?? missing.stderr}`,
    ];
  };
  const control = await seen('runc');
  assert.deepEqual(await seen('nrunc'), control);
  assert.match(control.join('\n'), /^5 out\n/);
  assert.match(control.join('\n'), /^6 \/dev\/pts\/0/m);
});
