/** The Docker engine of Debian with `--add-runtime nrunc=…`, and with runc as the control; daemon and images are our own. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, waitFor } from '../harness/deadline.ts';
import type { Requirement } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import {
  atEnd,
  Cgroup,
  comparable,
  type Engine,
  engineDirectory,
  factsScript,
  image,
  imageArchive,
  installNrunc,
  inTerminal,
  output,
  run,
  underSystemd,
  unmountBelow,
} from './engine.ts';

const requires: readonly Requirement[] = ['root', 'dockerd', 'runc', 'overlay'];
const timeoutMs = 60_000;
/** Debian's, beside which another client may be in PATH. */
const client = '/usr/bin/docker';

interface Docker {
  readonly docker: Engine;
  readonly host: string;
  readonly directory: string;
  log(): string;
}

async function startDaemon(): Promise<Docker> {
  const directory = engineDirectory('docker');
  const host = `unix://${directory}/docker.sock`;
  const docker: Engine = (words, options) => run(client, ['--host', host, ...words], options);
  const log = openSync(join(directory, 'log'), 'a');
  const daemon: ChildProcess = spawn(
    'dockerd',
    [
      ...['--host', host, '--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')],
      ...[
        '--pidfile',
        join(directory, 'pid'),
        '--storage-driver',
        'overlay2',
        '--exec-opt',
        `native.cgroupdriver=${underSystemd ? 'systemd' : 'cgroupfs'}`,
      ],
      ...['--add-runtime', `nrunc=${installNrunc(directory)}`],
      // No network in the guest.
      ...[
        '--bridge',
        'none',
        '--iptables=false',
        '--ip6tables=false',
        '--ip-forward=false',
        '--ip-masq=false',
      ],
    ],
    { stdio: ['ignore', log, log] },
  );
  atEnd(async () => {
    const ended = daemon.exitCode !== null ? Promise.resolve() : waitFor(daemon, 'exit', 30_000);
    daemon.kill('SIGTERM');
    await ended;
    unmountBelow(directory);
  });
  await eventually('dockerd answers', async () => (await docker(['version'])).code === 0, 60_000);
  await output(docker, ['load', '-i', imageArchive(directory)]);
  return { docker, host, directory, log: () => readFileSync(join(directory, 'log'), 'utf8') };
}

let shared: Promise<Docker> | undefined;
function engine(): Promise<Docker> {
  shared ??= startDaemon();
  return shared;
}

interface Inspected {
  readonly Id: string;
  readonly RestartCount: number;
  readonly HostConfig: { readonly Runtime: string };
  readonly State: { readonly Pid: number; readonly Status: string; readonly ExitCode: number };
}
const inspect = async (docker: Engine, name: string): Promise<Inspected> =>
  JSON.parse(await output(docker, ['inspect', name]))[0];

async function lives({ docker, host, directory }: Docker, runtime: string): Promise<readonly string[]> {
  const name = `life-${runtime}`;
  await output(docker, [
    ...[
      'run',
      '-d',
      '--runtime',
      runtime,
      '--name',
      name,
      '--hostname',
      'box',
      '--network',
      'none',
      '--init',
    ],
    ...['--memory', '64m', '--pids-limit', '77', '--cap-drop', 'ALL', '--cap-add', 'CHOWN', '--read-only'],
    ...['--device', '/dev/null:/dev/nothing:r', '--security-opt', 'no-new-privileges', '--tmpfs', '/scratch'],
    ...[
      '--env',
      'A=b',
      image,
      'sh',
      '-c',
      'trap "echo got; exit 9" USR1; echo begun; while :; do sleep 1 & wait $!; done',
    ],
  ]);
  const { Id, HostConfig, State } = await inspect(docker, name);
  assert.equal(HostConfig.Runtime, runtime);
  const cgroup = new Cgroup(State.Pid);
  const place = underSystemd ? `/system.slice/docker-${Id}.scope` : `/docker/${Id}`;
  assert.ok(cgroup.directory('memory').endsWith(place), cgroup.directory('memory'));
  const facts = await output(docker, ['exec', name, 'sh', '-c', factsScript]);
  const seven = await docker([
    'exec',
    '-u',
    '1000:50',
    '-w',
    '/scratch',
    name,
    'sh',
    '-c',
    'id; pwd; echo err >&2; exit 7',
  ]);
  const terminal = await inTerminal(client, ['--host', host, 'exec', '-it', name, 'sh', '-c', 'tty; exit 5']);
  const missing = await docker(['exec', name, '/nosuch']);
  await output(docker, ['update', '--memory', '80m', '--memory-swap', '96m', '--cpus', '0.5', name]);
  assert.deepEqual(cgroup.limits(), ['83886080', '77', '50000 100000']);
  await output(docker, ['pause', name]);
  assert.ok(cgroup.frozen());
  await output(docker, ['unpause', name]);
  const stats = JSON.parse(await output(docker, ['stats', '--no-stream', '--format', '{{json .}}', name]));
  assert.match(stats.MemUsage, / 80MiB$/);
  await output(docker, ['kill', '--signal', 'USR1', name]);
  assert.equal(await output(docker, ['wait', name]), '9');
  const logs = await output(docker, ['logs', name]);
  await output(docker, ['start', name]);
  await output(docker, ['stop', '-t', '0', name]);
  const { State: ended } = await inspect(docker, name);
  await output(docker, ['rm', name]);
  assert.ok(cgroup.gone(), 'the cgroup is gone');
  return [
    ...comparable(facts, { [Id]: '<id>', [Id.slice(0, 12)]: '<id>', [directory]: '<directory>' }),
    `${seven.code} ${seven.stdout} ${seven.stderr}`,
    `${terminal.code} ${terminal.stdout}`,
    `${missing.code} ${/exec: ".*?": .*?(?=: unknown)/.exec(missing.stderr + missing.stdout)?.[0] ?? missing.stderr}`,
    logs,
    `ended ${ended.ExitCode}`,
  ];
}

test('docker: run, exec, update, pause, stats, kill, logs, start and stop are as under runc', {
  requires,
  timeoutMs,
  leaks: false, // The daemon lives until the end of the file.
}, async () => {
  const daemon = await engine();
  const control = await lives(daemon, 'runc');
  assert.deepEqual(await lives(daemon, 'nrunc'), control, daemon.log());
  const text = control.join('\n');
  assert.match(text, /CapEff:\t0000000000000001/);
  assert.match(text, /^7 uid=1000/m);
  assert.match(text, /^5 \/dev\/pts\/0/m);
  assert.match(text, /begun\ngot/);
});

async function answers({ docker }: Docker, runtime: string): Promise<readonly string[]> {
  const name = `again-${runtime}`;
  const first = ['run', '--runtime', runtime, '--network', 'none'];
  await output(docker, [
    ...first,
    '-d',
    '--name',
    name,
    '--restart',
    'on-failure:2',
    image,
    'sh',
    '-c',
    'echo once; exit 4',
  ]);
  await eventually(
    'two restarts',
    async () => {
      const { State, RestartCount } = await inspect(docker, name);
      return State.Status === 'exited' && RestartCount === 2;
    },
    30_000,
  );
  const logs = await output(docker, ['logs', name]);
  await output(docker, ['rm', name]);
  const missing = await docker([...first, '--rm', image, '/nosuch']);
  const refused = await docker([...first, '--rm', image, '/etc']);
  const sentence = (text: string): string => /exec: ".*?": .*?(?=: unknown)/.exec(text)?.[0] ?? text;
  return [logs, `${missing.code} ${sentence(missing.stderr)}`, `${refused.code} ${sentence(refused.stderr)}`];
}

test('docker: --restart, and the sentences of failed starts, are as under runc', {
  requires,
  timeoutMs,
  leaks: false, // As above.
}, async () => {
  const daemon = await engine();
  const control = await answers(daemon, 'runc');
  assert.deepEqual(await answers(daemon, 'nrunc'), control);
  assert.equal(control[0], 'once\nonce\nonce');
  assert.match(control[1] ?? '', /^127 /);
  assert.match(control[2] ?? '', /^126 /);
});
