/** Namespaces joined by path, none of the mount kind, and what follows for names and propagation. namespaces(7). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import {
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  rootfs,
  type SpecDocument,
} from '../harness/bundle.ts';
import { eventually, text, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';
import { namespaceHolder } from './namespace-holder.ts';

const kinds = [
  ['uts', 'uts'],
  ['ipc', 'ipc'],
  ['network', 'net'],
  ['mount', 'mnt'],
] as const;

/** With the hostname `joined`. Returns where its namespaces are. */
async function holder(t: TestContext): Promise<string> {
  const options = ['--uts', '--ipc', '--net', '--mount'];
  return `/proc/${await namespaceHolder(t, options, 'hostname joined')}/ns`;
}

test('namespaces by path: the container is in those of another process, and its mounts come in there', {
  proves: ['linux.namespaces[].path'],
  trap: 15,
  requires: ['root', 'file:/usr/bin/unshare'],
}, async t => {
  const directory = await holder(t);
  const on = await fixture(t, {
    patch: spec => {
      delete spec.hostname;
      for (const [type, name] of kinds) {
        const row = spec.linux.namespaces.find(namespace => namespace.type === type) ?? assert.fail(type);
        Object.assign(row, { path: `${directory}/${name}` });
      }
      return undefined;
    },
  });
  const look = `${kinds.map(([, name]) => `readlink /proc/self/ns/${name}`).join('; ')}; hostname; ls -d /bin`;
  const lines = (await on.output(look)).trim().split('\n');
  const theirs = kinds.map(([, name]) => readlinkSync(`${directory}/${name}`));
  assert.deepEqual(lines, [...theirs, 'joined', '/bin']);
});

test('without a mount namespace: chroot, no mount on the host', {
  requires: ['root'],
}, async t => {
  const on = await fixture(t, {
    // Nothing is mounted on its /dev: the nodes are made in the rootfs itself.
    writable: true,
    patch: spec => {
      Object.assign(spec, { hostname: 'box', mounts: [] });
      Object.assign(spec.linux, {
        namespaces: spec.linux.namespaces.filter(({ type }) => type !== 'mount' && type !== 'network'),
        maskedPaths: [],
        readonlyPaths: [],
      });
      return undefined;
    },
  });
  // A lane may have bound the rootfs itself; other runs mount in other places.
  const mounts = () =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(line => line.includes(on.config.rootfs));
  const before = mounts();
  const container = await on.create();
  const process = on.sh('uname -n; [ -x /bin/busybox ] && pwd; read line', { stdin: 'pipe', stdout: 'pipe' });
  await container.run(process);
  assert.equal(readlinkSync(`/proc/${process.pid}/root`), on.config.rootfs);
  assert.deepEqual(mounts(), before);
  // The interfaces are the host's, and none of the container's.
  assert.deepEqual((await container.stats()).interfaces, []);
  process.stdin?.end('\n');
  assert.equal(await text(process.stdout ?? assert.fail()), 'box\n/\n');
  await process.wait();
  await container.destroy();
});

const root = `awk '$5 == "/" || $5 == "/proc" { print $5, $7 }' /proc/self/mountinfo; cat /proc/sys/kernel/domainname`;
for (const noPivotRoot of [false, true])
  test(`rootfsPropagation and domainname hold, ${noPivotRoot ? 'MS_MOVE' : 'pivot_root'}`, {
    proves: ['linux.rootfsPropagation', 'domainname'],
    trap: 11,
    requires: ['root'],
  }, async t => {
    const patch = (spec: SpecDocument): undefined => {
      spec.domainname = 'example.org';
      spec.linux.rootfsPropagation = 'shared';
    };
    const config = await loadConfig(makeBundle(t, { patch }), { noPivotRoot });
    // As long as an ID may be: state directory, lock and cgroups are named by it.
    const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(
      containerId('propagation').padEnd(255, 'x'),
      config,
    );
    try {
      const process = new Process({ ...config.process, args: ['/bin/sh', '-c', root], stdout: 'pipe' });
      await container.run(process);
      const lines = await text(process.stdout ?? assert.fail());
      // A tree that is moved to a shared mount becomes shared as a whole: so it is when the rootfs is not on the mount of /.
      const proc = noPivotRoot ? '(?:-|shared:\\d+)' : '-';
      assert.match(lines, new RegExp(`^/ shared:\\d+\n/proc ${proc}\nexample\\.org\n$`));
      await process.wait();
    } finally {
      await container.destroy({ force: true });
    }
  });

/** What the container's root is, and whether a mount that the host makes below it later is seen there. */
const propagations: readonly (readonly [name: string, tag: RegExp, seen: boolean])[] = [
  ['private', /^$/, false],
  ['rprivate', /^$/, false],
  // Of the mount of / alone, as under runc: the root file system is another one, and got no master by it.
  ['slave', /^$/, false],
  ['rslave', /^master:\d+$/, true],
  // A peer group of the container's own: what the host's one gets stays outside.
  ['shared', /^shared:\d+$/, false],
  ['rshared', /^shared:\d+$/, false],
  ['unbindable', /^unbindable$/, false],
  ['runbindable', /^unbindable$/, false],
];

test('rootfsPropagation: what the host mounts in the root file system later is seen, or is not', {
  requires: ['root'],
  proves: ['linux.rootfsPropagation'],
  trap: 11,
}, async t => {
  const directory = makeDirectory(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'none', directory]);
  t.after(() => execFileSync('umount', ['-l', directory]));
  execFileSync('mount', ['--make-shared', directory]);
  cpSync(rootfs, directory, { recursive: true, verbatimSymlinks: true });
  const later = join(directory, 'mnt');
  for (const [name, tag, seen] of propagations) {
    const on = await fixture(t, {
      patch: spec => {
        spec.root = { path: directory };
        spec.linux.rootfsPropagation = name;
        return undefined;
      },
    });
    const container = await on.create();
    const main = on.sh('cat /proc/self/mountinfo; echo .; read line; grep -c " /mnt " /proc/self/mountinfo', {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'inherit',
    });
    await container.run(main);
    let output = '';
    main.stdout?.on('data', part => {
      output += String(part);
    });
    await eventually('it reads', () => output.endsWith('\n.\n'));
    const own = output.split('\n').findLast(line => line.split(' ')[4] === '/') ?? '';
    assert.match((own.split(' - ')[0] ?? '').split(' ').slice(6).join(','), tag, name);
    execFileSync('mount', ['-t', 'tmpfs', 'none', later]);
    try {
      main.stdin?.end('\n');
      await main.wait();
      assert.ok(output.endsWith(`\n.\n${seen ? '1' : '0'}\n`), `${name}: ${output}`);
    } finally {
      execFileSync('umount', [later]);
    }
    await container.destroy();
  }
});

test('stats() counts the interfaces of the network namespace', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const container = await on.create();
  // Nobody listens there: a packet each way.
  const process = on.sh('nc 127.0.0.1 9 2>/dev/null; echo; read line', { stdin: 'pipe', stdout: 'pipe' });
  await container.run(process);
  await waitFor(process.stdout ?? assert.fail(), 'data');
  const { interfaces } = await container.stats();
  const lo = interfaces.find(({ name }) => name === 'lo') ?? assert.fail();
  assert.ok(
    lo.rxPackets >= 2n && lo.rxBytes > 0n && lo.txBytes === lo.rxBytes,
    JSON.stringify(Number(lo.rxPackets)),
  );
  for await (const stats of container.stats({ intervalMs: 10 })) {
    assert.ok(stats.interfaces.some(({ name }) => name === 'lo'));
    break;
  }
  process.stdin?.end('\n');
  process.stdout?.destroy();
  await process.wait();
  await container.destroy();
});
