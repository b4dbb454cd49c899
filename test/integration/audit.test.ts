/** The system call audit: init under strace in a dozen configurations, old mount API included. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  type SpecDocument,
} from '../harness/bundle.ts';
import { slowness, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type AuditConfig, audit, traced } from './audit-trace.ts';
import { nruncPath } from './cli-fixture.ts';

const strace = '/usr/bin/strace';
const needs = { requires: ['root', 'lane:host', `file:${strace}`], timeoutMs: 60_000 } as const;

/** Runs a program under strace; gives the trace. */
async function trace(
  t: TestContext,
  words: readonly string[],
  options: readonly string[] = [],
): Promise<string> {
  const file = join(makeDirectory(t), 'trace');
  const all = [
    '-f',
    '-qq',
    '-s',
    '4096',
    '-e',
    `trace=${traced},execve,execveat`,
    ...options,
    '-o',
    file,
    ...words,
  ];
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, ...env } = process.env;
  await new Promise<void>((resolve, reject) => {
    const child = execFile(strace, all, { env, timeout: 50_000 * slowness }, (error, stdout, stderr) =>
      error === null ? resolve() : reject(new Error(`${error.message}\n${stdout}${stderr}`)),
    );
    child.stdin?.end();
  });
  return readFileSync(file, 'utf8');
}

interface Case {
  /** Changes the specification; `volume` is a directory of the host with a file in it. */
  readonly patch?: (spec: SpecDocument, volume: string) => SpecDocument | undefined;
  readonly process?: { readonly [property: string]: unknown };
  readonly plant?: (rootfs: string) => void;
  readonly options?: readonly string[];
  readonly strace?: readonly string[];
  readonly sources?: (volume: string) => readonly string[];
  /** At least so many calls, or the audit has looked at something else. */
  readonly calls: number;
}

const classic = ['open_tree', 'fsopen', 'move_mount', 'mount_setattr'];
const refuse = (errno: string, ...calls: string[]): readonly string[] => [
  '-e',
  `inject=${calls.join(',')}:error=${errno}`,
];
const volumes = (spec: SpecDocument, volume: string): void => {
  spec.mounts.push(
    { destination: '/mnt/volume', source: volume, type: 'bind', options: ['rbind', 'ro', 'rslave'] },
    { destination: '/etc/one/two/file', source: join(volume, 'file'), type: 'bind', options: ['bind'] },
    { destination: '/mnt/volume/nested', source: 'tmpfs', type: 'tmpfs', options: ['size=1m'] },
  );
};
const ofVolumes = (volume: string): readonly string[] => [volume, join(volume, 'file')];

const cases: { readonly [name: string]: Case } = {
  'the default specification': { calls: 80 },
  'volumes, a bound file, nested mounts': {
    patch: volumes as never,
    sources: ofVolumes,
    calls: 90,
  },
  'volumes without the new mount API (ENOSYS)': {
    patch: volumes as never,
    sources: ofVolumes,
    strace: refuse('ENOSYS', ...classic),
    calls: 120,
  },
  'volumes without the new mount API (EPERM)': {
    patch: volumes as never,
    sources: ofVolumes,
    strace: refuse('EPERM', ...classic),
    calls: 120,
  },
  'volumes without mount_setattr (before Linux 5.12)': {
    patch: volumes as never,
    sources: ofVolumes,
    strace: refuse('ENOSYS', 'mount_setattr'),
    calls: 90,
  },
  'devices, made and owned': {
    patch: spec => {
      spec.linux.devices = [
        { path: '/dev/disk/one', type: 'b', major: 7, minor: 0, fileMode: 0o600, uid: 5, gid: 6 },
        { path: '/dev/pipe', type: 'p' },
      ];
      return spec;
    },
    calls: 85,
  },
  'devices where mknod is refused': {
    strace: refuse('EPERM', 'mknodat'),
    sources: () => ['null', 'zero', 'full', 'random', 'urandom', 'tty'].map(name => `/dev/${name}`),
    calls: 90,
  },
  'masked and read-only paths of files, directories and links': {
    plant: rootfs => {
      mkdirSync(join(rootfs, 'etc/secrets'));
      symlinkSync('/etc/secrets', join(rootfs, 'link'));
    },
    patch: spec => {
      spec.linux.maskedPaths = ['/etc/passwd', '/etc/secrets', '/link', '/tmp', '/nowhere/at/all'];
      spec.linux.readonlyPaths = ['/etc', '/proc/sys', '/var'];
      return spec;
    },
    calls: 80,
  },
  'a working directory that is made, a user, HOME from passwd': {
    process: { cwd: '/srv/a/b', user: { uid: 1000, gid: 1000 }, env: ['PATH=/bin'], args: ['true'] },
    calls: 85,
  },
  'tmpcopyup, late read-only mounts, a read-only root': {
    patch: spec => {
      spec.root = { path: 'rootfs', readonly: true };
      spec.mounts.push(
        { destination: '/etc', source: 'tmpfs', type: 'tmpfs', options: ['tmpcopyup', 'ro'] },
        { destination: '/var/tmp', source: 'tmpfs', type: 'tmpfs', options: ['ro'] },
      );
      return spec;
    },
    calls: 100,
  },
  'without pivot_root': { options: ['--no-pivot'], calls: 80 },
  'without a mount namespace': {
    patch: spec => {
      spec.mounts = [];
      spec.linux.namespaces = [{ type: 'pid' }, { type: 'uts' }];
      spec.linux.maskedPaths = [];
      spec.linux.readonlyPaths = [];
      return spec;
    },
    calls: 10,
  },
  'hostile links at every mount point': {
    plant: rootfs => {
      symlinkSync('/tmp', join(rootfs, 'etc/one'));
      symlinkSync('../../../../../../nowhere', join(rootfs, 'mnt/volume'));
    },
    patch: volumes as never,
    sources: ofVolumes,
    calls: 90,
  },
  'hooks of the container': {
    patch: spec => {
      const hook = { path: '/bin/true' };
      spec.hooks = { createContainer: [hook], startContainer: [hook] };
      return spec;
    },
    calls: 80,
  },
};

for (const [name, one] of Object.entries(cases)) {
  test(`audit: ${name}: no path string inside the rootfs`, needs, async t => {
    const volume = makeDirectory(t);
    writeFileSync(join(volume, 'file'), 'volume');
    mkdirSync(join(volume, 'nested'));
    const bundle = makeBundle(t, {
      writable: true,
      ...(one.process === undefined ? {} : { process: one.process }),
      patch: spec => one.patch?.(spec, volume) ?? spec,
    });
    one.plant?.(join(bundle, 'rootfs'));
    const id = containerId('audit');
    const words = ['--root', makeStateRoot(t), 'run', '--bundle', bundle, ...(one.options ?? []), id];
    const lines = await trace(t, [process.execPath, nruncPath, ...words], one.strace);
    check(lines, one, {
      rootfs: join(bundle, 'rootfs'),
      sources: one.sources?.(volume) ?? [],
      cwd: String(one.process?.cwd ?? '/'),
      programs: [
        '/bin/true',
        ...'/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin'.split(' ').map(d => `${d}/true`),
      ],
    });
  });
}

test('audit: a process that enters a container: no path string inside the rootfs', needs, async t => {
  const bundle = makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } });
  const [root, id] = [makeStateRoot(t), containerId('audit')];
  const nrunc = (...words: string[]): string[] => [process.execPath, nruncPath, '--root', root, ...words];
  await quietly(nrunc('run', '--detach', '--bundle', bundle, id));
  try {
    const lines = await trace(t, nrunc('exec', '--cwd', '/home', '--user', '1000', id, '/bin/true'));
    check(lines, { calls: 5 }, { sources: [], cwd: '/home', programs: ['/bin/true'] });
  } finally {
    await quietly(nrunc('delete', '--force', id));
  }
});

/** A detached container keeps what it inherits, so nothing of ours. */
async function quietly([program = '', ...words]: readonly string[]): Promise<void> {
  const child = spawn(program, words, { stdio: 'ignore' });
  assert.deepEqual(await waitFor(child, 'exit'), [0, null]);
}

function check(lines: string, { calls }: { readonly calls: number }, config: AuditConfig): void {
  const result = audit(lines, config);
  assert.deepEqual(result.findings, []);
  assert.ok(result.calls >= calls, `${result.calls} calls were looked at, ${calls} were expected`);
}

test('audit: what a path string looks like is found', () => {
  const config = { rootfs: '/bundle/rootfs', sources: ['/volume'], cwd: '/', programs: ['/bin/true'] };
  const before = [
    '7 execveat(20, "", ["init", "3", "4", "5"], 0x7f /* 0 vars */, AT_EMPTY_PATH) = 0',
    '7 openat(AT_FDCWD, "/bundle/rootfs", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY) = 5',
    '7 openat2(5, "/dev", {flags=O_PATH, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, 24) = 6',
  ];
  const bad = [
    'mkdir("/bundle/rootfs/dev", 0755) = 0',
    'mkdirat(5, "a/b", 0755) = 0',
    'mkdirat(AT_FDCWD, "dev", 0755) = 0',
    'mount("proc", "/bundle/rootfs/proc", "proc", 0, NULL) = 0',
    'mount("/dev/null", "self/fd/5", "", MS_BIND, NULL) = 0',
    'umount2("/bundle/rootfs/x", MNT_DETACH) = 0',
    'openat(5, "dev", O_RDONLY|O_CLOEXEC) = 7',
    'openat(5, "a/b", O_RDONLY|O_NOFOLLOW) = 7',
    'openat(AT_FDCWD, "/bundle/rootfs/dev/null", O_RDWR) = 7',
    'openat2(5, "/dev", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24) = 6',
    'openat2(5, "/dev", {flags=O_PATH, resolve=RESOLVE_NO_MAGICLINKS}, 24) = 6',
    'open_tree(AT_FDCWD, "/bundle/rootfs/dev", OPEN_TREE_CLONE) = 6',
    'move_mount(5, "", AT_FDCWD, "/bundle/rootfs/dev", MOVE_MOUNT_F_EMPTY_PATH) = 0',
    'mknodat(5, "dev/null", S_IFCHR|0666, makedev(0x1, 0x3)) = 0',
    'symlinkat("x", AT_FDCWD, "/bundle/rootfs/x") = 0',
    'symlinkat("x", 5, "a/b") = 0',
    'chown("/bundle/rootfs/x", 0, 0) = 0',
    'fchownat(AT_FDCWD, "/bundle/rootfs/x", 0, 0, 0) = 0',
    'chmod("/bundle/rootfs/x", 0777) = 0',
    'chdir("/bundle/rootfs") = 0',
    'chroot("/bundle/rootfs") = 0',
    'unlinkat(5, "..", 0) = 0',
  ];
  for (const line of bad)
    assert.equal(audit([...before, `7 ${line}`].join('\n'), config).findings.length, 1, line);
  const cut = [
    '7 mkdir("/bundle/rootfs/a" <unfinished ...>',
    '8 chdir("/x") = 0',
    '7 <... mkdir resumed>, 0755) = 0',
  ];
  assert.equal(audit([...before, ...cut].join('\n'), config).findings.length, 1);
  assert.deepEqual(audit(before.join('\n'), config), { calls: 1, findings: [] });
  assert.throws(() => audit(before.slice(0, 2).join('\n'), config), /no opening/);
  assert.throws(() => audit('', config), /no init/);
});
