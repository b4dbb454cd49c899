import assert from 'node:assert/strict';
import {
  accessBits,
  type DeviceList,
  deviceList,
  deviceTransition,
  parseDeviceList,
  sameDevices,
} from '../../../lib/cgroups/device-rules.ts';
import { deviceProgram } from '../../../lib/cgroups/v2/device-program.ts';
import type { DeviceRule } from '../../../lib/config/config.ts';
import { CgroupError } from '../../../lib/errors.ts';
import { test } from '../../harness/test.ts';

const rule = (text: string): DeviceRule => {
  const [allow, type, numbers = '', access = ''] = text.split(' ');
  assert.ok(type === 'a' || type === 'b' || type === 'c');
  const [major, minor] = numbers.split(':').map(n => (n === '*' ? -1 : Number(n)));
  return { allow: allow === 'allow', type, major: major ?? -1, minor: minor ?? -1, access };
};
const list = (...rules: string[]) => deviceList(rules.map(rule));
const transition = (from: DeviceList, to: DeviceList) =>
  deviceTransition(from, to).map(w => `${w.file} ${w.value}`);

/** The instructions that the generator may use, as bpf(2) and the kernel's instruction-set.rst define them. */
function interpret(program: Uint8Array, access: number, type: number, major: number, minor: number): bigint {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const context = new DataView(new ArrayBuffer(12));
  context.setUint32(0, ((access << 16) | type) >>> 0, true);
  context.setUint32(4, major, true);
  context.setUint32(8, minor, true);
  const registers: (bigint | undefined)[] = new Array(10).fill(undefined);
  const get = (index: number): bigint => {
    const value = registers[index];
    assert.ok(value !== undefined, `r${index} is read before it is written`);
    return value;
  };
  const low = (value: bigint) => BigInt.asUintN(32, value);
  let steps = 0;
  for (let at = 0; ; at++) {
    assert.ok(at * 8 < program.length, 'runs off its end');
    assert.ok(steps++ < 10_000, 'does not end');
    const code = view.getUint8(at * 8);
    const dst = view.getUint8(at * 8 + 1) & 15;
    const src = view.getUint8(at * 8 + 1) >> 4;
    const off = view.getInt16(at * 8 + 2, true);
    const imm = BigInt(view.getInt32(at * 8 + 4, true));
    const jump = (taken: boolean) => {
      assert.ok(off > 0, 'jumps must go forward');
      if (taken) at += off;
    };
    if (code === 0x61) {
      assert.equal(src, 1, 'only the context is readable');
      registers[dst] = BigInt(context.getUint32(off, true));
    } else if (code === 0xb7) registers[dst] = BigInt.asUintN(64, imm);
    else if (code === 0xbc) registers[dst] = low(get(src));
    else if (code === 0x54) registers[dst] = low(get(dst)) & low(imm);
    else if (code === 0x74) registers[dst] = low(get(dst)) >> imm;
    else if (code === 0x55) jump(get(dst) !== BigInt.asUintN(64, imm));
    else if (code === 0x15) jump(get(dst) === BigInt.asUintN(64, imm));
    else if (code === 0x5d) jump(get(dst) !== get(src));
    else if (code === 0x95) return get(0);
    else assert.fail(`unknown instruction 0x${code.toString(16)}`);
  }
}

/** What the kernel's v1 controller would say: security/device_cgroup.c. */
function allowed(
  devices: DeviceList,
  access: number,
  type: 'b' | 'c',
  major: number,
  minor: number,
): boolean {
  const same = devices.exceptions.filter(
    e => e.type === type && (e.major < 0 || e.major === major) && (e.minor < 0 || e.minor === minor),
  );
  return devices.defaultAllow
    ? !same.some(e => (e.access & access) !== 0)
    : same.some(e => (e.access & access) === access);
}

const defaults = [
  'deny a *:* rwm',
  'allow c *:* m',
  'allow b *:* m',
  'allow c 1:3 rwm',
  'allow c 1:5 rwm',
  'allow c 5:0 rwm',
  'allow c 5:2 rwm',
  'allow c 136:* rwm',
  'allow b 8:* r',
];
const lists = {
  'the default rules': list(...defaults),
  'nothing allowed': list(),
  'all allowed': list('allow a *:* rwm'),
  'all but some': list('allow a *:* rwm', 'deny c 1:3 w', 'deny b *:* m', 'deny b 8:1 rwm'),
};

test('the program answers as the v1 controller does', () => {
  for (const [name, devices] of Object.entries(lists)) {
    const program = deviceProgram(devices);
    assert.equal(program.length % 8, 0);
    for (const type of ['b', 'c'] as const)
      for (const major of [0, 1, 5, 8, 136, 4095])
        for (const minor of [0, 1, 2, 3, 5, 1048575])
          for (let access = 1; access < 8; access++) {
            const answer = interpret(program, access, type === 'b' ? 1 : 2, major, minor);
            const expected = allowed(devices, access, type, major, minor) ? 1n : 0n;
            assert.equal(answer, expected, `${name}: ${type} ${major}:${minor} access ${access}`);
          }
  }
});

test('a rule that denies writing also stops an open for reading and writing', () => {
  const program = deviceProgram(lists['all but some']);
  assert.equal(interpret(program, accessBits('rw'), 2, 1, 3), 0n);
  assert.equal(interpret(program, accessBits('r'), 2, 1, 3), 1n);
});

test('rules merge and take back in their order', () => {
  assert.deepEqual(list('allow c 1:3 r', 'allow c 1:3 w', 'deny c 1:3 r'), list('allow c 1:3 w'));
  assert.deepEqual(list('allow c 1:3 rwm', 'deny a *:* rwm'), list());
  assert.deepEqual(list('allow c 1:3 r', 'deny c 1:3 rwm'), list());
  assert.deepEqual(list('allow c 1:3 r', 'deny c 7:7 rwm').exceptions.length, 1);
});

test('a hole in a wildcard rule is refused, since v1 would ignore it silently', () => {
  assert.throws(
    () => list('allow c 1:* rw', 'deny c 1:3 w'),
    (error: unknown) =>
      error instanceof CgroupError &&
      error.message.includes('linux.resources.devices[1]') &&
      error.message.includes('cannot punch hole in existing wildcard rule'),
  );
  assert.deepEqual(list('allow c *:* m', 'deny c 1:3 r').exceptions.length, 1);
});

test('a transition writes the difference, and starts anew where the kernel shows too little', () => {
  const fromDefault = transition(
    { defaultAllow: true, exceptions: [] },
    list('allow c 1:3 rwm', 'allow b 8:* r'),
  );
  assert.deepEqual(fromDefault, ['devices.deny a', 'devices.allow b 8:* r', 'devices.allow c 1:3 rwm']);
  assert.deepEqual(
    transition(list('allow c 1:3 rwm', 'allow c 1:5 r'), list('allow c 1:3 r', 'allow c 1:7 r')),
    ['devices.deny c 1:3 wm', 'devices.deny c 1:5 r', 'devices.allow c 1:7 r'],
  );
  assert.deepEqual(transition(list('allow c 1:3 r'), list('allow c 1:3 r')), []);
  assert.deepEqual(transition(list(), list('allow a *:* rwm', 'deny c 1:3 w')), [
    'devices.allow a',
    'devices.deny c 1:3 w',
  ]);
});

test('devices.list is read back to what was written; odd lines are left out', () => {
  const text = 'c *:* m\nb *:* m\nc 1:3 rwm\nc 136:* rwm\n';
  assert.ok(
    sameDevices(
      parseDeviceList(text),
      list('allow c *:* m', 'allow b *:* m', 'allow c 1:3 rwm', 'allow c 136:* rwm'),
    ),
  );
  assert.deepEqual(parseDeviceList('a *:* rwm\n'), { defaultAllow: true, exceptions: [] });
  assert.deepEqual(parseDeviceList('\nx 1:2 r\nc 1:r\nc 1:2 \n'), { defaultAllow: false, exceptions: [] });
});
