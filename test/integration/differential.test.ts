/**
 * The same bundle under runc and under nrunc, looked at from inside by /bin/probe: no difference that is not in the
 * table below with its reason. runc here is Debian's 1.1.5; where it cannot run, the tests are skipped and say so.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import {
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  rootfs,
  type SpecDocument,
} from '../harness/bundle.ts';
import { differences, type Permitted, parseProbe } from '../harness/inside.ts';
import type { Requirement } from '../harness/requirements.ts';
import { command, differential, type Runtime } from '../harness/runtimes.ts';
import type { TestContext } from '../harness/test.ts';
import { compare, permitted, probe, run, withCgroupFiles } from './differential-compare.ts';
import './warm.ts';

/** `runtime spec` in a new bundle; only the rootfs and the command are ours. */
function specBundle(t: TestContext, runtime: Runtime, terminal: boolean): string {
  const bundle = makeDirectory(t);
  const made = command(runtime, ['spec', '--bundle', bundle]);
  assert.equal(made.status, 0, made.stderr);
  const file = join(bundle, 'config.json');
  const spec = JSON.parse(readFileSync(file, 'utf8'));
  spec.root.path = rootfs;
  spec.process.terminal = terminal;
  spec.process.args = withCgroupFiles;
  writeFileSync(file, JSON.stringify(spec));
  return bundle;
}

interface Case {
  readonly name: string;
  readonly patch: (spec: SpecDocument, directory: string) => void;
  readonly flags?: readonly string[];
  readonly permitted?: readonly Permitted[];
  readonly requires?: readonly Requirement[];
}

for (const source of ['runc', 'nrunc'] as const) {
  for (const terminal of [false, true]) {
    differential(`${source} spec, terminal ${terminal ? 'on' : 'off'}`, t => {
      compare(t, { bundle: specBundle(t, source, terminal), terminal });
    });
  }
}

const capabilities = (names: readonly string[], inheritable: readonly string[] = []) => ({
  bounding: names,
  effective: names,
  permitted: names,
  inheritable,
  ambient: inheritable,
});

const cases: readonly Case[] = [
  {
    name: 'writable root, user, groups, umask, limits, capabilities, oom_score_adj, environment',
    patch: spec => {
      spec.root.readonly = false;
      Object.assign(spec.process, {
        args: probe,
        user: { uid: 1000, gid: 1000, additionalGids: [29, 50], umask: 0o27 },
        cwd: '/home/app',
        noNewPrivileges: false,
        oomScoreAdj: 321,
        env: ['PATH=/bin', 'A=1', 'B=2', 'A=3'],
        capabilities: capabilities(['CAP_CHOWN', 'CAP_KILL', 'CAP_SYS_ADMIN'], ['CAP_KILL']),
        rlimits: [
          { type: 'RLIMIT_NOFILE', soft: 100, hard: 200 },
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
          { type: 'RLIMIT_STACK', soft: 1048576, hard: 2097152 },
        ],
      });
    },
  },
  {
    name: 'no capabilities section, empty HOME, host ipc, uts and network',
    patch: spec => {
      Object.assign(spec.process, { args: probe, env: ['PATH=/bin', 'HOME=', 'X='] });
      delete spec.process.capabilities;
      delete spec.hostname;
      spec.linux.namespaces = [{ type: 'pid' }, { type: 'mount' }];
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'sysfs' && type !== 'cgroup');
      spec.linux.readonlyPaths = [];
      spec.linux.maskedPaths = ['/etc/passwd', '/nowhere', '/home'];
    },
  },
  {
    name: 'mounts with many options',
    patch: (spec, directory) => {
      mkdirSync(join(directory, 'source/inner'), { recursive: true });
      writeFileSync(join(directory, 'file'), 'x');
      const source = join(directory, 'source');
      spec.process.args = probe;
      spec.mounts.push(
        { destination: '/mnt', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'size=1m', 'mode=700'] },
        { destination: '/mnt/bound', type: 'bind', source, options: ['rbind', 'ro', 'nosuid', 'noexec'] },
        {
          destination: '/mnt/private',
          source,
          type: 'none',
          options: ['bind', 'rprivate', 'nodev', 'noatime'],
        },
        { destination: '/mnt/shared', type: 'bind', source, options: ['bind', 'shared'] },
        { destination: '/mnt/slave', type: 'bind', source, options: ['rbind', 'rslave', 'ro', 'rw'] },
        { destination: '/mnt/unbindable', type: 'bind', source, options: ['bind', 'unbindable'] },
        {
          destination: '/mnt/deep/er',
          type: 'tmpfs',
          source: 'other',
          options: ['ro', 'strictatime', 'nodiratime'],
        },
        {
          destination: '/mnt/a-file',
          type: 'bind',
          source: join(directory, 'file'),
          options: ['bind', 'ro'],
        },
        {
          destination: '/mnt/clear',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['ro', 'noexec', 'rw', 'exec', 'sync'],
        },
        { destination: '/var/tmp/../tmp', type: 'tmpfs', source: 'tmpfs', options: ['noatime'] },
      );
    },
  },
  {
    name: 'devices, sysctl, cgroup limits',
    requires: ['controller:memory', 'controller:cpu', 'controller:cpuset', 'controller:pids'],
    patch: spec => {
      spec.process.args = withCgroupFiles;
      spec.linux.sysctl = { 'net.ipv4.ip_forward': '1', 'kernel.shmmax': '67108864' };
      spec.linux.devices = [
        { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o640, uid: 1000, gid: 29 },
        { path: '/dev/deep/disk', type: 'b', major: 8, minor: 0 },
        { path: '/dev/pipe', type: 'p', fileMode: 0o600 },
      ];
      spec.linux.resources = {
        devices: [
          { allow: false, access: 'rwm' },
          { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
          { allow: true, type: 'b', major: 8, access: 'r' },
        ],
        memory: { limit: 67108864, reservation: 33554432 },
        cpu: { shares: 512, quota: 50000, period: 100000, cpus: '0', mems: '0' },
        pids: { limit: 77 },
      };
    },
  },
  {
    name: 'host cgroup namespace',
    patch: spec => {
      spec.process.args = withCgroupFiles;
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'cgroup');
    },
  },
  {
    name: 'joined namespaces, shared rootfs propagation, no new keyring',
    permitted: [
      {
        fact: /^mounts \/$/,
        map: theirs => theirs.replace(' private ', ' shared '),
        why: 'rootfsPropagation is the propagation of the root; runc 1.1 loses it with pivot_root',
      },
    ],
    flags: ['--no-new-keyring'],
    patch: spec => {
      spec.process.args = probe;
      spec.linux.rootfsPropagation = 'shared';
      const own = spec.linux.namespaces.filter(({ type }) => !['network', 'ipc', 'uts'].includes(type));
      spec.linux.namespaces = [
        ...own,
        { type: 'network', path: '/proc/self/ns/net' },
        { type: 'ipc', path: '/proc/self/ns/ipc' },
      ];
      delete spec.hostname;
      // sysfs belongs to the network namespace's owner: it stays mountable, but shows the host's devices.
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'cgroup');
    },
  },
  {
    name: '--no-pivot, preserved descriptors',
    flags: ['--no-pivot', '--preserve-fds', '2'],
    patch: spec => {
      spec.process.args = probe;
    },
  },
  ...[true, false].map(noNewPrivileges => ({
    name: `seccomp filter, no_new_privs ${noNewPrivileges ? 'on' : 'off'}`,
    requires: ['seccomp'] as const,
    patch: (spec: SpecDocument) => {
      const script = 'mkdir /tmp/x 2>/dev/null && echo made; exec /bin/probe json';
      Object.assign(spec.process, { args: ['/bin/sh', '-c', script], noNewPrivileges });
      spec.root.readonly = true;
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
        syscalls: [
          { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
          {
            names: ['personality'],
            action: 'SCMP_ACT_ERRNO',
            args: [{ index: 0, value: 4294967295, op: 'SCMP_CMP_EQ' }],
          },
        ],
      };
    },
  })),
  {
    name: '/dev of the host, bound',
    patch: spec => {
      spec.process.args = probe;
      spec.mounts = [
        ...spec.mounts.filter(({ destination }) => !destination.startsWith('/dev')),
        { destination: '/dev', type: 'bind', source: '/dev', options: ['rbind', 'rslave', 'ro'] },
      ];
    },
  },
];

for (const { name, patch, flags = [], permitted: more = [], requires = [] } of cases) {
  const work = (t: TestContext): void => {
    const directory = makeDirectory(t);
    const bundle = makeBundle(t, {
      patch: spec => {
        patch(spec, directory);
        return undefined;
      },
    });
    compare(t, { bundle, flags }, [...permitted, ...more]);
  };
  differential(name, work, requires);
}

/** Writes a line that says where and as what it runs; the state on stdin tells the status. */
const hookScript = `state=$(cat)
status=$(echo "$state" | sed -n 's/.*"status": *"\\([a-z]*\\)".*/\\1/p')
id=$(echo "$state" | sed -n 's/.*"id": *"\\([^"]*\\)".*/\\1/p')
bundle=$(echo "$state" | sed -n 's/.*"bundle": *"\\([^"]*\\)".*/\\1/p')
for ns in mnt pid uts net; do
  echo "$4" | grep -qF "$(readlink /proc/self/ns/$ns)" && places="$places $ns:host" || places="$places $ns:own"
done
echo "$1 id=$id status=$status bundle=$bundle cwd=$(pwd) args=$#$3 FOO=$FOO FROM_CONFIG=$FROM_CONFIG HOME=$HOME$places" >> "$2/log"`;

differential('hooks: order, place, environment, state', t => {
  const directory = makeDirectory(t);
  const names = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];
  const hostNamespaces = ['mnt', 'pid', 'uts', 'net']
    .map(ns => readlinkSync(`/proc/self/ns/${ns}`))
    .join(' ');
  const bundle = makeBundle(t, {
    process: { env: ['PATH=/bin', 'FROM_CONFIG=yes'], cwd: '/tmp' },
    patch: spec => {
      spec.mounts.push({ destination: '/mnt', type: 'bind', source: directory, options: ['bind'] });
      spec.hooks = Object.fromEntries(
        names.map(name => {
          const where = name === 'startContainer' ? '/mnt' : directory;
          const args = ['sh', '-c', hookScript, 'sh', name, where, '', hostNamespaces];
          const first = { path: '/bin/sh', args, env: ['PATH=/bin:/usr/bin', 'FOO=bar'], timeout: 20 };
          // Without env: none at all, but the container's for startContainer.
          return [name, [first, { path: '/bin/sh', args }]];
        }),
      );
      return undefined;
    },
  });
  const logs = (['runc', 'nrunc'] as const).map(runtime => {
    writeFileSync(join(directory, 'log'), '');
    run(runtime, { bundle, id: 'hooks', root: makeStateRoot(t) });
    return readFileSync(join(directory, 'log'), 'utf8').trim().split('\n');
  });
  const [theirs = [], ours = []] = logs;
  assert.equal(theirs.length, 12);
  // What is different on purpose, in runc's lines: a hook without env gets none, as the specification has it, and not
  // what runc's process happens to have (a host program with the container's LD_PRELOAD would be a way out); poststart
  // comes after the program has been started, not when runc 1.1 has created the container.
  const inherited = (line: string) =>
    line
      .replace(`HOME=${process.env.HOME ?? ''} `, 'HOME= ')
      .replace(/^(createContainer .*FROM_CONFIG=)yes/, '$1')
      // A host program must not start in the image's directory: relative paths would be the image's (CVE-2025-23266).
      .replace(/^(createContainer .*cwd=)\S+/, '$1/')
      .replace(/^(poststart .*status=)created/, '$1running');
  const inOrder = (log: string[]) =>
    names.flatMap(name => log.filter(line => line.startsWith(`${name} `)).map(inherited));
  assert.deepEqual(ours, inOrder(theirs));
});

differential('the library in this process', async t => {
  const bundle = specBundle(t, 'runc', false);
  const id = containerId('diff');
  const theirs = parseProbe(run('runc', { bundle, id, root: makeStateRoot(t) }).stdout);
  const config = await loadConfig(bundle);
  assert.ok(config.process !== undefined);
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(id, config);
  const process = new Process({ ...config.process, stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
  try {
    await container.run(process);
    const [output, errors] = await Promise.all([text(process.stdout), text(process.stderr)]);
    assert.deepEqual(await process.wait(), { kind: 'exited', code: 0 }, errors);
    assert.deepEqual(differences(theirs, parseProbe(output), permitted), []);
  } finally {
    await container.destroy({ force: true });
  }
});

async function text(stream: Readable | undefined): Promise<string> {
  let all = '';
  for await (const chunk of stream ?? []) all += String(chunk);
  return all;
}
