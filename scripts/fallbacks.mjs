// node scripts/fallbacks.mjs [--sample] [FILES…]: tests where system calls are refused with ENOSYS (an older kernel) and
// with EPERM (a sandbox around us), each call alone and the mount API as a whole. Without files: those that start
// containers. --sample: one row, another for each day of the month. What has no fallback (openat2, memfd_create, pidfd_open)
// is refused with a clear error instead: test/integration/fallbacks.test.ts.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sample: { type: 'boolean', default: false }, lane: { type: 'string', default: 'host' } },
});
const mountApi = ['fsopen', 'open_tree', 'move_mount', 'mount_setattr'];
const rows = [
  mountApi,
  ...[...mountApi, 'fsmount', 'close_range', 'clone3', 'faccessat2', 'keyctl'].map(call => [call]),
].flatMap(calls => ['ENOSYS', 'EPERM'].map(errno => calls.map(call => `${call}=${errno}`).join(',')));
// EPERM of keyctl is refused, not passed over; with EPERM of clone3 glibc makes no threads, so there is no Node.js.
const left = rows.filter(row => !/^(keyctl|clone3)=EPERM$/.test(row));
const chosen = values.sample ? [left[new Date().getUTCDate() % left.length]] : left;
const files =
  positionals.length > 0
    ? positionals
    : ['security', 'run', 'exec', 'terminal', 'hooks', 'lifecycle', 'namespaces', 'seccomp'].map(
        name => `test/integration/${name}.test.ts`,
      );

const bad = [];
for (const row of chosen) {
  const { status } = spawnSync(
    process.execPath,
    ['scripts/test.mjs', ...files, '--no-setup', '--lane', values.lane, '--deny', row],
    { stdio: 'inherit' },
  );
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${row}`);
  if (status !== 0) bad.push(row);
}
console.log(`fallbacks: ${chosen.length - bad.length} of ${chosen.length} rows green`);
process.exitCode = bad.length > 0 ? 1 : 0;
