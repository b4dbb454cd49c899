/** A cgroup with limits, made as a start makes it, and programs in it, without a container around them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { CgroupManager } from '../../lib/cgroups/manager.ts';
import { newCgroups } from '../../lib/cgroups/open.ts';
import type { Resources } from '../../lib/config/config.ts';
import { binding } from '../../lib/native/binding.ts';
import { within } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import type { TestContext } from '../harness/test.ts';

const probe = join(projectRoot, 'build/rootfs/bin/probe');
let count = 0;

export interface Program {
  readonly process: ChildProcess;
  readonly pid: number;
  /** The next line of its output. */
  line(): Promise<string>;
  exit(): Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

export interface CgroupBox {
  readonly manager: CgroupManager;
  /** Starts `probe ARGS…` as a member of the cgroup. */
  run(...args: string[]): Program;
  readonly joinFiles: readonly string[];
  /** The kernel's own word, trimmed. On v2 the controller does not matter. */
  read(controller: string, file: string): string;
}

export function uniqueId(): string {
  count++;
  return `lctest-${process.pid}-${count}`;
}

/** The default ones of a container (specconv AllowedDevices), after a denial of all. */
export const defaultDevices: NonNullable<Resources['devices']> = [
  { allow: false, type: 'a', major: -1, minor: -1, access: 'rwm' },
  { allow: true, type: 'c', major: -1, minor: -1, access: 'm' },
  { allow: true, type: 'b', major: -1, minor: -1, access: 'm' },
  { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 0, access: 'rwm' },
];

export const runIn = (joinFiles: readonly string[], ...args: string[]): Program =>
  memberOf(joinFiles, [probe, ...args]);

/** Any program as a member of the cgroups. */
export function memberOf(joinFiles: readonly string[], command: readonly string[]): Program {
  // The shell moves itself; the program it becomes is then born a member, as far as the kernel's counters go.
  const script = 'for f in $JOIN; do echo 0 > "$f" || exit 99; done; exec "$@"';
  const child = spawn('/bin/sh', ['-c', script, 'sh', ...command], {
    env: { JOIN: joinFiles.join(' '), PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    process: child,
    pid: child.pid ?? -1,
    line: async () => String((await within(lines.next(), `a line of ${command.join(' ')}`)).value),
    exit: async () => {
      const [code, signal] = await within(exited, `exit of ${command.join(' ')}`);
      return { code, signal };
    },
  };
}

export async function cgroupBox(
  t: TestContext,
  resources: Resources,
  cgroupsPath = `/${uniqueId()}`,
): Promise<CgroupBox> {
  const manager = newCgroups(binding(), 'unused', { cgroupsPath, resources, systemdCgroup: false });
  const start = await manager.prepareStart(resources);
  t.after(async () => {
    await manager.killAll(9);
    await manager.destroy();
  });
  try {
    await binding().files(start.operations, true);
  } catch (error) {
    const index = error instanceof Error && 'index' in error ? Number(error.index) : -1;
    throw start.failure(index, error);
  }
  const joinFiles =
    start.cloneInto === undefined
      ? start.joinFiles
      : [join(start.cloneInto, 'cgroup.procs'), ...start.joinFiles];
  return {
    manager,
    joinFiles,
    run: (...args) => runIn(joinFiles, ...args),
    read: (controller, file) =>
      readFileSync(join(manager.paths[controller] ?? manager.paths[''] ?? '', file), 'utf8').trim(),
  };
}
