import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from '../harness/test.ts';
import { addon, standInPath } from './stand-in.ts';

test('without clone3 (old sandboxes answer ENOSYS) clone does it; a cgroup to clone into is refused by name', {
  requires: ['root', 'file:/usr/bin/strace'],
  timeoutMs: 60_000,
}, async () => {
  addon();
  const path = readFileSync('/proc/self/maps', 'utf8').match(/\/\S+libcontainer\.node/)?.[0];
  const source = `
    const m = { exports: {} };
    process.dlopen(m, ${JSON.stringify(path)});
    m.exports.configure({ init: ${JSON.stringify(standInPath())} });
    const quiet = m.exports.open('/dev/null', 2, 0);
    const job = { before: [], plan: Buffer.from('send R\\nexpect G\\nsend X\\nclose\\nexit 6'), cloneFlags: 0x20000000,
      stdio: [quiet, quiet, quiet], preserved: [], slots: [], askReady: false, faults: false };
    const report = event => console.log(event.type, event.status ?? event.reason ?? '');
    m.exports.spawn(job, event => {
      report(event);
      if (event.type === 'exit') m.exports.spawn({ ...job, cgroup: '/tmp' }, report);
    });`;
  const inject = ['-f', '-q', '-o', '/dev/null', '-e', 'trace=clone3', '-e', 'inject=clone3:error=ENOSYS'];
  const output = await new Promise<string>((resolve, reject) =>
    execFile(
      '/usr/bin/strace',
      [...inject, process.execPath, '-e', source],
      { timeout: 600_000 },
      (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
    ),
  );
  assert.equal(output, 'ready \nrunning \nexit 6\nfailed CLONE_INTO_CGROUP\n');
});
