import assert from 'node:assert/strict';
import { cgroupMount } from '../../../lib/criu/cgroup-options.ts';
import { lockTables, openingRules } from '../../../lib/criu/unlock.ts';
import { test } from '../../harness/test.ts';

const saved = (...rules: string[]): string =>
  ['*nat', ':OUTPUT ACCEPT [0:0]', 'COMMIT', '*filter', ':INPUT ACCEPT [1:2]', ...rules, 'COMMIT', ''].join(
    '\n',
  );

test('every jump to the chain of CRIU goes, and nothing else', () => {
  const own = ['-A INPUT -p tcp -j ACCEPT', '-A OUTPUT -j CRIU2'];
  assert.equal(openingRules(saved(...own)), undefined);
  assert.equal(openingRules(''), undefined);
  assert.equal(
    openingRules(
      saved(
        ...[':CRIU - [0:0]', '-A INPUT -j CRIU', '-A INPUT -j CRIU', '-A OUTPUT -j CRIU', ...own],
        '-A CRIU -j DROP',
      ),
    ),
    '*filter\n-D INPUT -j CRIU\n-D INPUT -j CRIU\n-D OUTPUT -j CRIU\n-F CRIU\n-X CRIU\nCOMMIT\n',
  );
});

test('tables of CRIU are known by their names', () => {
  const listed = 'table ip filter\ntable inet CRIU-77\ntable inet CRIUX\ntable inet CRIU\ntable ip CRIU-1\n';
  assert.deepEqual(lockTables(listed), ['CRIU-77', 'CRIU']);
});

test('the options of cgroup2 are those of its mount and of its file system', () => {
  const rows = [
    '25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw',
    '35 25 0:30 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot',
  ];
  assert.deepEqual(cgroupMount(rows.join('\n')), {
    point: '/sys/fs/cgroup',
    options: 'rw,nosuid,relatime,nsdelegate,memory_recursiveprot',
  });
  assert.equal(cgroupMount(rows[0] ?? ''), undefined);
});
