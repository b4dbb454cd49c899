/** Drives the real init executable through the addon with plans of a test's own making. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binding, type SpawnJob } from '../../lib/native/binding.ts';
import { encodePlan, type Fault } from '../../lib/plan/encode.ts';
import { MS } from '../../lib/plan/numbers.ts';
import type { MountStep, Step, StepOf } from '../../lib/plan/steps.ts';
import type { TestContext } from '../harness/test.ts';
import { addon, type EventOf, Run } from './stand-in.ts';

export function repository(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

export const CLONE = {
  NEWNS: 0x20000,
  NEWPID: 0x20000000,
  NEWUTS: 0x4000000,
  NEWIPC: 0x8000000,
  NEWNET: 0x40000000,
};
export const allNamespaces = Object.values(CLONE).reduce((all, flag) => all | flag, 0);

/** Starts init with these bytes as its plan. */
export function startBytes(plan: Uint8Array, job: Partial<SpawnJob> = {}): Run {
  addon();
  const built = join(repository(), 'build/init');
  binding().configure({ init: join(built, 'init'), initFaults: join(built, 'init-faults') });
  return new Run([], { plan, cloneFlags: CLONE.NEWNS | CLONE.NEWPID, ...job });
}

export function start(steps: readonly Step[], job: Partial<SpawnJob> = {}, fault?: Fault): Run {
  return startBytes(encodePlan({ steps, cloneFlags: 0 }, fault), { faults: fault !== undefined, ...job });
}

/** A rootfs of the test's own with busybox in it, on the host's file system; removed at the end. */
export function makeRootfs(t: TestContext): string {
  const scratch = mkdtempSync(join(tmpdir(), 'lc-init-'));
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  const rootfs = join(scratch, 'rootfs');
  for (const name of ['bin', 'proc', 'dev', 'sys', 'tmp', 'etc', 'old'])
    mkdirSync(join(rootfs, name), { recursive: true });
  copyFileSync(join(repository(), 'build/rootfs/bin/busybox'), join(rootfs, 'bin/busybox'));
  for (const name of ['sh', 'cat', 'ls', 'stat', 'id', 'mount', 'readlink', 'grep', 'true', 'touch'])
    symlinkSync('busybox', join(rootfs, 'bin', name));
  return rootfs;
}

/** A rootfs and a directory of the "host" beside it that nothing may reach. */
export function scene(t: TestContext): { rootfs: string; canary: string; beside: string } {
  const rootfs = makeRootfs(t);
  const beside = join(rootfs, '..');
  const canary = join(beside, 'canary');
  mkdirSync(canary);
  writeFileSync(join(canary, 'file'), 'host');
  t.after(() =>
    assert.deepEqual([readdirSync(canary), readFileSync(join(canary, 'file'), 'utf8')], [['file'], 'host']),
  );
  return { rootfs, canary, beside };
}

export const mount = (step: Partial<MountStep> & { readonly target: string }): MountStep => ({
  kind: 'mount',
  type: 'tmpfs',
  source: 'tmpfs',
  flags: 0,
  clearedFlags: 0,
  propagation: [],
  data: '',
  recursiveSet: 0,
  recursiveClear: 0,
  copyUp: false,
  optional: false,
  lateReadonly: false,
  ...step,
});

export const proc = mount({ type: 'proc', source: 'proc', target: '/proc' });
export const bind = (source: string, target: string, step: Partial<MountStep> = {}): MountStep =>
  mount({ type: 'bind', source, target, ...step, flags: MS.BIND | MS.REC | (step.flags ?? 0) });

export const openRootfs = (path: string): Step[] => [
  { kind: 'propagation', path: '/', flags: MS.SLAVE | MS.REC },
  { kind: 'openRootfs', path, bind: true, parentPropagation: MS.PRIVATE },
];

export const nullDevice: StepOf<'device'> = {
  kind: 'device',
  path: '/dev/null',
  type: 'c',
  major: 1,
  minor: 3,
  mode: 0o666,
  uid: 0,
  gid: 0,
  bind: false,
};

export const execute = (...args: string[]): Step[] => [
  { kind: 'umask', mask: 0o022 },
  { kind: 'findExecutable', name: args[0] ?? '', searchPath: '/bin' },
  { kind: 'exec', args, env: ['PATH=/bin'], setHome: false, preservedFds: 0 },
];
export const shell = (script: string): Step[] => execute('/bin/sh', '-c', script);

/** In a rootfs: these steps before the switch of the root, those after it, then a script; gives what it printed. */
export async function inside(
  rootfs: string,
  before: readonly Step[],
  after: readonly Step[],
  script: string,
  job: Partial<SpawnJob> = {},
): Promise<string> {
  const run = start(
    [...openRootfs(rootfs), proc, ...before, { kind: 'pivotRoot' }, ...after, ...shell(script)],
    job,
  );
  const output = await run.output();
  const failed = run.events.find(event => event.type === 'failed');
  if (failed !== undefined) throw new Error(`${JSON.stringify(failed)}\n${output}`);
  return output;
}

/** Expects the start to fail in init and gives the event. */
export async function failure(
  steps: readonly Step[],
  job: Partial<SpawnJob> = {},
): Promise<EventOf<'failed'>> {
  const run = start(steps, job);
  try {
    return await run.event('failed');
  } finally {
    await run.close();
  }
}

const ERRNO = 0x00050000;
/** A classic BPF program that answers these system calls (numbers above 423 are the same on all machines) with errno. */
export function refuse(calls: readonly number[], errno: number): Step {
  const program = Buffer.alloc((calls.length + 3) * 8);
  const put = (index: number, code: number, jt: number, jf: number, k: number) => {
    program.writeUInt16LE(code, index * 8);
    program.writeUInt8(jt, index * 8 + 2);
    program.writeUInt8(jf, index * 8 + 3);
    program.writeUInt32LE(k >>> 0, index * 8 + 4);
  };
  put(0, 0x20, 0, 0, 0);
  calls.forEach((call, index) => {
    put(index + 1, 0x15, calls.length - index, 0, call);
  });
  put(calls.length + 1, 0x06, 0, 0, 0x7fff0000);
  put(calls.length + 2, 0x06, 0, 0, ERRNO | errno);
  return { kind: 'seccomp', program, flags: 0, notify: false };
}
