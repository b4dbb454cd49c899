/** User namespaces: maps, ownership, mounts and rights, seen from inside and outside. user_namespaces(7). */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Process } from '../../lib/index.ts';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { text, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

const base = 100_000;
const rows = [
  { containerID: 0, hostID: base, size: 1000 },
  { containerID: 1000, hostID: 300_000, size: 10 },
];

/** The default document with a user namespace of its own. */
function userns(spec: SpecDocument): void {
  spec.linux.namespaces.push({ type: 'user' });
  Object.assign(spec.linux, { uidMappings: rows, gidMappings: rows });
}

async function inUserns(
  t: TestContext,
  patch: (spec: SpecDocument) => void = () => undefined,
): Promise<Fixture> {
  return await fixture(t, {
    patch: spec => {
      userns(spec);
      patch(spec);
      return undefined;
    },
  });
}

/** Runs a container that waits for a line, calls `look` with its pid, ends it; resolves to its output. */
async function observed(on: Fixture, command: string, look: (process: Process) => void): Promise<string> {
  const container = await on.create();
  const process = on.sh(`${command}; echo .; read line`, {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  await container.run(process);
  const output: Buffer[] = [];
  for await (const part of process.stdout ?? assert.fail()) {
    output.push(Buffer.from(part));
    if (!Buffer.concat(output).toString().endsWith('.\n')) continue;
    look(process);
    process.stdin?.end('\n');
  }
  await process.wait();
  await container.destroy();
  return Buffer.concat(output).toString().replace(/\.\n$/, '');
}

const rowsOf = (map: string): string[] =>
  map
    .trim()
    .split('\n')
    .map(row => row.trim().replaceAll(/\s+/g, ' '));

test('a new user namespace: ids inside are root, outside the mapped ones; all namespaces belong to it', {
  proves: ['linux.namespaces[user]', 'linux.uidMappings', 'linux.gidMappings'],
  trap: 10,
  requires: ['root', 'userns'],
}, async t => {
  const on = await inUserns(t);
  const output = await observed(
    on,
    'id -u; id -g; cat /proc/self/setgroups; cat /proc/self/uid_map; hostname',
    process => {
      const status = readFileSync(`/proc/${process.pid}/status`, 'utf8');
      assert.match(status, /^Uid:\t100000\t100000\t100000\t100000$/m);
      assert.match(status, /^Gid:\t100000\t100000\t100000\t100000$/m);
      assert.match(status, /^Groups:\s*$/m);
      for (const file of ['uid_map', 'gid_map'])
        assert.deepEqual(rowsOf(readFileSync(`/proc/${process.pid}/${file}`, 'utf8')), [
          '0 100000 1000',
          '1000 300000 10',
        ]);
      assert.notEqual(readlinkSync(`/proc/${process.pid}/ns/user`), readlinkSync('/proc/self/ns/user'));
    },
  );
  assert.deepEqual(rowsOf(output), ['0', '0', 'allow', '0 100000 1000', '1000 300000 10', 'runc']);
});

test('a user other than root, additional groups, stdio that it can open again', {
  requires: ['root', 'userns'],
}, async t => {
  const on = await fixture(t, {
    process: { user: { uid: 1003, gid: 1004, additionalGids: [5, 1005] } },
    patch: spec => {
      userns(spec);
      return undefined;
    },
  });
  const output = await observed(on, 'id -u; id -G; echo again >/proc/self/fd/1', process => {
    const status = readFileSync(`/proc/${process.pid}/status`, 'utf8');
    assert.match(status, /^Uid:\t300003\t/m);
    assert.match(status, /^Groups:\t100005 300005 $/m);
    assert.equal(statSync(`/proc/${process.pid}/fd/1`).uid, 300_003);
  });
  assert.equal(output, '1003\n1004 5 1005\nagain\n');
});

test("devices are binds of the host's, mounts are the container's own, capabilities count for nothing outside", {
  requires: ['root', 'userns'],
}, async t => {
  const on = await inUserns(t, spec => {
    for (const set of ['bounding', 'effective', 'permitted'])
      Object.assign(spec.process.capabilities ?? {}, {
        [set]: ['CAP_SYS_ADMIN', 'CAP_SYS_MODULE', 'CAP_MKNOD', 'CAP_SYS_RAWIO'],
      });
  });
  const output = await observed(
    on,
    'stat -c "%t:%T %a" /dev/null; mknod /dev/x c 1 3 2>&1 || echo no mknod; awk \'$5 == "/dev/null" { print $9 }\' /proc/self/mountinfo; ' +
      'awk \'$5 == "/proc" || $5 == "/sys" { print $5, $9 }\' /proc/self/mountinfo; echo 1 >/proc/sys/kernel/panic 2>/dev/null || echo no panic',
    () => undefined,
  );
  assert.match(output, /^1:3 666\n.*no mknod\n/s);
  assert.match(output, /\n\/proc proc\n/);
  assert.match(output, /\n\/sys sysfs\n/);
  assert.match(output, /no panic\n$/);
});

test("a rootfs and bind sources that only the host's root can reach; host flags stay locked", {
  requires: ['root', 'userns'],
}, async t => {
  const closed = makeDirectory(t);
  assert.equal(statSync(closed).mode & 0o777, 0o700);
  const shared = join(closed, 'shared');
  mkdirSync(shared);
  chmodSync(shared, 0o755);
  writeFileSync(join(shared, 'word'), 'seen\n');
  const on = await inUserns(t, spec => {
    spec.mounts.push({ destination: '/tmp', type: 'bind', source: shared, options: ['rbind', 'ro'] });
  });
  const output = await observed(on, 'cat /tmp/word; touch /tmp/x 2>/dev/null || echo read-only', process => {
    assert.match(readFileSync(`/proc/${process.pid}/mountinfo`, 'utf8'), / \/tmp ro,/);
  });
  assert.equal(output, 'seen\nread-only\n');
});

test('exec joins the user namespace with its ids', { requires: ['root', 'userns'] }, async t => {
  const on = await inUserns(t);
  const container = await on.create();
  const main = on.sh('read line', { stdin: 'pipe' });
  await container.run(main);
  const more = on.sh('id -u; id -g; readlink /proc/self/ns/user', { stdout: 'pipe' });
  await container.start(more);
  const output = await text(more.stdout ?? assert.fail());
  assert.equal(output, `0\n0\n${readlinkSync(`/proc/${main.pid}/ns/user`)}\n`);
  assert.deepEqual(await more.wait(), { kind: 'exited', code: 0 });
  main.stdin?.end('\n');
  await main.wait();
  await container.destroy();
});

test("create and start: the fifo belongs to the container's root", {
  requires: ['root', 'userns'],
}, async t => {
  const on = await inUserns(t);
  const container = await on.create();
  const process = on.sh('exit 7');
  await container.start(process);
  assert.equal(await container.status(), 'created');
  assert.equal(statSync(join(on.root, container.id, 'exec.fifo')).uid, base);
  await container.exec();
  assert.deepEqual(await process.wait(), { kind: 'exited', code: 7 });
  await container.destroy();
});

test('oomScoreAdj and limits are set by the parent; sysctl user.* by init', {
  requires: ['root', 'userns'],
}, async t => {
  const on = await fixture(t, {
    process: { oomScoreAdj: 321, rlimits: [{ type: 'RLIMIT_NOFILE', soft: 512, hard: 600 }] },
    patch: spec => {
      userns(spec);
      spec.linux.sysctl = { 'user.max_net_namespaces': '3', 'net.ipv4.ip_forward': '1' };
      return undefined;
    },
  });
  const output = await observed(
    on,
    'ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj /proc/sys/user/max_net_namespaces /proc/sys/net/ipv4/ip_forward',
    () => undefined,
  );
  assert.equal(output, '512\n600\n321\n3\n1\n');
});

test('namespaces of the host are joined from a new user namespace, and the spawner leaves them again', {
  requires: ['root', 'userns', 'file:/usr/bin/unshare'],
}, async t => {
  const holder = spawn(
    '/usr/bin/unshare',
    ['--uts', '--ipc', '--net', 'sh', '-c', 'hostname joined; echo ready; exec sleep 1000'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  t.after(async () => {
    const gone = waitFor(holder, 'exit');
    holder.kill('SIGKILL');
    await gone;
  });
  await waitFor(holder.stdout, 'data');
  holder.stdout.destroy();
  const files = { uts: 'uts', ipc: 'ipc', network: 'net' } as const;
  const on = await inUserns(t, spec => {
    delete spec.hostname;
    // Only the owner of a network namespace mounts its sysfs, of an ipc namespace its mqueue.
    spec.mounts = spec.mounts.filter(
      ({ type }) => type !== 'sysfs' && type !== 'cgroup' && type !== 'mqueue',
    );
    for (const [type, file] of Object.entries(files)) {
      const row = spec.linux.namespaces.find(namespace => namespace.type === type) ?? assert.fail(type);
      row.path = `/proc/${holder.pid}/ns/${file}`;
    }
  });
  for (let round = 0; round < 2; round += 1) {
    const output = await observed(
      on,
      `${Object.values(files)
        .map(file => `readlink /proc/self/ns/${file}`)
        .join('; ')}; hostname; id -u`,
      () => undefined,
    );
    const theirs = Object.values(files).map(file => readlinkSync(`/proc/${holder.pid}/ns/${file}`));
    assert.deepEqual(output.trim().split('\n'), [...theirs, 'joined', '0']);
  }
  for (const task of readdirSync('/proc/self/task'))
    for (const file of Object.values(files))
      assert.equal(readlinkSync(`/proc/self/task/${task}/ns/${file}`), readlinkSync(`/proc/self/ns/${file}`));
});

test('nobody else controls init before its program: it is not dumpable, and holds nothing of the host', {
  requires: ['root', 'userns'],
}, async t => {
  const on = await inUserns(t);
  const container = await on.create();
  const main = on.sh('exit 0');
  await container.start(main);
  // The files of a process that is not dumpable belong to the root of its user namespace.
  assert.equal(statSync(`/proc/${main.pid}/environ`).uid, base);
  const own = readlinkSync('/proc/self/ns/mnt');
  assert.notEqual(readlinkSync(`/proc/${main.pid}/ns/mnt`), own);
  const targets = readdirSync(`/proc/${main.pid}/fd`).map(fd => readlinkSync(`/proc/${main.pid}/fd/${fd}`));
  assert.equal(
    targets.some(target => target.startsWith(on.bundle) || target.includes('/tasks')),
    false,
    targets.join(' '),
  );
  await container.exec();
  await main.wait();
  await container.destroy();
});

test('flags that the host has set are locked: binds keep them, read-only ones too, and root inside cannot take them off', {
  requires: ['root', 'userns'],
  proves: ['mounts[].options[bind]', 'mounts[].options[ro]'],
  trap: 10,
}, async t => {
  const directory = makeDirectory(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'nosuid,nodev,noexec,mode=755', 'none', directory]);
  t.after(() => execFileSync('umount', [directory]));
  const names = ['CAP_SYS_ADMIN'];
  const bind = (destination: string, ...options: string[]) => ({
    destination,
    type: 'bind',
    source: directory,
    options: ['rbind', ...options],
  });
  const on = await inUserns(t, spec => {
    Object.assign(spec.process, { capabilities: { bounding: names, effective: names, permitted: names } });
    spec.mounts.push(
      { destination: '/mnt', type: 'tmpfs', source: 'tmpfs' },
      bind('/mnt/plain'),
      bind('/mnt/read-only', 'ro'),
      bind('/mnt/more', 'nosymfollow'),
    );
  });
  const output = await on.output(
    'for at in plain read-only more; do grep " /mnt/$at " /proc/self/mountinfo | cut -d" " -f5,6; ' +
      'for word in suid dev exec; do mount -o remount,bind,$word /mnt/$at 2>/dev/null && echo "$word $at"; done; done; echo tried',
    { stderr: 'inherit' },
  );
  const lines = output.trim().split('\n');
  assert.deepEqual(
    lines.slice(0, -1).map(line => line.split(' ')[0]),
    ['/mnt/plain', '/mnt/read-only', '/mnt/more'],
    output,
  );
  for (const [at, more] of [
    [0, 'rw'],
    [1, 'ro'],
    [2, 'nosymfollow'],
  ] as const)
    for (const flag of ['nosuid', 'nodev', 'noexec', more])
      assert.ok(lines[at]?.split(/[ ,]/).includes(flag), `${lines[at]}: ${flag}`);
  assert.equal(lines.at(-1), 'tried');
});

test('the terminal and pipes belong to the user of the process, in and out of the user namespace', {
  requires: ['root', 'userns'],
  proves: ['process.terminal'],
  trap: 8,
}, async t => {
  const on = await fixture(t, {
    process: { user: { uid: 1003, gid: 1004 }, terminal: true },
    patch: spec => {
      userns(spec);
      return undefined;
    },
  });
  const container = await on.create();
  const main = on.sh('stat -c "%u %F" /proc/self/fd/0 -L; stat -c %u /dev/console; tty; echo .; read line');
  await container.run(main);
  const terminal = main.terminal ?? assert.fail();
  let output = '';
  for await (const part of terminal) {
    output += String(part);
    if (!output.includes('.\r\n')) continue;
    assert.equal(statSync(`/proc/${main.pid}/fd/0`).uid, 300_003);
    break;
  }
  assert.match(output, /^1003 character special file\r\n1003\r\n\/dev\/(console|pts\/0)\r\n/);
  await container.signal('SIGKILL');
  await main.wait();
  await container.destroy();
});
