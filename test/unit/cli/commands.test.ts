import assert from 'node:assert/strict';
import { checkTerminal } from '../../../lib/cli/bundle.ts';
import { processOf, subCgroups } from '../../../lib/cli/commands/exec.ts';
import { selectRows } from '../../../lib/cli/commands/ps.ts';
import { fromOptions, merge } from '../../../lib/cli/commands/update.ts';
import { exitCode } from '../../../lib/cli/exit-code.ts';
import { commandHelp, programHelp } from '../../../lib/cli/help.ts';
import { type Options, parseOptions } from '../../../lib/cli/options.ts';
import { cpuNumbers } from '../../../lib/cli/stats-json.ts';
import { commands } from '../../../lib/cli/table.ts';
import type { ProcessConfig } from '../../../lib/config/config.ts';
import { test } from '../../harness/test.ts';

const base: ProcessConfig = {
  args: ['init'],
  env: ['PATH=/bin', 'A=1'],
  cwd: '/start',
  user: { uid: 5, gid: 6, additionalGids: [7], umask: 0o27 },
  terminal: true,
  consoleSize: { width: 80, height: 24 },
  capabilities: { bounding: ['CAP_KILL'], effective: [], permitted: [], inheritable: [], ambient: [] },
  rlimits: [],
  noNewPrivileges: true,
};
const execOptions = (...words: string[]): Options =>
  parseOptions(commands.exec.options, [...words, 'id'], 'first').options;
const updateOptions = (...words: string[]): Options =>
  parseOptions(commands.update.options, [...words, 'id'], 'mixed').options;

test('exec keeps the process of the container but for arguments and terminal', () => {
  const process = processOf(base, ['ls', '-l'], execOptions());
  const { consoleSize: _, ...rest } = base;
  assert.deepEqual(process, { ...rest, args: ['ls', '-l'], terminal: false });
});

test('exec changes what its options name', () => {
  const words = ['--cwd', '/c', '-e', 'B=2', '-env', 'C=', '-t', '-u', '1:2', '-g', '3', '-g', '4'];
  const process = processOf(base, ['ls'], execOptions(...words, '--no-new-privs=false', '-c', 'CAP_CHOWN'));
  assert.equal(process.cwd, '/c');
  assert.deepEqual(process.env, ['PATH=/bin', 'A=1', 'B=2', 'C=']);
  assert.equal(process.terminal, true);
  assert.deepEqual(process.user, { uid: 1, gid: 2, additionalGids: [7, 3, 4], umask: 0o27 });
  assert.equal(process.noNewPrivileges, false);
  // CVE-2022-29162: never inheritable; ambient needs inheritable.
  assert.deepEqual(process.capabilities, {
    bounding: ['CAP_KILL', 'CAP_CHOWN'],
    effective: ['CAP_CHOWN'],
    permitted: ['CAP_CHOWN'],
    inheritable: [],
    ambient: [],
  });
});

test('exec refuses users that are not plain numbers (CVE-2026-30892)', () => {
  for (const user of [
    'root',
    '0x0',
    '1000x',
    ' 0',
    '+0',
    '-1',
    '1:',
    ':1',
    '1:2:3',
    '1:x',
    '4294967295',
    '1e3',
    '1.5',
    '٣',
  ])
    assert.throws(() => processOf(base, ['ls'], execOptions('-u', user)), /^Error: parsing /, user);
  assert.equal(processOf(base, ['ls'], execOptions('-u', '4294967294')).user.uid, 4294967294);
  assert.throws(() => processOf(base, ['ls'], execOptions('-g', '-1')), /additional-gids/);
  assert.throws(() => processOf(base, [], execOptions()), { message: 'process args cannot be empty' });
  assert.equal(processOf(base, ['ls'], execOptions('--apparmor', 'x')).apparmorProfile, 'x');
  assert.equal(processOf(base, ['ls'], execOptions('--process-label', 'x')).selinuxLabel, 'x');
});

test('subCgroups() reads path and controller:path', () => {
  assert.deepEqual(subCgroups(['/sub']), { '': '/sub' });
  assert.deepEqual(subCgroups(['cpu,memory:/a', 'pids:/b']), { cpu: '/a', memory: '/a', pids: '/b' });
  assert.throws(() => subCgroups(['/a', '/b']), /missing <controller>: prefix/);
  assert.throws(() => subCgroups(['a:b:c']), /invalid --cgroup argument: a:b:c/);
});

test('update changes what was given and nothing else', () => {
  const former = {
    devices: [],
    memory: { limit: 100, swap: 200, reservation: 50 },
    cpu: { shares: 10, quota: 5000, period: 10_000, idle: 1 },
    pids: { limit: 7 },
    unified: { a: '1' },
  };
  assert.deepEqual(merge(former, fromOptions(updateOptions('--pids-limit', '9'))), {
    ...former,
    pids: { limit: 9 },
    blockIO: {},
  });
  const cpu = merge(
    former,
    fromOptions(updateOptions('--cpu-quota', '-1', '--cpu-idle', '0', '--cpu-share', '0')),
  ).cpu;
  assert.deepEqual(cpu, { shares: 10, quota: -1, period: 10_000, idle: 0 });
  assert.deepEqual(merge(former, { unified: { b: '2' } }).unified, { a: '1', b: '2' });
});

test('update --memory forgets the former sum of memory and swap, -1 lifts both', () => {
  const former = { memory: { limit: 100, swap: 200, reservation: 50 } };
  assert.deepEqual(merge(former, fromOptions(updateOptions('--memory', '1k'))).memory, {
    limit: 1024,
    reservation: 50,
  });
  assert.deepEqual(merge(former, fromOptions(updateOptions('--memory', '-1'))).memory, {
    limit: -1,
    swap: -1,
    reservation: 50,
  });
  assert.deepEqual(
    merge(former, fromOptions(updateOptions('--memory', '1k', '--memory-swap', '2k'))).memory,
    {
      limit: 1024,
      swap: 2048,
      reservation: 50,
    },
  );
});

test('update refuses numbers that are none', () => {
  for (const words of [
    ['--cpu-quota', '1x'],
    ['--cpu-share', '1.5'],
    ['--cpu-idle', 'yes'],
    ['--memory', '10x'],
    ['--memory-swap', '-2'],
  ])
    assert.throws(() => fromOptions(updateOptions(...words)), /^Error: invalid value for /, words.join(' '));
});

test('selectRows() keeps the heading and the rows of the given pids', () => {
  const output = 'USER   PID CMD\nroot     1 init\nme     412 sh -c 1\nme     413 ls\n';
  assert.equal(selectRows(output, [412, 1]), 'USER   PID CMD\nroot     1 init\nme     412 sh -c 1\n');
  assert.throws(() => selectRows('A B\n1 2\n', [1]), /couldn't find PID field/);
  assert.throws(() => selectRows('PID\nx\n', [1]), /unable to parse pid/);
});

test('checkTerminal() has the rules of runc', () => {
  checkTerminal(false, true, undefined);
  checkTerminal(true, false, undefined);
  checkTerminal(true, true, '/s');
  assert.throws(() => checkTerminal(true, true, undefined), /cannot allocate tty/);
  for (const [terminal, detached] of [
    [false, false],
    [false, true],
    [true, false],
  ] as const)
    assert.throws(() => checkTerminal(terminal, detached, '/s'), /cannot use console socket/);
});

test('exitCode() is the code, or 128 and the signal', () => {
  assert.equal(exitCode({ kind: 'exited', code: 7 }), 7);
  assert.equal(exitCode({ kind: 'signaled', signal: 'SIGKILL', coreDumped: false }), 137);
  assert.equal(exitCode({ kind: 'signaled', signal: 'SIGRTMIN+1', coreDumped: false }), 163);
});

test('cpuNumbers() spells a list out', () => {
  assert.deepEqual(cpuNumbers('0-2,5'), [0, 1, 2, 5]);
  assert.equal(cpuNumbers(''), undefined);
});

test('Each command has a help text with its visible options', () => {
  for (const [name, spec] of Object.entries(commands)) {
    const text = commandHelp(name);
    assert.ok(text.startsWith(`NAME:\n   nrunc ${name} - ${spec.usage}\n\nUSAGE:\n   nrunc ${name}`), name);
    for (const option of spec.options)
      assert.equal(text.includes(`--${option.name}`), !('hidden' in option && option.hidden), option.name);
  }
});

test('The help of the program lists every command', {
  requires: ['file:build/Release/libcontainer.node'],
}, () => {
  const text = programHelp();
  for (const name of Object.keys(commands)) assert.match(text, new RegExp(`^   ${name} `, 'm'));
});
