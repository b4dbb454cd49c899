/** `podman container checkpoint` and `restore` with nrunc as the runtime: conmon restores, Podman reads our log. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import {
  engineDirectory,
  image,
  imageArchive,
  installNrunc,
  keptStates,
  output,
  run,
  underSystemd,
} from './engine.ts';

/** A process that has the directory in its command line. */
function isAtWork(directory: string): boolean {
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name));
  return pids.some(pid => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(directory);
    } catch {
      return false; // it has just ended
    }
  });
}

const program = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done';

test('podman container checkpoint and restore: the container goes on counting', {
  requires: ['root', 'podman', 'overlay', 'criu', 'iptables'],
  timeoutMs: 60_000,
  leaks: false, // The image store is mounted until the end of the file.
}, async () => {
  const directory = engineDirectory('podman-criu');
  const config = join(directory, 'containers.conf');
  writeFileSync(
    config,
    `[engine]
cgroup_manager = "${underSystemd ? 'systemd' : 'cgroupfs'}"
events_logger = "none"
runtime = "nrunc"
[engine.runtimes]
nrunc = ["${installNrunc(directory)}"]
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
  const podman = (words: readonly string[]) => run('podman', [...first, ...words], options);
  await output(podman, ['load', '-q', '-i', imageArchive(directory)]);
  // Read from its file: each command of Podman's takes seconds in a slow guest.
  const log = join(directory, 'log');
  const numbers = (): number[] =>
    [...readFileSync(log, 'utf8').matchAll(/ stdout F (\d+)$/gm)].map(([, word]) => Number(word));
  const further = (from: number): Promise<number> =>
    eventually('further numbers', () => {
      const last = numbers().at(-1) ?? 0;
      return last > from ? last : undefined;
    });
  const settings = ['--name', 'counter', '--network', 'none', '--log-opt', `path=${log}`];
  await output(podman, ['run', '-d', ...settings, image, 'sh', '-c', program]);
  await further(2);
  await output(podman, ['container', 'checkpoint', 'counter']);
  const reached = numbers().at(-1) ?? 0;
  assert.deepEqual(keptStates(), []);
  await output(podman, ['container', 'restore', 'counter']);
  assert.equal(keptStates().length, 1);
  await further(reached);
  // Each number once, and none left out: it went on where it was.
  const all = numbers();
  assert.deepEqual(
    all,
    all.map((_, at) => at + 1),
  );
  await output(podman, ['rm', '-f', '-t', '0', 'counter']);
  assert.deepEqual(keptStates(), []);
  // conmon has a Podman clean up behind itself, which mounts the store once more.
  await eventually('the end of conmon', () => !isAtWork(directory));
});
