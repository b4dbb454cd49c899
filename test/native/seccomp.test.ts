import assert from 'node:assert/strict';
import { binding } from '../../lib/native/binding.ts';
import { test } from '../harness/test.ts';

const X86_64 = 0xc000003e;
const I386 = 0x40000003;
const ALLOW = 0x7fff0000;
const KILL_THREAD = 0;
const LOG = 0x7ffc0000;
const TRAP = 0x00030000;
const NOTIFY = 0x7fc00000;
const KILL_PROCESS = 0x80000000;
const errno = (number: number) => 0x00050000 + number;
const trace = (number: number) => 0x7ff00000 + number;
const [EPERM, ENOSYS] = [1, 38];
const TSYNC = 1;
const LOG_FLAG = 2;
const SPEC_ALLOW = 4;
const NEW_LISTENER = 8;

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly object[];
}
interface Profile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly syscalls?: readonly Rule[];
}
const compile = (profile: Profile) => binding().seccompCompile(JSON.stringify(profile));

/** What the kernel would answer: an interpreter of the few classic BPF instructions that seccomp filters are made of. */
function answer(program: Uint8Array, nr: number, args: readonly bigint[] = [], arch = X86_64): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, nr, true);
  data.setUint32(4, arch, true);
  for (const [i, arg] of args.entries()) data.setBigUint64(16 + 8 * i, arg, true);
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  let accumulator = 0;
  for (let at = 0; at < program.byteLength / 8; at++) {
    const op = code.getUint16(at * 8, true);
    const [yes, no] = [code.getUint8(at * 8 + 2), code.getUint8(at * 8 + 3)];
    const k = code.getUint32(at * 8 + 4, true);
    const jump = (taken: boolean) => {
      at += taken ? yes : no;
    };
    if (op === 0x20) accumulator = data.getUint32(k, true);
    else if (op === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (op === 0x05) at += k;
    else if (op === 0x15) jump(accumulator === k);
    else if (op === 0x25) jump(accumulator > k);
    else if (op === 0x35) jump(accumulator >= k);
    else if (op === 0x45) jump((accumulator & k) !== 0);
    else if (op === 0x06) return k;
    else assert.fail(`instruction ${op.toString(16)} at ${at}`);
  }
  return assert.fail('ran off the end');
}

const numbers = {
  read: 0,
  write: 1,
  personality: 135,
  socket: 41,
  statx: 332,
  openat2: 437,
  mseal: 462,
} as const;
const options = { requires: ['seccomp'] } as const;
const onlyX64 = process.arch === 'x64';

test('an allow list: named calls pass, unnamed ones get EPERM, newer ones ENOSYS', {
  ...options,
  proves: ['linux.seccomp.defaultAction', 'linux.seccomp.syscalls[].names'],
  trap: 22,
}, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const { program, flags } = compile({
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64'],
    syscalls: [{ names: ['read', 'statx', 'no_such_call'], action: 'SCMP_ACT_ALLOW' }],
  });
  assert.equal(flags, SPEC_ALLOW, 'the default flags are those of runc');
  assert.equal(answer(program, numbers.read), ALLOW);
  assert.equal(answer(program, numbers.statx), ALLOW);
  assert.equal(answer(program, numbers.write), errno(EPERM));
  assert.equal(answer(program, numbers.statx + 1), errno(ENOSYS));
  assert.equal(answer(program, numbers.mseal), errno(ENOSYS));
  assert.equal(answer(program, numbers.read, [], I386), KILL_THREAD, 'an architecture that is not listed');
});

test('each action and return code arrives in the program', {
  ...options,
  proves: [
    'linux.seccomp.syscalls[].action',
    'linux.seccomp.syscalls[].errnoRet',
    'linux.seccomp.defaultErrnoRet',
  ],
  trap: 22,
}, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const rows: [string, number | undefined, number][] = [
    ['SCMP_ACT_ERRNO', 13, errno(13)],
    ['SCMP_ACT_ERRNO', undefined, errno(EPERM)],
    ['SCMP_ACT_TRACE', 7, trace(7)],
    ['SCMP_ACT_TRACE', undefined, trace(EPERM)],
    ['SCMP_ACT_LOG', undefined, LOG],
    ['SCMP_ACT_TRAP', undefined, TRAP],
    ['SCMP_ACT_KILL', undefined, KILL_THREAD],
    ['SCMP_ACT_KILL_THREAD', undefined, KILL_THREAD],
    ['SCMP_ACT_KILL_PROCESS', undefined, KILL_PROCESS],
    ['SCMP_ACT_NOTIFY', undefined, NOTIFY],
  ];
  for (const [action, errnoRet, expected] of rows) {
    const rule: Rule = { names: ['socket'], action, ...(errnoRet === undefined ? {} : { errnoRet }) };
    const { program } = compile({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule] });
    assert.equal(answer(program, numbers.socket), expected, action);
    assert.equal(answer(program, numbers.mseal), ALLOW, 'a default that allows has no ENOSYS stub');
  }
  const { program } = compile({ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 99, syscalls: [] });
  assert.equal(answer(program, numbers.read), errno(99));
});

test('conditions: all must hold, but several on one argument are alternatives', {
  ...options,
  proves: ['linux.seccomp.syscalls[].args'],
  trap: 22,
}, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const { program } = compile({
    defaultAction: 'SCMP_ACT_ERRNO',
    syscalls: [
      {
        names: ['personality'],
        action: 'SCMP_ACT_ALLOW',
        args: [
          { index: 0, value: 8, op: 'SCMP_CMP_EQ' },
          { index: 0, value: '0xffffffff', op: 'SCMP_CMP_EQ' },
        ],
      },
      {
        names: ['socket'],
        action: 'SCMP_ACT_ALLOW',
        args: [
          { index: 0, value: 40, op: 'SCMP_CMP_NE' },
          { index: 1, value: 15, valueTwo: 1, op: 'SCMP_CMP_MASKED_EQ' },
          { index: 2, value: '18446744073709551615', op: 'SCMP_CMP_LT' },
        ],
      },
    ],
  });
  assert.equal(answer(program, numbers.personality, [8n]), ALLOW);
  assert.equal(answer(program, numbers.personality, [0xffffffffn]), ALLOW);
  assert.equal(answer(program, numbers.personality, [9n]), errno(EPERM));
  assert.equal(answer(program, numbers.socket, [1n, 0x80001n, 0n]), ALLOW);
  assert.equal(answer(program, numbers.socket, [40n, 1n, 0n]), errno(EPERM));
  assert.equal(answer(program, numbers.socket, [1n, 2n, 0n]), errno(EPERM));
  assert.equal(answer(program, numbers.socket, [1n, 1n, 0xffffffffffffffffn]), errno(EPERM));
});

test('each operator compares 64 bits', {
  ...options,
  proves: ['linux.seccomp.syscalls[].args'],
  trap: 22,
}, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const big = 0x1_0000_0005n;
  const rows: [string, readonly [bigint, boolean][]][] = [
    [
      'SCMP_CMP_EQ',
      [
        [big, true],
        [5n, false],
      ],
    ],
    [
      'SCMP_CMP_NE',
      [
        [big, false],
        [5n, true],
      ],
    ],
    [
      'SCMP_CMP_LT',
      [
        [big - 1n, true],
        [big, false],
      ],
    ],
    [
      'SCMP_CMP_LE',
      [
        [big, true],
        [big + 1n, false],
      ],
    ],
    [
      'SCMP_CMP_GT',
      [
        [big + 1n, true],
        [big, false],
      ],
    ],
    [
      'SCMP_CMP_GE',
      [
        [big, true],
        [big - 1n, false],
      ],
    ],
  ];
  for (const [op, cases] of rows) {
    const { program } = compile({
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: [
        { names: ['socket'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: Number(big), op }] },
      ],
    });
    for (const [value, allowed] of cases)
      assert.equal(
        answer(program, numbers.socket, [value]),
        allowed ? ALLOW : errno(EPERM),
        `${op} ${value}`,
      );
  }
});

test('architectures: each has its own stub, x32 by bit 30 of the number', {
  ...options,
  proves: ['linux.seccomp.architectures'],
  trap: 22,
}, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const { program } = compile({
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [{ names: ['read', 'statx'], action: 'SCMP_ACT_ALLOW' }],
  });
  const x32 = 0x40000000;
  assert.equal(answer(program, x32 + numbers.statx), ALLOW);
  assert.equal(answer(program, x32 + numbers.write), errno(EPERM));
  assert.equal(answer(program, x32 + 400), errno(ENOSYS));
  // i386: read 3, write 4, statx 383.
  assert.equal(answer(program, 3, [], I386), ALLOW);
  assert.equal(answer(program, 4, [], I386), errno(EPERM));
  assert.equal(answer(program, 384, [], I386), errno(ENOSYS));
  assert.equal(answer(program, numbers.statx), ALLOW);
});

test('a long profile gets a program that answers the same', options, t => {
  if (!onlyX64) return t.skip('numbers are those of x86-64');
  const names = [
    'accept',
    'bind',
    'brk',
    'chdir',
    'chmod',
    'chown',
    'close',
    'connect',
    'creat',
    'dup',
    'dup2',
    'dup3',
    'execve',
    'exit',
    'fchdir',
    'fchmod',
    'fchown',
    'fcntl',
    'flock',
    'fstat',
    'fsync',
    'getcwd',
    'getdents',
    'getegid',
    'geteuid',
    'getgid',
    'getpid',
    'getuid',
    'ioctl',
    'kill',
    'link',
    'listen',
    'lseek',
    'mkdir',
    'mmap',
    'open',
    'pipe',
    'poll',
    'read',
    'write',
    'statx',
  ];
  const { program } = compile({
    defaultAction: 'SCMP_ACT_ERRNO',
    syscalls: [{ names, action: 'SCMP_ACT_ALLOW' }],
  });
  assert.equal(answer(program, numbers.read), ALLOW);
  assert.equal(answer(program, numbers.statx), ALLOW);
  assert.equal(answer(program, numbers.socket), errno(EPERM));
  assert.equal(answer(program, numbers.openat2), errno(ENOSYS));
});

test('rules that say what the default says are skipped', options, () => {
  const { program } = compile({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }],
  });
  assert.ok(program.length > 0);
});

test('flags', { ...options, proves: ['linux.seccomp.flags'], trap: 22 }, () => {
  const flagsOf = (flags: readonly string[], syscalls: readonly Rule[] = []) =>
    compile({ defaultAction: 'SCMP_ACT_ALLOW', flags, syscalls }).flags;
  assert.equal(flagsOf([]), 0);
  assert.equal(flagsOf(['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG']), TSYNC | LOG_FLAG);
  const notify: Rule = { names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' };
  assert.equal(flagsOf(['SECCOMP_FILTER_FLAG_TSYNC'], [notify]), NEW_LISTENER);
});

test('what is wrong is named by its place in the document', options, () => {
  const rows: [Profile, RegExp][] = [
    [{ defaultAction: 'SCMP_ACT_MAYBE' }, /^defaultAction: unknown action SCMP_ACT_MAYBE$/],
    [
      { defaultAction: 'SCMP_ACT_NOTIFY' },
      /^defaultAction: SCMP_ACT_NOTIFY cannot be used as default action$/,
    ],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_Z80'] },
      /^architectures\[0\]: unknown architecture/,
    ],
    [{ defaultAction: 'SCMP_ACT_ALLOW', flags: ['X'] }, /^flags\[0\]: unknown flag X$/],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] },
      /^flags: .*needs a rule/,
    ],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['read'], action: 'X' }] },
      /^syscalls\[0\]\.action: unknown action X/,
    ],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: [''], action: 'SCMP_ACT_LOG' }] },
      /^syscalls\[0\]\.names\[0\]: empty/,
    ],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['write'], action: 'SCMP_ACT_NOTIFY' }] },
      /^syscalls\[0\]\.names\[0\]: SCMP_ACT_NOTIFY cannot be used for the write syscall$/,
    ],
    [
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          { names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] },
        ],
      },
      /^syscalls\[0\]\.args\[0\]\.index must be an integer from 0 to 5$/,
    ],
    [
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          { names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 0, value: -1, op: 'SCMP_CMP_EQ' }] },
        ],
      },
      /^syscalls\[0\]\.args\[0\]\.value must be a number of 64 bits$/,
    ],
    [
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          { names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 0, value: 1, op: 'SCMP_CMP_XX' }] },
        ],
      },
      /^syscalls\[0\]\.args\[0\]\.op: unknown operator SCMP_CMP_XX$/,
    ],
  ];
  for (const [profile, message] of rows) assert.throws(() => compile(profile), { message });
  assert.throws(() => binding().seccompCompile('{'), { name: 'SyntaxError' });
  assert.throws(() => binding().seccompCompile('3'), { name: 'TypeError' });
});

test('the version of libseccomp is told', options, () => {
  assert.match(binding().seccompVersion(), /^2\.\d+\.\d+$/);
});
