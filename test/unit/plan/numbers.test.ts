/** Our tables against the kernel's headers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import {
  CLONE,
  capabilities,
  capabilityNames,
  flagNames,
  ioPriorityValue,
  MOUNT_ATTR,
  MS,
  nameOf,
  numberOf,
  rlimits,
  schedulerFlags,
  schedulerPolicies,
  seccompFilterFlags,
} from '../../../lib/plan/numbers.ts';
import { defaultSearchPath, resolveEnv } from '../../../lib/plan/process-steps.ts';
import { sysctlFile } from '../../../lib/plan/standard-init.ts';
import { test } from '../../harness/test.ts';

/** `#define NAME number` rows (decimal, hexadecimal, or 1 << n) of a header. */
function defines(header: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, name = '', value = ''] of readFileSync(`/usr/include/${header}`, 'utf8').matchAll(
    /^#\s*define\s+(\w+)\s+(\(?[\w<() ]+\)?)/gm,
  )) {
    const shift = /^\(?\(?1(?:U|UL)?\s*<<\s*(\d+)\)?/.exec(value);
    const number = /^\(?(0x[0-9a-fA-F]+|\d+)(?![\w.])/.exec(value);
    if (shift !== null) found.set(name, 2 ** Number(shift[1]));
    else if (number !== null) found.set(name, Number(number[1]));
  }
  return found;
}

const headers = [
  ['linux/mount.h', 'MS_', MS, 24],
  ['linux/mount.h', 'MOUNT_ATTR_', MOUNT_ATTR, 9],
  ['linux/sched.h', 'CLONE_', CLONE, 8],
  ['linux/sched.h', '', schedulerPolicies, 5],
  ['linux/sched.h', '', schedulerFlags, 7],
  ['linux/capability.h', '', capabilities, 41],
  ['asm-generic/resource.h', '', rlimits, 16],
  ['linux/seccomp.h', 'SECCOMP_FILTER_FLAG_', seccompFilterFlags, 5],
] as const;
for (const [header, prefix, table, least] of headers) {
  test(`numbers ${prefix || Object.keys(table)[0]} are those of ${header}`, {
    requires: [`file:/usr/include/${header}`],
  }, () => {
    const known = defines(header);
    let compared = 0;
    for (const [name, value] of Object.entries(table)) {
      const theirs = known.get(prefix + name);
      if (theirs === undefined) continue;
      assert.equal(value, theirs, prefix + name);
      compared++;
    }
    assert.ok(compared >= least, `only ${compared} rows could be compared`);
  });
}

test('a row parses and prints', () => {
  assert.equal(flagNames(MS, 'MS_', MS.NOSUID | MS.REC), 'MS_NOSUID|MS_REC');
  assert.equal(flagNames(MS, 'MS_', 0), '0');
  assert.equal(flagNames(MS, 'MS_', 0x40000200), '0x40000200');
  assert.equal(
    flagNames(MOUNT_ATTR, '', MOUNT_ATTR._ATIME | MOUNT_ATTR.RDONLY),
    'RDONLY|NOATIME|STRICTATIME|0x40',
  );
  assert.equal(flagNames(CLONE, 'CLONE_', CLONE.NEWNET), 'CLONE_NEWNET');
  assert.equal(numberOf(rlimits, 'RLIMIT_NOFILE'), 7);
  assert.equal(numberOf(rlimits, 'toString'), undefined);
  assert.equal(nameOf(schedulerPolicies, 6), 'SCHED_DEADLINE');
  assert.deepEqual(capabilityNames((1n << 40n) | 1n | (1n << 63n)), [
    'CAP_CHOWN',
    'CAP_CHECKPOINT_RESTORE',
    'CAP_63',
  ]);
  assert.equal(ioPriorityValue('IOPRIO_CLASS_IDLE', 7), (3 << 13) | 7);
});

test('environment: the last duplicate wins, an empty HOME is none, PATH has a default', {
  proves: ['process.env'],
  trap: 4,
}, () => {
  assert.deepEqual(resolveEnv(['A=1', 'B=2', 'A=3', 'HOME=']), {
    env: ['A=3', 'B=2'],
    setHome: true,
    searchPath: defaultSearchPath,
  });
  assert.deepEqual(resolveEnv(['HOME=/h', 'PATH=']), {
    env: ['HOME=/h', 'PATH='],
    setHome: false,
    searchPath: '',
  });
});

test('sysctl names: the first separator decides', () => {
  assert.equal(sysctlFile('net.ipv4.ip_forward'), 'net/ipv4/ip_forward');
  assert.equal(sysctlFile('net/ipv4/conf/eth0.1/forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
  assert.equal(sysctlFile('net.ipv4.conf.eth0/1.forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
});
