import assert from 'node:assert/strict';
import { annotationProperties } from '../../../lib/cgroups/systemd/annotations.ts';
import { endpoints, socketPaths } from '../../../lib/cgroups/systemd/bus.ts';
import { deviceProperties } from '../../../lib/cgroups/systemd/devices.ts';
import { unitLimits } from '../../../lib/cgroups/systemd/properties.ts';
import { expandSlice, unitOf } from '../../../lib/cgroups/systemd/unit.ts';
import { parseVariantText, VariantTextError } from '../../../lib/cgroups/systemd/variant-text.ts';
import {
  decodeMessage,
  encodeMessage,
  splitSignature,
  WireError,
} from '../../../lib/cgroups/systemd/wire.ts';
import type { Resources } from '../../../lib/config/config.ts';
import { ConfigError, LibcontainerError } from '../../../lib/errors.ts';
import { test } from '../../harness/test.ts';

const coded = (code: string) => (error: unknown) => error instanceof LibcontainerError && error.code === code;

test('slices lie in the slices that their names begin with', () => {
  assert.equal(expandSlice('system.slice'), '/system.slice');
  assert.equal(expandSlice('a-b-c.slice'), '/a.slice/a-b.slice/a-b-c.slice');
  assert.equal(expandSlice('-.slice'), '');
  for (const bad of [
    '',
    '.slice',
    'a.scope',
    '-a.slice',
    'a--b.slice',
    'a-.slice',
    'a/b.slice',
    '../a.slice',
    'a b.slice',
  ])
    assert.throws(() => expandSlice(bad), coded('ERR_CGROUP'), bad);
});

test('slice:prefix:name names a scope; a name that ends in .slice a slice', () => {
  const scope = unitOf('machine-x.slice:libpod:abc', 'id', false);
  assert.equal(scope.name, 'libpod-abc.scope');
  assert.equal(scope.path, '/machine.slice/machine-x.slice/libpod-abc.scope');
  assert.equal(unitOf(undefined, 'web', false).path, '/system.slice/runc-web.scope');
  assert.equal(unitOf(':p:web', 'id', true).path, '/user.slice/p-web.scope');
  assert.equal(unitOf('-.slice:p:web', 'id', false).path, '/p-web.scope');
  assert.equal(unitOf('system.slice::a-b.slice', 'id', false).path, '/a.slice/a-b.slice');
  for (const bad of [
    '/a/b',
    'a.slice:b',
    'a:b:c',
    'a.slice:b:c:d',
    ':p:',
    ':p:../../x',
    ':p/q:x',
    ':p:a\0b',
    '::-.slice',
    `:p:${'x'.repeat(300)}`,
  ])
    assert.throws(() => unitOf(bad, 'id', false), coded('ERR_CGROUP'), bad);
});

/** Names with their plain values, and arrays in full. */
const plain = (resources: Resources, unified: boolean, version = 252) =>
  Object.fromEntries(
    unitLimits(resources, unified, version).properties.map(([name, { value }]) => [name, value]),
  );
const infinity = (1n << 64n) - 1n;

test('resources as properties on v2', () => {
  assert.deepEqual(
    plain(
      {
        memory: { limit: 1000, swap: 3000, reservation: 500 },
        cpu: { shares: 1024, quota: 50_000, period: 100_000, cpus: '0-2,9', mems: '1' },
        pids: { limit: 0 },
        blockIO: { weight: 10 },
      },
      true,
    ),
    {
      MemoryMax: 1000n,
      MemoryLow: 500n,
      MemorySwapMax: 2000n,
      CPUWeight: 100n,
      IOWeight: 1n,
      CPUQuotaPeriodUSec: 100_000n,
      CPUQuotaPerSecUSec: 500_000n,
      TasksMax: 1n,
      AllowedCPUs: Uint8Array.of(0b111, 0b10),
      AllowedMemoryNodes: Uint8Array.of(0b10),
    },
  );
  assert.deepEqual(plain({ memory: { limit: -1 }, pids: { limit: -1 }, cpu: { quota: -1 } }, true), {
    MemoryMax: infinity,
    MemorySwapMax: infinity,
    CPUQuotaPerSecUSec: infinity,
    TasksMax: infinity,
  });
  assert.deepEqual(plain({ cpu: { idle: 1, shares: 5 } }, true), { CPUWeight: 0n });
  assert.deepEqual(plain({ cpu: { idle: 1 } }, true, 251), {});
});

test('resources as properties on v1; older versions know fewer', () => {
  const resources = {
    memory: { limit: 1000 },
    cpu: { shares: 7, cpus: '0', period: 50_000 },
    blockIO: { weight: 300 },
  };
  assert.deepEqual(plain(resources, false, 252), {
    MemoryLimit: 1000n,
    CPUShares: 7n,
    BlockIOWeight: 300n,
    CPUQuotaPeriodUSec: 50_000n,
    CPUQuotaPerSecUSec: infinity,
    AllowedCPUs: Uint8Array.of(1),
  });
  assert.deepEqual(Object.keys(plain(resources, false, 241)), [
    'MemoryLimit',
    'CPUShares',
    'BlockIOWeight',
    'CPUQuotaPerSecUSec',
  ]);
});

test('a quota between two percents is rounded up, in the files as well', () => {
  const { properties, resources } = unitLimits({ cpu: { quota: 12_345 } }, true, 252);
  assert.deepEqual(properties, [['CPUQuotaPerSecUSec', { signature: 't', value: 130_000n }]]);
  assert.equal(resources.cpu?.quota, 13_000);
  const exact = { cpu: { quota: 25_000, period: 50_000 } };
  assert.equal(unitLimits(exact, true, 252).resources, exact);
});

test('unified files that systemd has words for', () => {
  const unified = {
    ...{ 'memory.high': ' 77 ', 'memory.min': 'max', 'cpu.max': '2000 10000', 'cpuset.cpus': '1' },
    ...{ 'hugetlb.2MB.max': '0', 'memory.oom.group': '1', 'pids.max': 'max' },
  };
  assert.deepEqual(plain({ unified }, true, 253), {
    MemoryHigh: 77n,
    MemoryMin: infinity,
    CPUQuotaPeriodUSec: 10_000n,
    CPUQuotaPerSecUSec: 200_000n,
    AllowedCPUs: Uint8Array.of(2),
    OOMPolicy: 'kill',
    TasksMax: infinity,
  });
  for (const wrong of [
    { 'memory.high': 'much' },
    { 'cpu.max': '1 2 3' },
    { 'cpuset.cpus': '3-1' },
    { 'cpuset.cpus': '99999999' },
  ])
    assert.throws(() => plain({ unified: wrong }, true), coded('ERR_CGROUP'), JSON.stringify(wrong));
});

test('device rules: a strict list, or nothing that would overrule what systemd cannot say', () => {
  const deny = { allow: false, type: 'a', major: -1, minor: -1, access: 'rwm' } as const;
  const rule = (type: 'b' | 'c', major: number, minor: number, access = 'rw') => ({
    allow: true,
    type,
    major,
    minor,
    access,
  });
  const rules = [deny, rule('c', 1, 3), rule('c', 136, -1), rule('b', -1, -1, 'm')];
  assert.deepEqual(deviceProperties(rules, 252, true), [
    ['DevicePolicy', { signature: 's', value: 'strict' }],
    ['DeviceAllow', { signature: 'a(ss)', value: [] }],
    [
      'DeviceAllow',
      {
        signature: 'a(ss)',
        value: [
          ['block-*', 'm'],
          ['/dev/char/1:3', 'rw'],
          ['char-136', 'rw'],
        ],
      },
    ],
  ]);
  const auto = [
    ['DevicePolicy', { signature: 's', value: 'auto' }],
    ['DeviceAllow', { signature: 'a(ss)', value: [] }],
  ];
  assert.deepEqual(deviceProperties([{ ...deny, allow: true }], 252, true), auto);
  assert.deepEqual(deviceProperties([deny, rule('c', -1, 7)], 252, true), auto);
  assert.deepEqual(deviceProperties(rules, 239, true), auto);
  assert.equal(
    deviceProperties(
      [
        { ...deny, allow: true },
        { ...rule('c', 1, 3), allow: false },
      ],
      252,
      false,
    )[0]?.[1].value,
    'strict',
  );
});

test('GVariant text', () => {
  const cases: readonly [text: string, signature: string, value: unknown][] = [
    ["'a\\'b\\u00e9'", 's', "a'bé"],
    ['"x"', 's', 'x'],
    [' true ', 'b', true],
    ['5', 'i', 5],
    ['-0x10', 'i', -16],
    ['uint64 18446744073709551615', 't', infinity],
    ['@t 1', 't', 1n],
    ['byte 0x7', 'y', 7],
    ['1.5', 'd', 1.5],
    ["['a', 'b']", 'as', ['a', 'b']],
    ['@as []', 'as', []],
    ["(1, 'x', @u 3)", '(isu)', [1, 'x', 3]],
    ["{'k': <uint32 1>}", 'a{sv}', [['k', { signature: 'u', value: 1 }]]],
    ["objectpath '/a'", 'o', '/a'],
    ["[('/dev/null', 'rw')]", 'a(ss)', [['/dev/null', 'rw']]],
  ];
  for (const [text, signature, value] of cases)
    assert.deepEqual(parseVariantText(text), { signature, value }, text);
  for (const bad of [
    '',
    'x',
    "'a",
    '[1',
    '[]',
    "[1,'a']",
    'byte 256',
    'uint32 -1',
    '1 2',
    '3000000000',
    "uint32 'a'",
    '()',
    '@ss 1',
    '{}',
    "'\\uD'",
  ])
    assert.throws(() => parseVariantText(bad), VariantTextError, bad);
});

test('annotations name properties; seconds become microseconds', () => {
  const properties = (name: string, value: string) =>
    annotationProperties({ [`org.systemd.property.${name}`]: value, other: 'x' });
  assert.deepEqual(properties('CollectMode', "'inactive'"), [
    ['CollectMode', { signature: 's', value: 'inactive' }],
  ]);
  assert.deepEqual(properties('TimeoutStopSec', '1.5'), [
    ['TimeoutStopUSec', { signature: 't', value: 1_500_000n }],
  ]);
  assert.deepEqual(properties('TimeoutStopSec', 'uint64 2'), [
    ['TimeoutStopUSec', { signature: 't', value: 2_000_000n }],
  ]);
  assert.deepEqual(properties('XUSec', '3'), [['XUSec', { signature: 'i', value: 3 }]]);
  for (const [name, value] of [
    ['ab', '1'],
    ['A-b', '1'],
    ['TimeoutStopSec', "'x'"],
    ['TimeoutStopSec', '-1'],
    ['CollectMode', 'what'],
  ] as const)
    assert.throws(
      () => properties(name, value),
      (error: unknown) => error instanceof ConfigError && error.code === 'ERR_SPEC_INVALID',
      name,
    );
});

test('messages come back as they were sent, also in pieces', () => {
  const message = {
    type: 1,
    serial: 7,
    path: '/a',
    interface: 'i.f',
    member: 'M',
    destination: 'd',
    signature: 'sba(sv)aytx(yd)a{us}',
    body: [
      'text é',
      true,
      [
        ['A', { signature: 'as', value: ['x', 'y'] }],
        ['B', { signature: 'a(ss)', value: [] }],
      ],
      Uint8Array.of(1, 2, 3),
      infinity,
      -5n,
      [9, 1.25],
      [[1, 'one']],
    ],
  };
  const bytes = encodeMessage(message);
  for (const size of [0, 15, 16, bytes.length - 1])
    assert.equal(decodeMessage(bytes.subarray(0, size)), undefined);
  const decoded = decodeMessage(Buffer.concat([bytes, Buffer.from('rest')]));
  assert.equal(decoded?.size, bytes.length);
  assert.deepEqual(decoded?.message.body, message.body);
  assert.equal(decoded?.message.member, 'M');
  assert.deepEqual(splitSignature('sa{sv}(ia(ss))aas'), ['s', 'a{sv}', '(ia(ss))', 'aas']);
  for (const bad of ['(s', 'z', 'a', 'a'.repeat(100)])
    assert.throws(() => splitSignature(bad), WireError, bad);
  assert.throws(() => encodeMessage({ ...message, signature: 's', body: ['a\0b'] }), WireError);
});

test('what is no message ends the connection instead of being waited for', () => {
  const bytes = encodeMessage({ type: 2, serial: 1, replySerial: 1, signature: 's', body: ['x'] });
  const broken = (change: (copy: Buffer) => void) => {
    const copy = Buffer.from(bytes);
    change(copy);
    return () => decodeMessage(copy);
  };
  assert.throws(
    broken(copy => copy.write('B', 0)),
    WireError,
  );
  assert.throws(
    broken(copy => copy.writeUInt32LE(0x7fffffff, 4)),
    WireError,
  );
  // The length of the string in the body.
  assert.throws(
    broken(copy => copy.writeUInt32LE(200, copy.length - 6)),
    WireError,
  );
});

test('where the bus is', () => {
  assert.deepEqual(socketPaths('unix:path=/run/user/1/bus,guid=12;tcp:host=x;unix:abstract=/tmp/a%20b'), [
    '/run/user/1/bus',
    '\0/tmp/a b',
  ]);
  const paths = (user: boolean, env: NodeJS.ProcessEnv) => endpoints(user, env).map(one => one.path);
  assert.deepEqual(paths(false, {}), ['/run/dbus/system_bus_socket', '/run/systemd/private']);
  assert.deepEqual(paths(true, { XDG_RUNTIME_DIR: '/r', DBUS_SESSION_BUS_ADDRESS: 'unix:path=/s' }), [
    '/s',
    '/r/bus',
    '/r/systemd/private',
  ]);
});
