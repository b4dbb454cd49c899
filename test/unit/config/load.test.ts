import { deepEqual, equal, ok, rejects, throws } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultSpecText } from '../../../lib/config/default-spec.ts';
import { configFromSpec, loadConfig, loadProcess, resourcesFromJson } from '../../../lib/config/load.ts';
import { selinuxEnabled } from '../../../lib/config/security-modules.ts';
import { ConfigError } from '../../../lib/errors.ts';
import { MS } from '../../../lib/plan/numbers.ts';
import { test } from '../../harness/test.ts';
import { bundle, specWith, writeConfig } from './fixture.ts';

test('defaultSpecText() is what `runc spec` writes, byte for byte', { requires: ['runc'] }, async t => {
  const directory = bundle(t);
  execFileSync('runc', ['spec'], { cwd: directory });
  equal(defaultSpecText(), readFileSync(join(directory, 'config.json'), 'utf8'));
});

test('defaultSpecText() for rootless is what `runc spec --rootless` writes', {
  requires: ['runc'],
}, async t => {
  const directory = bundle(t);
  execFileSync('runc', ['spec', '--rootless'], { cwd: directory });
  equal(defaultSpecText({ rootless: true }), readFileSync(join(directory, 'config.json'), 'utf8'));
});

test('defaultSpecText() has a cgroup namespace on a unified host only', async () => {
  const types = (text: string): string[] =>
    JSON.parse(text).linux.namespaces.map((namespace: { type: string }) => namespace.type);
  deepEqual(types(defaultSpecText({ unified: true })), ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup']);
  deepEqual(types(defaultSpecText({ unified: false })), ['pid', 'network', 'ipc', 'uts', 'mount']);
});

test('loadConfig() converts the default spec', async t => {
  const directory = bundle(t);
  writeConfig(directory, defaultSpecText({ unified: false }));
  const config = await loadConfig(directory);
  equal(config.bundle, directory);
  equal(config.rootfs, join(directory, 'rootfs'));
  equal(config.readonlyRootfs, true);
  equal(config.process?.terminal, true);
  deepEqual(config.process?.user, { uid: 0, gid: 0, additionalGids: [] });
  deepEqual(config.process?.rlimits, [{ type: 'RLIMIT_NOFILE', soft: '1024', hard: '1024' }]);
  deepEqual(config.process?.capabilities?.inheritable, []);
  deepEqual(config.mounts[1], {
    destination: '/dev',
    source: 'tmpfs',
    type: 'tmpfs',
    flags: MS.NOSUID | MS.STRICTATIME,
    clearedFlags: 0,
    propagation: [],
    recursiveSet: 0,
    recursiveClear: 0,
    data: 'mode=755,size=65536k',
    copyUp: false,
  });
  const devices = config.devices.map(({ path, major, minor }) => `${path} ${major}:${minor}`);
  deepEqual(devices, [
    '/dev/null 1:3',
    '/dev/random 1:8',
    '/dev/full 1:7',
    '/dev/tty 5:0',
    '/dev/zero 1:5',
    '/dev/urandom 1:9',
  ]);
  deepEqual([config.noPivotRoot, config.noNewKeyring, config.systemdCgroup], [false, false, false]);
  deepEqual(config.hooks.poststop, []);
});

test('loadConfig() puts the default device rules after the configured ones, as runc does', async t => {
  const config = await configFromSpec(specWith({}), bundle(t));
  const star = (value: number): string => (value < 0 ? '*' : String(value));
  const rules = (config.resources.devices ?? []).map(
    rule => `${rule.allow ? '+' : '-'} ${rule.type} ${star(rule.major)}:${star(rule.minor)} ${rule.access}`,
  );
  deepEqual(rules, [
    '- a *:* rwm',
    '+ c *:* m',
    '+ b *:* m',
    '+ c 1:3 rwm',
    '+ c 1:8 rwm',
    '+ c 1:7 rwm',
    '+ c 5:0 rwm',
    '+ c 1:5 rwm',
    '+ c 1:9 rwm',
    '+ c 136:* rwm',
    '+ c 5:2 rwm',
    '+ c 10:200 rwm',
  ]);
});

test('configFromSpec() lets a configured device replace the default one and its rule', async t => {
  const device = { path: '/dev/zero', type: 'u', major: 1, minor: 3, fileMode: 0o100600, uid: 1, gid: 2 };
  const config = await configFromSpec(specWith({ 'linux.devices': [device] }), bundle(t));
  equal(config.devices.length, 6);
  deepEqual(config.devices.at(-1), { ...device, type: 'c', fileMode: 0o600 });
  equal(
    config.resources.devices?.some(rule => rule.major === 1 && rule.minor === 5),
    false,
  );
});

test('configFromSpec() resolves paths against the bundle and the root', {
  proves: ['root.path'],
}, async t => {
  const directory = bundle(t);
  const mounts = [
    { destination: 'data/', source: 'rootfs', options: ['rbind', 'ro'] },
    { destination: '/x/../y', source: '/etc', type: 'bind' },
    { destination: '/t', source: 'tmpfs', type: 'tmpfs' },
  ];
  const warnings: string[] = [];
  const config = await configFromSpec(specWith({ mounts }), directory, {
    onWarning: message => warnings.push(message),
  });
  deepEqual(
    config.mounts.map(({ destination, source, type, flags }) => [destination, source, type, flags]),
    [
      ['/data', join(directory, 'rootfs'), 'bind', MS.BIND | MS.REC | MS.RDONLY],
      ['/y', '/etc', 'bind', MS.BIND],
      ['/t', 'tmpfs', 'tmpfs', 0],
    ],
  );
  deepEqual(warnings, ['mount destination data/ is not absolute, which is deprecated: taken from /']);
});

test('configFromSpec() keeps RLIM_INFINITY exact and the last value of a variable', async t => {
  const directory = bundle(t);
  const spec = specWith({
    'process.rlimits': [{ type: 'RLIMIT_CORE', soft: 2n ** 63n + 1n, hard: 2n ** 64n - 1n }],
    'process.env': ['A=1', 'B=2', 'A=3'],
  });
  const config = await configFromSpec(spec, directory);
  deepEqual(config.process?.rlimits, [
    { type: 'RLIMIT_CORE', soft: '9223372036854775809', hard: '18446744073709551615' },
  ]);
  deepEqual(config.process?.env, ['B=2', 'A=3']);
});

test('configFromSpec() warns of unknown capabilities and leaves them out', async t => {
  const warnings: string[] = [];
  const config = await configFromSpec(
    specWith({ 'process.capabilities': { bounding: ['CAP_KILL', 'CAP_NEW'], effective: ['toString'] } }),
    bundle(t),
    { onWarning: message => warnings.push(message) },
  );
  deepEqual(config.process?.capabilities?.bounding, ['CAP_KILL']);
  deepEqual(config.process?.capabilities?.effective, []);
  deepEqual(warnings, ['ignoring unknown or unavailable capabilities: [CAP_NEW toString]']);
});

test('configFromSpec() ignores unknown properties, other platforms, and empty "not given" strings', {
  proves: ['vm', 'windows', 'solaris', 'zos', 'freebsd'],
}, async t => {
  const config = await configFromSpec(
    specWith({
      'x-vendor': { a: 1 },
      'linux.x': 1,
      vm: { hypervisor: { path: 1 } },
      windows: { layerFolders: ['x'] },
      solaris: { milestone: 7 },
      zos: { namespaces: 'x' },
      freebsd: { jail: {} },
      hostname: '',
      'linux.mountLabel': '',
      'linux.rootfsPropagation': '',
      'process.apparmorProfile': '',
      'linux.namespaces': [{ type: 'mount', path: '' }],
    }),
    bundle(t),
  );
  equal('hostname' in config, false);
  deepEqual(config.namespaces, [{ type: 'mount' }]);
  equal(JSON.stringify(config).includes('vendor'), false);
});

test('configFromSpec() takes everything that is supported', {
  proves: [
    'linux.resources.memory.kernel',
    'linux.resources.memory.kernelTCP',
    'linux.resources.memory.useHierarchy',
  ],
  trap: 17,
}, async t => {
  const config = await configFromSpec(
    specWith({
      domainname: 'example.org',
      'linux.rootfsPropagation': 'rshared',
      'linux.cgroupsPath': '/a/b',
      'linux.personality': { domain: 'LINUX32' },
      'linux.seccomp': {
        defaultAction: 'SCMP_ACT_ERRNO',
        defaultErrnoRet: 38,
        architectures: ['SCMP_ARCH_X86_64'],
        flags: ['SECCOMP_FILTER_FLAG_LOG'],
        syscalls: [
          {
            names: ['personality'],
            action: 'SCMP_ACT_ALLOW',
            args: [{ index: 0, value: 2n ** 64n - 1n, op: 'SCMP_CMP_EQ' }],
          },
        ],
      },
      'linux.resources.memory': {
        limit: 64 << 20,
        swap: -1,
        swappiness: 0,
        kernel: 1,
        kernelTCP: 2,
        useHierarchy: true,
      },
      'linux.resources.pids': { limit: 0 },
      'linux.resources.unified': { 'memory.high': '1000' },
      'process.scheduler': { policy: 'SCHED_BATCH', nice: 5, flags: ['SCHED_FLAG_RESET_ON_FORK'] },
      'process.ioPriority': { class: 'IOPRIO_CLASS_BE', priority: 4 },
      'process.oomScoreAdj': -1000,
      'process.user': { uid: 5, gid: 6, umask: 0o77, additionalGids: [7] },
      hooks: { poststart: [{ path: '/bin/x', args: ['x', 'y'], env: [], timeout: 3 }] },
    }),
    bundle(t),
  );
  equal(config.rootfsPropagation, MS.SHARED | MS.REC);
  equal(config.seccomp?.syscalls?.[0]?.args?.[0]?.value, '18446744073709551615');
  deepEqual(config.resources.memory, { limit: 64 << 20, swap: -1, swappiness: 0 });
  deepEqual(config.process?.user, { uid: 5, gid: 6, umask: 0o77, additionalGids: [7] });
  deepEqual(config.hooks.poststart, [{ path: '/bin/x', args: ['x', 'y'], env: [], timeout: 3 }]);
  deepEqual(config.process?.scheduler, {
    policy: 'SCHED_BATCH',
    nice: 5,
    flags: ['SCHED_FLAG_RESET_ON_FORK'],
  });
});

test('loadConfig() returns a frozen value that survives JSON', async t => {
  const directory = bundle(t);
  writeConfig(directory, defaultSpecText());
  const config = await loadConfig(directory, { noPivotRoot: true });
  deepEqual(JSON.parse(JSON.stringify(config)), config);
  equal(config.noPivotRoot, true);
  throws(() => (config.mounts as unknown[]).push(1), TypeError);
  throws(() => Object.assign(config.process?.user ?? {}, { uid: 1 }), TypeError);
});

test('loadConfig() takes a bundle through a link and a bundle without process', async t => {
  const directory = bundle(t);
  writeConfig(directory, '{"ociVersion":"1.3.0","root":{"path":"rootfs"}}');
  symlinkSync(directory, `${directory}-link`);
  t.after(() => rmSync(`${directory}-link`));
  const config = await loadConfig(`${directory}-link`);
  equal(config.bundle, directory);
  equal(config.process, undefined);
  deepEqual(config.namespaces, []);
});

test('loadConfig() names what is wrong with the file', async t => {
  const directory = bundle(t);
  const code = (expected: string, message: RegExp) => (error: unknown) => {
    ok(error instanceof ConfigError);
    equal(error.code, expected);
    ok(message.test(error.message), error.message);
    return true;
  };
  await rejects(
    loadConfig(directory),
    code('ERR_SPEC_NOT_FOUND', /^JSON specification file config.json not found$/),
  );
  await rejects(loadConfig('/nonexistent'), code('ERR_SPEC_NOT_FOUND', /not found/));
  mkdirSync(join(directory, 'config.json'));
  await rejects(loadConfig(directory), code('ERR_SPEC_NOT_FOUND', /cannot be read/));
  rmSync(join(directory, 'config.json'), { recursive: true });
  writeConfig(directory, '{"ociVersion":"1.0.0",\n "root" {}}');
  await rejects(loadConfig(directory), (error: unknown) => {
    ok(error instanceof ConfigError);
    deepEqual([error.code, error.line, error.column], ['ERR_SPEC_JSON', 2, 9]);
    return true;
  });
  writeConfig(directory, '[]');
  await rejects(
    loadConfig(directory),
    code('ERR_SPEC_INVALID', /\(document\): must be an object, not an array/),
  );
  writeConfig(directory, `"${'x'.repeat(17 << 20)}"`);
  await rejects(loadConfig(directory), code('ERR_SPEC_INVALID', /the limit is 16777216/));
});

test('loadProcess() reads spec.process alone', async t => {
  const file = join(bundle(t), 'process.json');
  writeFileSync(file, '{"args":["id"],"cwd":"/","user":{"uid":5,"gid":5},"terminal":true}');
  const process = await loadProcess(file);
  deepEqual([process.args, process.user.uid, process.terminal], [['id'], 5, true]);
  ok(Object.isFrozen(process.user));
  writeFileSync(file, '{"args":["id"],"cwd":"x"}');
  await rejects(loadProcess(file), {
    code: 'ERR_SPEC_INVALID',
    message: /process\.cwd: Cwd must be an absolute/,
  });
  if (!selinuxEnabled()) {
    writeFileSync(file, '{"args":["id"],"cwd":"/","selinuxLabel":"x"}');
    await rejects(loadProcess(file), { code: 'ERR_UNSUPPORTED' });
  }
  writeFileSync(file, '{');
  await rejects(loadProcess(file), {
    code: 'ERR_SPEC_JSON',
    message: /process\.json is not valid JSON: line 1/,
  });
  await rejects(loadProcess(`${file}x`), { code: 'ERR_ARGUMENT' });
});

test('resourcesFromJson() gives linux.resources without default rules', async () => {
  deepEqual(await resourcesFromJson('{"memory":{"limit":-1},"cpu":{"idle":1}}', '-'), {
    memory: { limit: -1 },
    cpu: { idle: 1 },
  });
  await rejects(resourcesFromJson('{"memory":{"limit":"1g"}}', '-'), {
    message: /resources\.memory\.limit: must be an integer/,
  });
});
