/** What a profile must allow beside what the program needs: the list in docs/start-sequence.md, and no more. */
import assert from 'node:assert/strict';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';

/** Of a static busybox `true`, on x86-64 and arm64. */
const program =
  'exit_group exit brk arch_prctl set_tid_address set_robust_list rseq mmap munmap mprotect prlimit64 getrandom uname prctl readlink readlinkat newfstatat getuid geteuid getgid setgid setuid';
const run = 'execve sendmsg';
const create = `${run} openat write close`;

async function outcome(t: TestContext, allowed: string, wait: boolean): Promise<string> {
  const bundle = makeBundle(t, {
    patch: spec => {
      spec.process.noNewPrivileges = true;
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_KILL_PROCESS',
        syscalls: [{ names: `${program} ${allowed}`.split(' '), action: 'SCMP_ACT_ALLOW' }],
      };
      return undefined;
    },
  });
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(containerId('seccomp'), config);
  const init = new Process({ args: [], ...config.process });
  try {
    if (wait) {
      await within(container.start(init), 'the creation');
      await within(container.exec(), 'the start');
    } else await within(container.run(init), 'the start');
    const status = await within(init.wait(), 'the exit');
    return status.kind === 'exited' ? `exit ${status.code}` : status.signal;
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error);
    return `${error.code} ${error.message}`;
  } finally {
    await container.destroy({ force: true });
  }
}

const options = { requires: ['root', 'seccomp'] } as const;

test('a profile with the calls of the list lets a container run', {
  ...options,
  proves: [
    'linux.seccomp.defaultAction',
    'linux.seccomp.syscalls[].names',
    'linux.seccomp.syscalls[].action',
  ],
  trap: 22,
}, async t => {
  assert.equal(await outcome(t, run, false), 'exit 0');
});

test('a profile with the calls of the list lets a container be created and started', options, async t => {
  assert.equal(await outcome(t, create, true), 'exit 0');
});

test('a profile that lacks one of them kills init, and that is said', options, async t => {
  assert.match(await outcome(t, 'execve', false), /^ERR_INIT_DIED /);
});
