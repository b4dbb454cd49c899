/**
 * linux.intelRdt against a directory that stands in for the resctrl file system: no machine of ours has one. What the
 * kernel does by itself there (files that appear with a group, tasks that move) is done by the test, and is not proven.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CgroupError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import './fixture.ts';
import { containerId, makeBundle, makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import type { TestContext } from '../harness/test.ts';
import { test } from '../harness/test.ts';

function standIn(t: TestContext): string {
  const root = makeDirectory(t);
  for (const name of ['L3', 'MB', 'L3_MON']) mkdirSync(join(root, 'info', name), { recursive: true });
  writeFileSync(join(root, 'info/L3_MON/mon_features'), 'llc_occupancy\nmbm_total_bytes\n');
  writeFileSync(join(root, 'info/L3/num_closids'), '16\n');
  writeFileSync(join(root, 'info/last_cmd_status'), 'Mask out of range\n');
  return root;
}

function group(directory: string, schemata: string): void {
  mkdirSync(join(directory, 'mon_groups'), { recursive: true });
  writeFileSync(join(directory, 'tasks'), '');
  writeFileSync(join(directory, 'schemata'), schemata);
}

async function started(t: TestContext, resctrlRoot: string, intelRdt: object, id = containerId()) {
  const root = makeStateRoot(t);
  const bundle = makeBundle(t, {
    process: { args: ['/bin/probe', 'sleep'] },
    patch: spec => {
      spec.linux.intelRdt = intelRdt;
      return spec;
    },
  });
  const config = await loadConfig(bundle);
  const factory = new LinuxFactory({ root, resctrlRoot });
  const container = await factory.create(id, config);
  t.after(() => factory.destroy(id, { force: true }));
  const process = new Process({ args: ['/bin/true'], ...config.process });
  return { root, factory, container, process, config };
}

const read = (...names: string[]): string => readFileSync(join(...names), 'utf8');

test('a class of service that is there: joined by init and exec, watched, changed, left as it is', {
  trap: 24,
  proves: [
    'linux.intelRdt.closID',
    'linux.intelRdt.l3CacheSchema',
    'linux.intelRdt.memBwSchema',
    'linux.intelRdt.enableMonitoring',
    'linux.intelRdt.enableCMT',
    'linux.intelRdt.enableMBM',
  ],
  requires: ['root', 'probe'],
}, async t => {
  const resctrl = standIn(t);
  const id = containerId();
  const gold = join(resctrl, 'gold');
  group(gold, '    L3:0=000ff;1=000f\n    MB:0= 100;1=  50\n');
  mkdirSync(join(gold, 'mon_groups', id));
  writeFileSync(join(gold, 'mon_groups', id, 'tasks'), '');
  const intelRdt = {
    closID: 'gold',
    l3CacheSchema: 'L3:0=ff;1=f\nMB:0=10',
    memBwSchema: 'MB:0=100',
    enableMonitoring: true,
    enableCMT: true,
    enableMBM: true,
  };
  const on = await started(t, resctrl, intelRdt, id);
  await on.container.run(on.process);
  assert.equal(read(gold, 'tasks'), '0');
  assert.equal(read(gold, 'mon_groups', id, 'tasks'), '0');
  assert.match(read(gold, 'schemata'), /^ {4}L3:0=000ff/, 'an existing group is compared, not written');
  const state: { [key: string]: unknown } = JSON.parse(read(on.container.directory, 'state.json'));
  assert.equal(state.intel_rdt_path, gold);
  assert.equal(state.intel_rdt_mon_path, join(gold, 'mon_groups', id));

  writeFileSync(join(gold, 'tasks'), '');
  const loaded = await on.factory.load(id);
  const process = new Process({ ...on.config.process, args: ['/bin/probe', 'exit'] });
  await loaded.start(process);
  await process.wait();
  assert.equal(read(gold, 'tasks'), '0');

  const domain = join(gold, 'mon_groups', id, 'mon_data/mon_L3_00');
  mkdirSync(domain, { recursive: true });
  writeFileSync(join(domain, 'llc_occupancy'), '4096\n');
  writeFileSync(join(domain, 'mbm_total_bytes'), '77\n');
  const { intelRdt: counted } = await loaded.stats();
  assert.deepEqual(counted?.cacheUsedBytes, [4096n]);
  assert.deepEqual(counted?.bandwidthUsed, [{ totalBytes: 77n, localBytes: 0n }]);
  assert.deepEqual(counted?.cache?.schema, { root: '', own: 'L3:0=000ff;1=000f' });
  assert.equal(counted?.cache?.closids, 16n);
  rmSync(join(gold, 'mon_groups', id, 'mon_data'), { recursive: true });

  await loaded.set(loaded.config.resources, { intelRdt: { l3CacheSchema: 'L3:0=1' }, skipDevices: true });
  // A file that stands in keeps what is behind the written bytes.
  assert.match(read(gold, 'schemata'), /^L3:0=1\nMB:0=100\n/);
  assert.equal((await on.factory.load(id)).config.intelRdt?.l3CacheSchema, 'L3:0=1');

  // In the kernel's file system a group goes with its files.
  unlinkSync(join(gold, 'mon_groups', id, 'tasks'));
  await loaded.destroy({ force: true });
  assert.deepEqual(readdirSync(join(gold, 'mon_groups')), []);
  assert.ok(existsSync(gold), 'somebody else has made it');
});

test('what the machine or the class does not offer is refused by name, and nothing is left', {
  proves: ['linux.intelRdt'],
  requires: ['root', 'probe'],
}, async t => {
  const resctrl = standIn(t);
  group(join(resctrl, 'gold'), 'L3:0=ff\n');
  const refused = async (intelRdt: object, code: string, words: RegExp): Promise<CgroupError> => {
    const on = await started(t, resctrl, intelRdt);
    const error: unknown = await on.container.run(on.process).then(
      () => assert.fail('it started'),
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof CgroupError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    assert.deepEqual(await on.factory.list(), []);
    return error;
  };
  await refused({ closID: 'absent' }, 'ERR_UNSUPPORTED', /intelRdt\.closID: .*absent does not exist/);
  await refused({ closID: 'gold', l3CacheSchema: 'L3:0=f0' }, 'ERR_CGROUP', /differs from L3:0=f0/);
  await refused(
    { closID: 'info', l3CacheSchema: 'L3:0=f' },
    'ERR_UNSUPPORTED',
    /no group can be called info/,
  ).catch(
    // Known before a start: create() itself refuses it.
    (error: unknown) => assert.match(String(error), /no group can be called info/),
  );
  // The directory stands in without the file that the kernel makes in a new group.
  const error = await refused(
    { l3CacheSchema: 'L3:0=f' },
    'ERR_CGROUP',
    /intelRdt: .*schemata ← "L3:0=f\\n"/,
  );
  assert.equal(error.hint, 'the kernel says: Mask out of range');
  assert.deepEqual(readdirSync(resctrl).sort(), ['gold', 'info']);

  const plain = await started(t, join(resctrl, 'gold'), { closID: '/', memBwSchema: 'MB:0=50' });
  await assert.rejects(plain.container.run(plain.process), /memBwSchema: Intel RDT\/MBA is not enabled/);
  const without = await started(t, join(resctrl, 'gold'), { closID: '/', enableMonitoring: true });
  await assert.rejects(without.container.run(without.process), /this machine has no RDT monitoring/);
});

test('without a resctrl file system the property is refused when the container is made', {
  requires: ['root'],
}, async t => {
  const bundle = makeBundle(t, {
    patch: spec => {
      spec.linux.intelRdt = { closID: 'gold' };
      return spec;
    },
  });
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  if (existsSync('/sys/fs/resctrl/schemata')) t.skip('resctrl is mounted here');
  else
    await assert.rejects(factory.create(containerId(), await loadConfig(bundle)), {
      code: 'ERR_UNSUPPORTED',
      message: /linux\.intelRdt: no resctrl file system is mounted/,
    });
});
