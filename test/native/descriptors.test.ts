import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding } from '../../lib/native/binding.ts';
import { within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';

const EPOLLIN = 1;
const IN_MODIFY = 2;

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lc-fd-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
const flags = (fd: number) =>
  readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').match(/^flags:\t(\d+)$/m)?.[1] ?? '';

test('everything that the addon opens is CLOEXEC', t => {
  const addon = binding();
  const fds = [
    ...addon.pipe(),
    ...addon.socketpair(),
    addon.open('/dev/null', 0, 0),
    addon.eventfd(),
    addon.inotify(scratch(t), IN_MODIFY),
  ];
  for (const fd of fds) {
    assert.ok((Number.parseInt(flags(fd), 8) & 0o2000000) !== 0, `${fd}: ${flags(fd)}`);
    addon.close(fd);
  }
  assert.throws(() => addon.close(fds[0] ?? -1), { code: 'EBADF', syscall: 'close' });
});

test('inotify and watch report a change of a file', async t => {
  const path = `${scratch(t)}/events`;
  writeFileSync(path, '');
  const fd = binding().inotify(path, IN_MODIFY);
  const changed = new Promise<void>(resolve => {
    const watch = binding().watch(fd, EPOLLIN, () => {
      watch.close();
      resolve();
    });
  });
  writeFileSync(path, 'x');
  await within(changed, 'the change');
  binding().close(fd);
  assert.throws(() => binding().inotify(`${path}-none`, IN_MODIFY), {
    code: 'ENOENT',
    syscall: 'inotify_add_watch',
  });
});

test('lock: one holder at a time, EAGAIN at the deadline, the next one when it is free', async t => {
  const path = `${scratch(t)}/lock`;
  const first = await binding().lock(path, 0);
  await assert.rejects(binding().lock(path, 20), { code: 'EAGAIN', syscall: 'flock', path });
  let order = '';
  const second = within(
    binding()
      .lock(path, 60_000)
      .then(fd => {
        order += 'second ';
        return fd;
      }),
    'the second lock',
  );
  await new Promise(resolve => setImmediate(resolve));
  order += 'released ';
  binding().close(first);
  binding().close(await second);
  assert.equal(order, 'released second ');
});

test('lock: a file that its holder removed is not taken for the one that others will find', async t => {
  const path = `${scratch(t)}/lock`;
  const first = await binding().lock(path, 0);
  const waiting = within(binding().lock(path, 60_000), 'the lock on the new file');
  unlinkSync(path);
  binding().close(first);
  const second = await waiting;
  await assert.rejects(binding().lock(path, 0), { code: 'EAGAIN' });
  binding().close(second);
  await assert.rejects(binding().lock(`${path}/x`, 0), { code: 'ENOTDIR' });
});

test('sendFd gives a descriptor to who listens on a UNIX socket', async t => {
  const path = `${scratch(t)}/socket`;
  // Node's server cannot receive descriptors: that the data came shows that the message was sent whole.
  const received = new Promise<string>((resolve, reject) => {
    const server = createServer(socket => {
      socket.once('data', data => {
        resolve(data.toString());
        socket.destroy();
        server.close();
      });
    });
    server.on('error', reject);
    server.listen(path, () => {
      const [read, write] = binding().pipe();
      binding()
        .sendFd(path, '/dev/pts/7', write)
        .catch(reject)
        .finally(() => {
          closeSync(read);
          closeSync(write);
        });
    });
  });
  assert.equal(await within(received, 'the message'), '/dev/pts/7');
  await assert.rejects(binding().sendFd(`${path}-none`, 'x', 0), { code: 'ENOENT', syscall: 'connect' });
  await assert.rejects(binding().sendFd('x'.repeat(200), 'x', 0), { code: 'ENAMETOOLONG' });
});

test('ptyResize sets the window that the other end sees', t => {
  const ptmx = openSync('/dev/ptmx', 'r+');
  t.after(() => closeSync(ptmx));
  binding().ptyResize(ptmx, 132, 43);
  const size = () => execFileSync('stty', ['size'], { stdio: [ptmx, 'pipe', 'inherit'] }).toString();
  assert.equal(size(), '43 132\n');
  binding().ptyResize(ptmx, 80, 24);
  assert.equal(size(), '24 80\n');
  const fd = binding().eventfd();
  t.after(() => binding().close(fd));
  assert.throws(() => binding().ptyResize(fd, 1, 1), { syscall: 'ioctl' });
});

test('a pipe carries data', () => {
  const [read, write] = binding().pipe();
  writeSync(write, 'abc');
  const buffer = Buffer.alloc(8);
  assert.equal(readSync(read, buffer), 3);
  binding().close(read);
  binding().close(write);
});
