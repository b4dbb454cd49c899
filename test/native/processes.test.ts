import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { binding } from '../../lib/native/binding.ts';
import { eventually, waitFor, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';

const EPOLLIN = 1;

function sleeper(t: TestContext) {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const { pid } = child;
  assert.ok(pid !== undefined);
  return { child, pid };
}

test('startTime is field 22 of stat, and null for who is gone or a zombie', async t => {
  const { child, pid } = sleeper(t);
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  assert.equal(binding().startTime(pid), BigInt(fields[19] ?? 0));
  const exited = waitFor(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  assert.equal(binding().startTime(pid), null);
  // A child of the shell's that nobody has waited for.
  const shell = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 1000'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => shell.kill('SIGKILL'));
  const [line] = await waitFor<[Buffer]>(shell.stdout, 'data');
  const zombie = Number(line.toString());
  await eventually('a zombie', () => readFileSync(`/proc/${zombie}/stat`, 'utf8').includes(') Z '));
  assert.equal(binding().startTime(zombie), null);
});

test('pidfdOpen refuses a pid whose start time is another one (pid reuse)', t => {
  const { pid } = sleeper(t);
  const startTime = binding().startTime(pid);
  assert.ok(startTime !== null);
  assert.equal(binding().pidfdOpen(pid, startTime + 1n), -1);
  const pidfd = binding().pidfdOpen(pid, startTime);
  assert.ok(pidfd > 2);
  assert.match(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'utf8'), new RegExp(`^Pid:\t${pid}$`, 'm'));
  binding().close(pidfd);
  assert.equal(binding().pidfdOpen(0x7ffffff0, 1n), -1);
});

test('a pidfd signals its process, tells its end once, and false when it is gone', async t => {
  const { child, pid } = sleeper(t);
  const pidfd = binding().pidfdOpen(pid, binding().startTime(pid) ?? 0n);
  t.after(() => binding().close(pidfd));
  let calls = 0;
  const ended = new Promise<void>(resolve => {
    binding().pidfdWatch(pidfd, () => {
      calls++;
      resolve();
    });
  });
  const exited = waitFor(child, 'exit');
  assert.equal(binding().pidfdSendSignal(pidfd, 0), true);
  assert.equal(calls, 0);
  assert.equal(binding().pidfdSendSignal(pidfd, 15), true);
  await within(ended, 'the end by pidfd');
  assert.deepEqual(await exited, [null, 'SIGTERM']);
  assert.equal(binding().pidfdSendSignal(pidfd, 0), false);
  assert.equal(calls, 1);
});

test('two watches of one descriptor both hear; a closed one does not, also when closed from its own callback', async () => {
  const fd = binding().eventfd();
  const { writeSync } = await import('node:fs');
  let first = 0;
  let second = 0;
  const heard = new Promise<void>(resolve => {
    const watch = binding().watch(fd, EPOLLIN, mask => {
      assert.equal(mask & EPOLLIN, EPOLLIN);
      first++;
      watch.close();
      watch.close();
    });
    const other = binding().watch(fd, EPOLLIN, () => {
      second++;
      if (second < 3) return;
      other.close();
      resolve();
    });
  });
  writeSync(fd, Buffer.from(new BigUint64Array([1n]).buffer));
  await within(heard, 'three calls of the second watch');
  assert.equal(first, 1);
  assert.equal(second, 3);
  binding().close(fd);
});

test('an unref’d watch does not keep the process alive', async () => {
  // In a process of its own, since this one has other handles.
  const { execFile } = await import('node:child_process');
  const addon = binding();
  assert.ok(addon);
  const path = readFileSync('/proc/self/maps', 'utf8').match(/\/\S+libcontainer\.node/)?.[0];
  const script = `const m={exports:{}};process.dlopen(m,${JSON.stringify(path)});const fd=m.exports.eventfd();
    const w=m.exports.watch(fd,1,()=>{});w.unref();process.on('exit',()=>console.log('end'));`;
  const output = await new Promise<string>((resolve, reject) =>
    execFile(process.execPath, ['-e', script], { timeout: 60_000 }, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    ),
  );
  assert.equal(output, 'end\n');
});
