/**
 * Podman of Debian with nrunc as its runtime, and with runc as the control: what podman and the container see is the
 * same. One image store; each container remembers the runtime that it was made with.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../harness/deadline.ts';
import type { Requirement } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import type { Result } from '../integration/cli-fixture.ts';
import {
  Cgroup,
  comparable,
  type Engine,
  engineDirectory,
  factsScript,
  image,
  imageArchive,
  installNrunc,
  inTerminal,
  keptStates,
  output,
  run,
  underSystemd,
} from './engine.ts';

const requires: readonly Requirement[] = ['root', 'podman', 'runc', 'overlay'];
const timeoutMs = 60_000;

interface Podman extends Engine {
  readonly directory: string;
  inTerminal(words: readonly string[]): Promise<Result>;
}

/** The configuration lines of docs/engines.md, over an image store of our own. */
function podmanIn(directory: string, cgroupManager: string, as: readonly string[] = []): Podman {
  const nrunc = installNrunc(directory);
  const config = join(directory, 'containers.conf');
  writeFileSync(
    config,
    // Podman asks for the highest limits, which takes a capability that not every machine's root has.
    `[engine]
cgroup_manager = "${cgroupManager}"
events_logger = "none"
runtime_supports_json = ["crun", "runc", "kata", "runsc", "krun", "nrunc"]
[engine.runtimes]
nrunc = ["${nrunc}"]
runc = ["/usr/sbin/runc", "/usr/bin/runc"]
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
log_driver = "k8s-file"
`,
  );
  const first = [
    ...['--root', join(directory, 'storage'), '--runroot', join(directory, 'run')],
    ...['--tmpdir', join(directory, 'tmp'), '--storage-driver', 'overlay', '--log-level', 'error'],
  ];
  const options = { cwd: directory, env: { CONTAINERS_CONF: config, XDG_RUNTIME_DIR: directory } };
  const [program = '', ...words] = [...as, 'podman', ...first];
  return Object.assign(
    (more: readonly string[], given = {}) => run(program, [...words, ...more], { ...options, ...given }),
    {
      directory,
      inTerminal: (more: readonly string[]) => inTerminal(program, [...words, ...more], options),
    },
  );
}

let shared: Promise<Podman> | undefined;
/** With the image loaded. */
function podmanOfRoot(): Promise<Podman> {
  shared ??= (async () => {
    const podman = podmanIn(engineDirectory('podman'), underSystemd ? 'systemd' : 'cgroupfs');
    await output(podman, ['load', '-q', '-i', imageArchive(podman.directory)]);
    return podman;
  })();
  return shared;
}

interface Inspected {
  readonly Id: string;
  readonly OCIRuntime: string;
  readonly State: { readonly Pid: number; readonly Status: string; readonly ExitCode: number };
}
const inspect = async (podman: Podman, name: string): Promise<Inspected> =>
  JSON.parse(await output(podman, ['container', 'inspect', name]))[0];

const profile = JSON.stringify({
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: [{ names: ['chroot'], action: 'SCMP_ACT_ERRNO', errnoRet: 44 }],
});

/** Every option of the list in one container, which then lives through its commands. */
async function everyOption(podman: Podman, runtime: string): Promise<readonly string[]> {
  const name = `options-${runtime}`;
  const seccomp = join(podman.directory, 'seccomp.json');
  writeFileSync(seccomp, profile);
  mkdirSync(join(podman.directory, 'volume'), { recursive: true });
  await output(podman, [
    ...['--runtime', runtime, 'run', '-d', '--name', name, '--hostname', 'box', '--network', 'none'],
    ...[
      '--memory',
      '64m',
      '--memory-swap',
      '64m',
      '--pids-limit',
      '77',
      '--cpus',
      '0.5',
      '--cpu-shares',
      // One of the few that both curves from shares to weights have in common.
      '262144',
    ],
    ...['--device', '/dev/null:/dev/nothing:r', '--cap-drop', 'ALL', '--cap-add', 'CHOWN,KILL'],
    ...[
      '--security-opt',
      `seccomp=${seccomp}`,
      '--security-opt',
      'no-new-privileges',
      '--read-only',
      '--init',
    ],
    ...[
      '--ulimit',
      'nofile=200:200',
      '--ulimit',
      'nproc=1000:1000',
      '--tmpfs',
      '/scratch:size=1m',
      '--volume',
      `${podman.directory}/volume:/data:ro`,
    ],
    ...[
      '--env',
      'A=b c',
      '--oom-score-adj',
      '100',
      '--sysctl',
      'net.ipv4.ip_forward=1',
      '--shm-size',
      '1m',
      image,
    ],
    ...['sh', '-c', 'trap "echo got USR1; exit 9" USR1; echo begun; while :; do sleep 1 & wait $!; done'],
  ]);
  const { Id, OCIRuntime, State } = await inspect(podman, name);
  assert.equal(OCIRuntime, runtime);
  const cgroup = new Cgroup(State.Pid);
  const facts = await output(podman, [
    'exec',
    name,
    'sh',
    '-c',
    `${factsScript}; cat /proc/1/cmdline | tr '\\0' ' '`,
  ]);
  const user = await podman([
    ...['exec', '--user', '1000:50', '--workdir', '/scratch', '--env', 'X=y', name],
    ...['sh', '-c', 'id; pwd; echo $X; chroot / true; echo >/root/file; echo err >&2; exit 7'],
  ]);
  assert.equal(user.code, 7);
  const before = cgroup.limits();
  assert.deepEqual(before, ['67108864', '77', '50000 100000']);
  await output(podman, ['update', '--memory', '80m', '--memory-swap', '96m', '--cpus', '0.75', name]);
  const updated = cgroup.limits();
  assert.equal(updated[0], '83886080');
  await output(podman, ['pause', name]);
  assert.ok(cgroup.frozen());
  const paused = await podman(['exec', name, 'true']);
  assert.notEqual(paused.code, 0);
  await output(podman, ['unpause', name]);
  assert.ok(!cgroup.frozen());
  const [stats] = JSON.parse(await output(podman, ['stats', '--no-stream', '--format', 'json', name]));
  assert.ok(Number(stats.pids) >= 2, JSON.stringify(stats));
  await output(podman, ['kill', '--signal', 'USR1', name]);
  await eventually('the exit', async () => (await inspect(podman, name)).State.Status === 'exited');
  const { State: ended } = await inspect(podman, name);
  const logs = await output(podman, ['logs', name]);
  await output(podman, ['rm', name]);
  return [
    ...comparable(facts, {
      [Id]: '<id>',
      [Id.slice(0, 12)]: '<id>',
      [podman.directory]: '<directory>',
      [name]: '<name>',
    }),
    `${user.stdout}${user.stderr
      .split('\n')
      .filter(line => !line.includes('Error:'))
      .join('\n')}`,
    ...before,
    ...updated,
    `exit code ${ended.ExitCode}`,
    logs,
  ];
}

/** Both runtimes, one after the other; then what they answered is compared. */
async function alike(podman: Podman, work: (podman: Podman, runtime: string) => Promise<readonly string[]>) {
  const [control, ours] = [await work(podman, 'runc'), await work(podman, 'nrunc')];
  assert.deepEqual(ours, control);
  assert.deepEqual(keptStates(), [], 'nothing of nrunc is left');
  return ours;
}

test('podman: a container with every option lives through its commands as under runc', {
  requires,
  timeoutMs,
  leaks: false, // The image store is mounted until the end of the file.
}, async () => {
  const seen = await alike(await podmanOfRoot(), everyOption);
  const text = seen.join('\n');
  assert.match(text, /CapEff:\t0000000000000021/);
  assert.match(text, /NoNewPrivs:\t1/);
  assert.match(text, /uid=1000\S* gid=50/);
  assert.match(text, /Errno 44|error 44|Level 2 not synchronized|chroot: /i);
  assert.match(text, /begun\ngot USR1/);
  assert.match(text, /exit code 9/);
});

/** Exit codes and sentences that podman makes of the runtime's. */
async function answers(podman: Podman, runtime: string): Promise<readonly string[]> {
  const once = ['--runtime', runtime, 'run', '--rm', '--network', 'none'];
  const terminal = await podman.inTerminal([
    ...[...once, '-it', image, 'sh', '-c', 'tty; test -t 0 && echo terminal; exit 5'],
  ]);
  const mapped = await podman([
    ...[...once, '--uidmap', '0:100000:5000', '--gidmap', '0:100000:5000', image],
    ...['sh', '-c', 'cat /proc/self/uid_map; id -u; exit 3'],
  ]);
  const missing = await podman([...once, image, '/nosuch']);
  const refused = await podman([...once, image, '/etc']);
  const killed = await podman([...once, image, 'sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?']);
  const sentence = ({ code, stderr }: Result): string =>
    `${code} ${/(executable file .*not found|no such file or directory|permission denied)/i.exec(stderr)?.[1]?.toLowerCase() ?? stderr}`;
  return [
    `terminal ${terminal.code} ${terminal.stdout}`,
    `mapped ${mapped.code} ${mapped.stdout} ${mapped.stderr}`,
    `missing ${missing.code} ${missing.code === 127}`,
    `refused ${sentence(refused)}`,
    `killed ${killed.code}`,
  ];
}

test('podman run: terminal, user namespace and exit codes are as under runc', {
  requires,
  timeoutMs,
  leaks: false, // As above.
}, async () => {
  const seen = (await alike(await podmanOfRoot(), answers)).join('\n');
  assert.match(seen, /terminal 5 \/dev\/pts\/0\s+terminal/);
  assert.match(seen, /mapped 3 +0 +100000 +5000\n0/);
  assert.match(seen, /missing 127/);
  assert.match(seen, /refused 126/);
  assert.match(seen, /killed 137/);
});

/** Two containers of a pod: the second joins the namespaces of the first by path. */
async function pod(podman: Podman, runtime: string): Promise<readonly string[]> {
  const name = `pod-${runtime}`;
  const words = ['--runtime', runtime];
  await output(podman, [
    ...[...words, 'pod', 'create', '--name', name, '--network', 'none', '--hostname', 'inpod'],
    ...['--infra-image', image, '--infra-command', 'sleep 1000', '--share', 'ipc,net,uts,pid'],
  ]);
  const namespaces = 'for n in ipc net uts pid mnt; do readlink /proc/self/ns/$n; done; hostname';
  const runs = [...words, 'run', '--rm', '--pod', name, image, 'sh', '-c', namespaces];
  const [first, second] = [await output(podman, runs), await output(podman, runs)];
  const [one, two] = [first.split('\n'), second.split('\n')];
  assert.deepEqual(two.slice(0, 4), one.slice(0, 4));
  await output(podman, ['pod', 'stop', '-t', '0', name]);
  await output(podman, ['pod', 'rm', name]);
  return [one.at(-1) ?? ''];
}

test('podman pod: containers share the namespaces of the first', {
  requires,
  timeoutMs,
  leaks: false, // As above.
}, async () => {
  assert.deepEqual(await alike(await podmanOfRoot(), pod), ['inpod']);
});
