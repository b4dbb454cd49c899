/** System calls that somebody outside decides: handlers in this process, and an agent at linux.seccomp.listenerPath. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Config } from '../../lib/config/config.ts';
import {
  type Container,
  LinuxFactory,
  loadConfig,
  Process,
  type SeccompHandlerOptions,
  type SyscallAnswer,
  type SyscallCall,
  type SyscallErrorEvent,
} from '../../lib/index.ts';
import { containerId, makeBundle, makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { eventually, text, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';

const options = { requires: ['root', 'seccomp'] } as const;

interface Scene {
  readonly config: Config;
  readonly factory: LinuxFactory;
  create(seccompHandler?: SeccompHandlerOptions): Promise<Container>;
  sh(script: string): Process;
}

async function scene(t: TestContext, seccomp?: object): Promise<Scene> {
  const bundle = makeBundle(t, {
    writable: true,
    patch: spec => {
      if (seccomp !== undefined) spec.linux.seccomp = seccomp;
      return undefined;
    },
  });
  const config = await loadConfig(bundle);
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  const made: string[] = [];
  t.after(async () => {
    for (const id of made) await factory.destroy(id, { force: true });
  });
  return {
    config,
    factory,
    create: async seccompHandler => {
      const id = containerId('notify');
      made.push(id);
      return factory.create(id, config, seccompHandler === undefined ? {} : { seccompHandler });
    },
    sh: script => new Process({ ...config.process, args: ['/bin/sh', '-c', script], stdout: 'pipe' }),
  };
}

async function outputOf(process: Process): Promise<string> {
  assert.ok(process.stdout !== undefined);
  const output = await text(process.stdout);
  await within(process.wait(), 'the exit');
  return output;
}

const listeners = (): string[] =>
  readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('seccomp notify');
    } catch {
      return false;
    }
  });

type MakeDirectory = SyscallCall<'mkdir'> | SyscallCall<'mkdirat'>;
const directoryOf = (call: MakeDirectory): string =>
  'dirfd' in call.args ? call.path(call.args.pathname, call.args.dirfd) : call.path(call.args.pathname);
/** Which of the two a C library uses depends on the architecture. */
const onMkdir = (decide: (path: string, call: MakeDirectory) => SyscallAnswer | Promise<SyscallAnswer>) => ({
  mkdir: (call: SyscallCall<'mkdir'>) => decide(directoryOf(call), call),
  mkdirat: (call: SyscallCall<'mkdirat'>) => decide(directoryOf(call), call),
});

test(
  'a handler refuses, lets pass, returns a value, gives a descriptor, writes an answer',
  options,
  async t => {
    const on = await scene(t);
    const secret = join(makeDirectory(t), 'secret');
    writeFileSync(secret, 'from the host\n');
    const seen: string[] = [];
    const container = await on.create({
      syscalls: {
        ...onMkdir((path, call) => {
          seen.push(`${path} ${call.caller().name} ${call.caller().uid}`);
          return path.endsWith('/no') ? { errno: 'EXDEV' } : 'continue';
        }),
        getppid: () => ({ value: 4242 }),
        openat: call =>
          call.path(call.args.pathname, call.args.dirfd) === '/given'
            ? { fd: openSync(secret, 'r'), close: true }
            : 'continue',
        uname: call => {
          // struct utsname: fields of 65 bytes; the second is nodename.
          call.writeMemory(call.args.buf + 65n, Buffer.from('written\0'));
          return { value: 0n };
        },
      },
    });
    const process = on.sh(
      'echo $PPID; cat /given; uname -n; cd /tmp; mkdir no 2>&1; mkdir yes && ls -d /tmp/yes; mkdir ../tmp/../no 2>&1',
    );
    await within(container.run(process), 'the start');
    const output = await outputOf(process);
    assert.match(
      output,
      /^4242\nfrom the host\nwritten\nmkdir: .*cross-device link\n\/tmp\/yes\nmkdir: .*cross-device link\n$/,
    );
    assert.deepEqual(seen, ['/tmp/no mkdir 0', '/tmp/yes mkdir 0', '/no mkdir 0']);
    await eventually('the end of the listener', () => listeners().length === 0);
    await container.destroy();
  },
);

test('a handler that throws, is late or answers nonsense: errno and an event', options, async t => {
  const on = await scene(t);
  let settle = (_: SyscallAnswer): void => undefined;
  const container = await on.create({
    deadlineMs: 50,
    errno: 'EDOM',
    syscalls: onMkdir(path => {
      if (path === '/tmp/throws') throw new Error('broken');
      if (path === '/tmp/nonsense') return { errno: 70000 };
      return new Promise(resolve => {
        settle = resolve;
      });
    }),
  });
  const events: SyscallErrorEvent[] = [];
  container.on('syscallError', event => events.push(event));
  const process = on.sh('for d in throws nonsense late; do mkdir /tmp/$d 2>&1; done; ls /tmp');
  await within(container.run(process), 'the start');
  const output = await outputOf(process);
  settle('continue');
  assert.match(output, /^(mkdir: .*Numerical (argument|result)[^\n]*\n){3}$/);
  assert.deepEqual(
    events.map(({ error }) => (error instanceof Error && 'code' in error ? error.code : String(error))),
    ['Error: broken', 'ERR_ARGUMENT', 'ERR_SYSCALL_HANDLER'],
  );
  await container.destroy();
});

test('executed processes have a listener of their own; created ones too', options, async t => {
  const on = await scene(t);
  const seen: string[] = [];
  const handlers: SeccompHandlerOptions = {
    syscalls: {
      ...onMkdir(path => {
        seen.push(path);
        return { errno: 'EXDEV' };
      }),
      // init itself opens the exec fifo behind the filter.
      openat: () => Promise.resolve('continue' as const),
    },
  };
  const container = await on.create(handlers);
  const init = on.sh('mkdir /tmp/first 2>/dev/null; exec sleep 1000');
  await within(container.start(init), 'the creation');
  await within(container.exec(), 'the release');
  await eventually('the first call', () => seen.length === 1);
  const further = on.sh('mkdir /tmp/second 2>&1');
  await within(container.start(further), 'the exec');
  assert.match(await outputOf(further), /cross-device/);
  assert.deepEqual(seen, ['/tmp/first', '/tmp/second']);
  // Whoever has no handlers cannot execute anything: the profile asks, and nobody would answer.
  const other = await on.factory.load(container.id);
  await assert.rejects(within(other.start(on.sh('true')), 'the exec'), {
    code: 'ERR_SPEC_INVALID',
    message: /seccomp listenerPath is not set/,
  });
  const again = await on.factory.load(container.id, { seccompHandler: handlers });
  const third = on.sh('mkdir /tmp/third 2>&1');
  await within(again.start(third), 'the exec');
  assert.match(await outputOf(third), /cross-device/);
  // Without a listener the kernel answers ENOSYS: what a container sees when the daemon dies.
  await container[Symbol.asyncDispose]();
  const last = await on.factory.load(container.id, { seccompHandler: handlers });
  const orphan = on.sh('read line; mkdir /tmp/fourth 2>&1');
  const waiting = new Process({ ...orphan.options, stdin: 'pipe' });
  await within(last.start(waiting), 'the exec');
  await last[Symbol.asyncDispose]();
  waiting.stdin?.end('go\n');
  assert.match(await outputOf(waiting), /Function not implemented/);
});

test('what is read of a caller that has gone is not given out', options, async t => {
  const on = await scene(t);
  let kept: MakeDirectory | undefined;
  const container = await on.create({
    syscalls: onMkdir((_, call) => {
      kept = call;
      return new Promise(() => undefined);
    }),
  });
  const process = on.sh('mkdir /tmp/x');
  await within(container.run(process), 'the start');
  const call = await eventually('the call', () => kept);
  assert.equal(call.isWaiting, true);
  assert.throws(() => call.readMemory(8n, 16), { code: 'EFAULT' });
  process.signal('SIGKILL');
  await within(process.wait(), 'the exit');
  // Its listener is closed with the last process: another one's number may be in its place by now.
  await eventually('the end of the listener', () => listeners().length === 0);
  assert.throws(() => call.readString(call.args.pathname), { code: 'ERR_CALLER_GONE' });
  await container.destroy();
});

/** An agent as runc's users have them: takes the descriptor, prints the state, answers every mkdir with EXDEV. */
const agentScript = `
import socket, sys, json, os, fcntl, struct
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1]); server.listen(4)
print("listening", flush=True)
for _ in range(int(sys.argv[2])):
    connection, _ = server.accept()
    data, fds, flags, address = socket.recv_fds(connection, 65536, 4)
    print(json.dumps([len(fds), os.readlink("/proc/self/fd/%d" % fds[0]), json.loads(data)]), flush=True)
    note = bytearray(80)
    fcntl.ioctl(fds[0], 0xc0502100, note)
    identifier = struct.unpack_from("Q", note)[0]
    fcntl.ioctl(fds[0], 0xc0182101, bytearray(struct.pack("QqiI", identifier, 0, -18, 0)))
    os.close(fds[0])
`;

const notifyMkdir = {
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
};

function agent(
  t: TestContext,
  path: string,
  count: number,
): { child: ChildProcess; lines: AsyncIterator<string> } {
  const child = spawn('/usr/bin/python3', ['-c', agentScript, path, String(count)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.stdout !== null);
  return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
}

test('listenerPath: the agent gets state and descriptor, for run and exec', {
  proves: ['linux.seccomp.listenerPath', 'linux.seccomp.listenerMetadata'],
  trap: 22,
  requires: ['root', 'seccomp', 'file:/usr/bin/python3'],
}, async t => {
  const path = join(makeDirectory(t), 'agent.sock');
  const on = await scene(t, { ...notifyMkdir, listenerPath: path, listenerMetadata: 'mine' });
  const { child, lines } = agent(t, path, 2);
  const line = async (): Promise<string> => String((await within(lines.next(), 'a line of the agent')).value);
  assert.equal(await line(), 'listening');
  const container = await on.create();
  const init = on.sh('mkdir /tmp/x 2>&1; mkdir /tmp/x 2>&1; exec sleep 1000');
  await within(container.run(init), 'the start');
  const [count, link, state] = JSON.parse(await line());
  assert.equal(count, 1);
  assert.match(link, /seccomp notify/);
  const { ociVersion, id } = state.state;
  assert.deepEqual([id, state.state.status, state.state.pid], [container.id, 'creating', init.pid]);
  assert.deepEqual(
    { ...state, state: undefined },
    { ociVersion, fds: ['seccompFd'], pid: init.pid, metadata: 'mine', state: undefined },
  );
  assert.ok(init.stdout !== undefined);
  let output = '';
  // The agent answers one call and closes its descriptor, as if it had died: then the kernel answers.
  for await (const part of init.stdout) {
    output += String(part);
    if (output.split('\n').length > 2) break;
  }
  assert.match(output, /cross-device[\s\S]*Function not implemented/);
  const further = on.sh('mkdir /tmp/x 2>&1');
  await within(container.start(further), 'the exec');
  const [, , second] = JSON.parse(await line());
  assert.deepEqual([second.pid, second.state.pid, second.state.status], [further.pid, init.pid, 'running']);
  assert.match(await outputOf(further), /cross-device/);
  assert.deepEqual(listeners(), []);
  if (child.exitCode === null) await once(child, 'exit');
  await container.destroy({ force: true });
});

const address = 'ip addr add 127.0.0.2/8 dev lo 2>&1';

test('sendmsg can be decided as well: init does not need it to hand its listener over', options, async t => {
  const on = await scene(t);
  const seen: string[] = [];
  const container = await on.create({
    syscalls: {
      sendmsg: call => {
        seen.push(call.caller().name);
        return { errno: 'EXDEV' };
      },
    },
  });
  const init = on.sh(`${address}; exec sleep 1000`);
  await within(container.run(init), 'the start');
  await eventually('the call of the first process', () => seen.length === 1);
  const further = on.sh(address);
  await within(container.start(further), 'the exec');
  assert.match(await outputOf(further), /cross-device/);
  const prepared = on.sh(address);
  await within(container.start(prepared), 'another exec');
  assert.match(await outputOf(prepared), /cross-device/);
  assert.deepEqual(seen, ['ip', 'ip', 'ip']);
  await container.destroy({ force: true });
  init.stdout?.destroy();
});

test('listenerPath with a profile that refuses sendmsg: the agent gets its descriptor', {
  requires: ['root', 'seccomp', 'file:/usr/bin/python3'],
}, async t => {
  const path = join(makeDirectory(t), 'agent.sock');
  const refused = { names: ['sendmsg'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 };
  const on = await scene(t, {
    ...notifyMkdir,
    syscalls: [...notifyMkdir.syscalls, refused],
    listenerPath: path,
  });
  const { lines } = agent(t, path, 1);
  const line = async (): Promise<string> => String((await within(lines.next(), 'a line of the agent')).value);
  assert.equal(await line(), 'listening');
  const container = await on.create();
  const init = on.sh('mkdir /tmp/x 2>&1');
  await within(container.run(init), 'the start');
  assert.equal(JSON.parse(await line())[0], 1);
  assert.match(await outputOf(init), /cross-device/);
  await container.destroy();
});

test('without an agent nothing starts, and nothing is left', options, async t => {
  const path = join(makeDirectory(t), 'absent.sock');
  const on = await scene(t, { ...notifyMkdir, listenerPath: path });
  const container = await on.create();
  await assert.rejects(within(container.run(on.sh('true')), 'the start'), {
    code: 'ERR_SECCOMP_AGENT',
    message: /^failed to connect with seccomp agent specified in the seccomp profile/,
  });
  assert.equal(await container.status(), 'stopped');
  assert.deepEqual(listeners(), []);
  const alone = await scene(t, notifyMkdir);
  const other = await alone.create();
  await assert.rejects(other.run(alone.sh('true')), { code: 'ERR_SPEC_INVALID' });
  const both = await scene(t, { ...notifyMkdir, listenerPath: path });
  await assert.rejects(both.create({ syscalls: {} }), { code: 'ERR_ARGUMENT' });
  await assert.rejects(alone.create({ syscalls: {} }), {
    message: /seccompHandler has no handler for mkdir/,
  });
});
