import assert from 'node:assert/strict';
import { parseFlat, parsePids, parseSingle } from '../../../lib/cgroups/file.ts';
import { containerDirectory, type Layout, parseLayout, pathComponents } from '../../../lib/cgroups/layout.ts';
import { loadCgroups, newCgroups } from '../../../lib/cgroups/open.ts';
import { parseBlkio, parseIoStat, parsePsi, parseRdma } from '../../../lib/cgroups/stats-parse.ts';
import { CgroupError } from '../../../lib/errors.ts';
import type { Binding } from '../../../lib/native/binding.ts';
import { test } from '../../harness/test.ts';

const comounted = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
50 23 0:34 /x /mnt/a\\040b rw - cgroup cgroup rw,freezer
`;
const own = '4:cpu,cpuacct:/daemon\n3:devices:/\n2:name=systemd:/d\n0::/daemon.scope/x\n';
const unified = '41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n';
const pure2: Layout = {
  kind: 'v2',
  v1: [],
  v2: { controllers: [], mountPoint: '/sys/fs/cgroup', root: '/' },
  own: new Map([['', '/user.slice/shell.scope']]),
};
// The constructors only keep it.
const binding = {} as Binding;

const refused = (code: string) => (error: unknown) => error instanceof CgroupError && error.code === code;

test('mountinfo tells the layout, comounted controllers and named hierarchies', () => {
  const v1 = parseLayout(comounted, own);
  assert.equal(v1.kind, 'v1');
  assert.deepEqual(
    v1.v1.map(h => h.controllers),
    [['cpu', 'cpuacct'], ['devices'], ['freezer'], ['cpuset'], ['name=systemd']],
  );
  assert.equal(v1.v1[2]?.mountPoint, '/sys/fs/cgroup/freezer', 'the one under /sys/fs/cgroup wins');
  assert.equal(v1.own.get('cpuacct'), '/daemon');
  assert.equal(parseLayout(comounted + unified, own).kind, 'hybrid');
  assert.equal(parseLayout(unified, own).kind, 'v2');
  assert.equal(
    parseLayout('50 23 0:34 /x /mnt/a\\040b rw - cgroup cgroup rw,freezer\n', '').v1[0]?.mountPoint,
    '/mnt/a b',
  );
  assert.throws(
    () => parseLayout('1 2 0:1 / / rw - ext4 /dev/x rw\nnonsense - cgroup\n', own),
    refused('ERR_CGROUP_LAYOUT'),
  );
});

test('absolute paths hang below the mount, relative ones as in runc', () => {
  const v1 = parseLayout(comounted, own);
  const [cpu] = v1.v1;
  assert.ok(cpu !== undefined && pure2.v2 !== undefined);
  assert.equal(containerDirectory(v1, cpu, '/a/b'), '/sys/fs/cgroup/cpu,cpuacct/a/b');
  assert.equal(containerDirectory(v1, cpu, 'a'), '/sys/fs/cgroup/cpu,cpuacct/daemon/a');
  assert.equal(containerDirectory(pure2, pure2.v2, 'a'), '/sys/fs/cgroup/user.slice/a');
  assert.equal(containerDirectory(pure2, pure2.v2, '/a'), '/sys/fs/cgroup/a');
  for (const path of ['../x', '/a/../../b', '/a/..', 'a\0b', 'a\nb'])
    assert.throws(() => containerDirectory(v1, cpu, path), refused('ERR_CGROUP'), path);
  assert.throws(() => containerDirectory(v1, cpu, '/'), refused('ERR_CGROUP_NOT_EMPTY'));
  assert.deepEqual(pathComponents('/a//./b/', 'x'), ['a', 'b']);
});

test('a container without cgroupsPath lives in /<id>; links for comounted controllers', () => {
  const host = parseLayout(comounted, own);
  const manager = newCgroups(binding, 'box', { resources: {}, systemdCgroup: false }, host);
  assert.equal(manager.paths.cpuacct, '/sys/fs/cgroup/cpu,cpuacct/box');
  assert.deepEqual(manager.mountRows[0], {
    name: 'cpu,cpuacct',
    path: '/sys/fs/cgroup/cpu,cpuacct/box',
    type: 'cgroup',
    data: 'cpu,cpuacct',
    links: ['cpu', 'cpuacct'],
  });
  assert.equal(manager.mountRows.find(r => r.name === 'systemd')?.data, 'none,name=systemd');
});

test('a state file cannot aim destroy() outside of the cgroup mounts', () => {
  for (const path of ['/etc', '/sys/fs/cgroup', '/sys/fs/cgroup/../../../etc', '/sys/fs/cgroupx/a'])
    assert.throws(() => loadCgroups(binding, { '': path }, pure2), refused('ERR_CGROUP'), path);
  assert.equal(loadCgroups(binding, { '': '/sys/fs/cgroup/a' }, pure2).layout, 'v2');
});

test('numbers and flat files: odd content is 0 or left out', () => {
  assert.deepEqual(
    [...parseFlat('a 1\nb\nc x\nd 18446744073709551615\n e 2 3\n-')],
    [
      ['a', 1n],
      ['d', 18446744073709551615n],
    ],
  );
  assert.deepEqual(
    ['', 'max\n', '12\n', '-1', 'x', undefined].map(t => parseSingle(t)),
    [0n, 18446744073709551615n, 12n, -1n, 0n, 0n],
  );
  assert.deepEqual(parsePids('1\n0\n\nx\n42\n'), [1, 42]);
});

test('pressure files, also of older kernels', () => {
  const psi = parsePsi('some avg10=1.50 avg60=0.10 avg300=0.00 total=123\n');
  assert.deepEqual(psi?.some, { avg10: 1.5, avg60: 0.1, avg300: 0, total: 123n });
  assert.equal(psi?.full.total, 0n);
  for (const odd of ['', 'some', 'full total=1', 'some avg10=x total=', undefined])
    assert.equal(parsePsi(odd), undefined);
});

test('block device counters of both layouts', () => {
  assert.deepEqual(parseBlkio('8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n8:x Read 1\n'), [
    { major: 8, minor: 0, op: 'Read', value: 4096n },
    { major: 8, minor: 0, op: 'Total', value: 4096n },
  ]);
  const { bytes, operations } = parseIoStat(
    '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n254:1\n(unknown) rbytes=1\n8:1 rbytes=x\n',
  );
  assert.deepEqual(
    bytes.map(e => `${e.op} ${e.value}`),
    ['Read 1', 'Write 2', 'Discard 5'],
  );
  assert.deepEqual(
    operations.map(e => `${e.op} ${e.value}`),
    ['Read 3', 'Write 4', 'Discard 6'],
  );
});

test('rdma counters', () => {
  assert.deepEqual(parseRdma('mlx4_0 hca_handle=2 hca_object=max\nodd\n'), {
    mlx4_0: { hcaHandles: 2, hcaObjects: 4294967295 },
  });
});
