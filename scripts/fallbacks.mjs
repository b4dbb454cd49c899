// node scripts/fallbacks.mjs [--sample] [--rows PART,…] [FILES…]: tests where system calls are refused with ENOSYS (an older
// kernel) and with EPERM (a sandbox around us), each call alone and the mount API as a whole; on cgroup v2 without
// cgroup.kill, too. Without files: those that start containers. --sample: one row, another for each day of the month. What
// has no fallback (openat2, memfd_create, pidfd_open) is refused with a clear error: test/integration/fallbacks.test.ts.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'boolean', default: false },
    rows: { type: 'string', default: '' },
    lane: { type: 'string', default: 'host' },
  },
});
const mountApi = ['fsopen', 'open_tree', 'move_mount', 'mount_setattr'];
const rows = [
  mountApi,
  ...[...mountApi, 'fsmount', 'close_range', 'clone3', 'faccessat2', 'keyctl'].map(call => [call]),
].flatMap(calls => ['ENOSYS', 'EPERM'].map(errno => calls.map(call => `${call}=${errno}`).join(',')));
// EPERM of keyctl is refused, not passed over; with EPERM of clone3 glibc makes no threads, so there is no Node.js.
const unified = existsSync('/sys/fs/cgroup/cgroup.controllers');
const left = [
  ...rows.filter(row => !/^(keyctl|clone3)=EPERM$/.test(row)),
  ...(unified ? ['cgroup.kill=ENOENT', 'cgroup.kill=EPERM'] : []),
].filter(row => values.rows.split(',').some(part => row.includes(part)));
const chosen = values.sample ? [left[new Date().getUTCDate() % left.length]] : left;
// Of cgroup.kill only what kills: each open of a file costs a question there.
const names = row =>
  row.startsWith('cgroup.kill')
    ? ['cgroups', 'lifecycle', 'signal', 'monitor']
    : 'security security-enter run exec terminal hooks lifecycle namespaces seccomp'.split(' ');
const filesOf = row =>
  positionals.length > 0 ? positionals : names(row).map(name => `test/integration/${name}.test.ts`);

const bad = [];
for (const row of chosen) {
  const { status } = spawnSync(
    process.execPath,
    ['scripts/test.mjs', ...filesOf(row), '--no-setup', '--lane', values.lane, '--deny', row],
    { stdio: 'inherit' },
  );
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${row}`);
  if (status !== 0) bad.push(row);
}
console.log(`fallbacks: ${chosen.length - bad.length} of ${chosen.length} rows green`);
process.exitCode = bad.length > 0 ? 1 : 0;
