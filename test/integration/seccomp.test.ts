/** What a profile must allow beside what the program needs: the list in docs/start-sequence.md, and no more. */
import assert from 'node:assert/strict';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';

/** Of a static busybox `true`, on x86-64 and arm64. */
const program =
  'exit_group exit brk arch_prctl set_tid_address set_robust_list rseq mmap munmap mprotect prlimit64 getrandom uname prctl readlink readlinkat newfstatat getuid geteuid getgid setgid setuid';
const run = 'execve write';
const create = `${run} openat close`;

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
    if (status.kind === 'unknown') return status.kind;
    return status.kind === 'exited' ? `exit ${status.code}` : status.signal;
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error);
    return `${error.code} ${error.message}`;
  } finally {
    await container.destroy({ force: true });
  }
}

const options = { requires: ['rootless', 'seccomp'] } as const;

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

/** The shape of the profiles that Docker and Podman write for their containers, with the calls of a shell. */
const engineProfile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 1,
  architectures:
    process.arch === 'arm64'
      ? ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']
      : ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  flags: [],
  syscalls: [
    {
      names:
        `${program} ${create} a_call_that_nobody_has access chdir clock_nanosleep nanosleep close_range clone dup dup2 dup3 faccessat faccessat2 fcntl fstat fork futex geteuid getcwd getdents64 getegid getgroups getpgrp getpid getppid gettid ioctl kill lseek lstat madvise mkdir mkdirat openat2 pipe pipe2 poll ppoll read rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sendfile setpgid stat statx sysinfo tgkill time times umask unlink vfork wait4 waitid writev capget capset setgroups setresuid setresgid fchown`.split(
          ' ',
        ),
      action: 'SCMP_ACT_ALLOW',
    },
    {
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW',
      args: [0, 8, 0x20000, 0x20008, 0xffffffff].map(value => ({ index: 0, value, op: 'SCMP_CMP_EQ' })),
    },
    {
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 40, op: 'SCMP_CMP_NE' }],
    },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
    { names: ['rmdir', 'unlinkat'], action: 'SCMP_ACT_ERRNO', errnoRet: 18 },
  ],
};

const lookAround = `exec 2>&1
mkdir /tmp/x && echo made
mount -t tmpfs none /tmp
rmdir /tmp/x
chroot / /bin/true
sync
grep ^Seccomp: /proc/self/status`;

for (const noNewPrivileges of [true, false])
  test(`a profile of the shape of Docker's and Podman's, no_new_privs ${noNewPrivileges}, run and exec`, {
    requires: ['rootless', 'seccomp'],
  }, async t => {
    const bundle = makeBundle(t, {
      process: { noNewPrivileges },
      patch: spec => {
        spec.linux.seccomp = engineProfile;
        spec.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
        return undefined;
      },
    });
    const config = await loadConfig(bundle);
    const factory = new LinuxFactory({ root: makeStateRoot(t) });
    const container = await factory.create(containerId('profile'), config);
    t.after(() => factory.destroy(container.id, { force: true }));
    const sh = (script: string): Process =>
      new Process({ ...config.process, args: ['/bin/sh', '-c', script], stdout: 'pipe' });
    const wanted =
      /^made\nmount: permission denied.*\nrmdir: .*cross-device link\nchroot: .*Operation not permitted\nSeccomp:\t2\n$/;
    const init = sh(`${lookAround}; exec sleep 1000`);
    await within(container.run(init), 'the start');
    assert.ok(init.stdout !== undefined);
    let seen = '';
    for await (const part of init.stdout) {
      seen += String(part);
      if (seen.endsWith('2\n')) break;
    }
    assert.match(seen, wanted);
    const further = sh(lookAround);
    await within(container.start(further), 'the exec');
    assert.ok(further.stdout !== undefined);
    const output = await text(further.stdout);
    assert.match(output.replace(/^mkdir: .*exists\n/, 'made\n'), wanted);
    await container.destroy({ force: true });
  });
