/** Terminals of a container's init, and NOTIFY_SOCKET. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, existsSync, readFileSync, readSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { LinuxFactory } from '../../lib/index.ts';
import { binding } from '../../lib/native/binding.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

test('init has the terminal of its own devpts on /dev/console, with its size', {
  proves: ['process.terminal', 'process.consoleSize'],
  trap: 8,
  requires: ['rootless'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const process = on.sh(
    'stty -echo; tty; stty size; [ -c /dev/console ] && echo console; ls -1 /dev/pts; cat',
    {
      terminal: true,
      consoleSize: { height: 7, width: 33 },
    },
  );
  await container.run(process);
  const terminal = process.terminal ?? assert.fail();
  assert.equal(process.stdout, undefined);
  let output = '';
  terminal.on('data', chunk => {
    output += String(chunk);
  });
  const closed = new Promise<void>(resolve => terminal.on('close', resolve));
  await eventually('the end of ls', () => output.includes('ptmx\r\n'));
  assert.equal(output, '/dev/pts/0\r\n7 33\r\nconsole\r\n0\r\nptmx\r\n');
  output = '';
  // Much more than the tty's buffer of 4 KiB: writing waits for the reader and blocks nobody.
  const line = 'y'.repeat(99);
  for (let n = 0; n < 200; n++) terminal.write(`${line}\n`);
  terminal.write('\x04');
  assert.deepEqual(await within(process.wait(), 'end of cat', 20_000), { kind: 'exited', code: 0 });
  await within(closed, 'close of the terminal');
  assert.equal(output, `${line}\r\n`.repeat(200));
  await container.destroy();
});

test('consoleSocket that nobody listens on: ERR_CONSOLE, nothing left', {
  requires: ['rootless'],
}, async t => {
  const on = await fixture(t);
  const container = await on.create();
  const missing = join(makeDirectory(t), 'none.sock');
  await assert.rejects(container.run(on.sh('sleep 1000', { terminal: true, consoleSocket: missing })), {
    code: 'ERR_CONSOLE',
  });
  assert.equal(existsSync(container.directory), false);
  await container.destroy();
});

test('consoleSocket gets the ptmx', { requires: ['rootless'] }, async t => {
  const on = await fixture(t);
  const path = join(makeDirectory(t), 'console.sock');
  const server = createServer();
  await new Promise<void>(resolve => server.listen(path, resolve));
  const connected = new Promise<string>(resolve => {
    server.on('connection', socket => {
      socket.on('data', data => {
        resolve(data.toString());
        socket.destroy();
      });
    });
  });
  const container = await on.create();
  const process = on.sh('sleep 1000', { terminal: true, consoleSocket: path });
  await container.run(process);
  assert.equal(await within(connected, 'the message'), '/dev/ptmx');
  assert.equal(process.terminal, undefined);
  await container.destroy({ force: true });
  server.close();
});

test('NOTIFY_SOCKET: READY is forwarded with the pid as the host sees it', {
  requires: ['rootless', 'file:/usr/bin/python3'],
}, async t => {
  // The mount point /run/notify is made in it.
  const on = await fixture(t, { writable: true });
  const path = join(makeDirectory(t), 'host.sock');
  const fd = binding().datagramListen(path, 0o700);
  t.after(() => closeSync(fd));
  for (const split of [false, true]) {
    const container = await on.create();
    await container.destroy();
    const made = await on.factory.create(container.id, on.config, { notifySocket: path });
    const process = on.sh('ls -l /run/notify/notify.sock >/dev/null && echo $NOTIFY_SOCKET; sleep 1000', {
      stdout: 'pipe',
    });
    let running = made;
    if (split) {
      await made.start(process);
      running = await new LinuxFactory({ root: on.root }).load(made.id, { notifySocket: path });
      await running.exec();
    } else await made.run(process);
    const lines = (process.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
    assert.equal(String((await within(lines.next(), 'a line')).value).trim(), '/run/notify/notify.sock');
    // busybox has no datagram client: the message is sent from outside through the container's root.
    const script =
      'import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b"MAINPID=1\\nNOTIFYACCESS=all\\nREADY=1\\nSTATUS=fine",sys.argv[1])';
    spawn('/usr/bin/python3', ['-c', script, `/proc/${process.pid}/root/run/notify/notify.sock`], {
      stdio: 'inherit',
    });
    await within(running.ready(), 'READY');
    const buffer = Buffer.alloc(4096);
    const message = await eventually('the datagram', () => {
      try {
        return buffer.toString('utf8', 0, readSync(fd, buffer));
      } catch {
        return undefined;
      }
    });
    assert.deepEqual(message.split('\n').sort(), [`MAINPID=${process.pid}`, 'READY=1', 'STATUS=fine']);
    process.stdout?.destroy();
    await running.destroy({ force: true });
    await running[Symbol.asyncDispose]();
    if (split) await assert.rejects(made.destroy(), { code: 'ERR_CONTAINER_NOT_EXIST' });
  }
  assert.ok(readFileSync('/proc/self/mountinfo', 'utf8').includes('/run/notify') === false);
});
