import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ResctrlGroup, resctrlFeatures, resctrlRoot } from '../../../lib/cgroups/resctrl.ts';
import { schemaConflict, schemataOf } from '../../../lib/cgroups/resctrl-schema.ts';
import type { FileOperation } from '../../../lib/native/binding.ts';
import { test } from '../../harness/test.ts';

test('the lines of schemata: a MB line gives way, own lines come last, nothing is no write', () => {
  assert.equal(schemataOf({ closID: 'x', enableMonitoring: true }), undefined);
  assert.equal(schemataOf({ l3CacheSchema: '  ' }), undefined);
  assert.equal(schemataOf({ l3CacheSchema: 'L3:0=f\nMB:0=10' }), 'L3:0=f\nMB:0=10\n');
  assert.equal(
    schemataOf({
      l3CacheSchema: 'L3CODE:0=f\nMB:0=10\nL3DATA:0=1',
      memBwSchema: 'MB:0=20',
      schemata: ['L2:0=3'],
    }),
    'L3CODE:0=f\nL3DATA:0=1\nMB:0=20\nL2:0=3\n',
  );
});

test('a class is compared as the kernel writes it: padded, in its own order, with more than was asked', () => {
  const present = '    L3:0=00ff;1=0001\n    MB:0= 100;1=  50\n';
  assert.equal(schemaConflict('L3:1=1;0=FF\nMB:1=50\n', present), undefined);
  assert.equal(schemaConflict('L3:0=fe', present), 'L3:0=fe');
  assert.equal(schemaConflict('L3:2=1', present), 'L3:2=1');
  assert.equal(schemaConflict('L2:0=1', present), 'L2:0=1');
  assert.equal(schemaConflict('L3:0=0', 'L3:0=000'), undefined);
});

test('where resctrl is mounted', () => {
  const row = '36 25 0:32 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw';
  assert.equal(resctrlRoot(`30 25 0:3 / /proc rw - proc proc rw\n${row}\n`), '/sys/fs/resctrl');
  assert.equal(resctrlRoot('30 25 0:3 / /proc rw - proc proc rw\n'), undefined);
});

/** What the kernel does: a new group has its files at once, and takes them along. */
function carryOut(operations: readonly FileOperation[]): void {
  for (const operation of operations) {
    if (operation.op === 'mkdir') {
      mkdirSync(operation.path);
      mkdirSync(join(operation.path, 'mon_groups'));
      for (const name of ['tasks', 'schemata']) writeFileSync(join(operation.path, name), '');
    } else if (operation.op === 'write') writeFileSync(operation.path, operation.data, { flag: 'r+' });
    else assert.fail(operation.op);
  }
}

function empty(directory: string): void {
  for (const name of ['tasks', 'schemata']) rmSync(join(directory, name), { force: true });
  if (existsSync(join(directory, 'mon_groups'))) rmdirSync(join(directory, 'mon_groups'));
}

test('a group of its own is made, filled, and goes with the container; a shared one stays', async t => {
  const root = mkdtempSync(join(tmpdir(), 'libcontainer-test-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const name of ['info/L3', 'info/MB', 'info/L3_MON']) mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'info/L3_MON/mon_features'), 'llc_occupancy\n');
  assert.deepEqual(resctrlFeatures(root), { cache: true, bandwidth: true, monitors: ['llc_occupancy'] });

  const own = new ResctrlGroup(root, 'box', { l3CacheSchema: 'L3:0=f', enableMonitoring: true });
  assert.deepEqual(own.record(), {
    intel_rdt_path: join(root, 'box'),
    intel_rdt_mon_path: join(root, 'box/mon_groups/box'),
    intel_rdt_made: true,
  });
  const start = own.prepareStart();
  carryOut(start.operations);
  assert.equal(readFileSync(join(root, 'box/schemata'), 'utf8'), 'L3:0=f\n');
  assert.deepEqual(start.joinFiles, [join(root, 'box/tasks'), join(root, 'box/mon_groups/box/tasks')]);
  writeFileSync(join(root, 'box/tasks'), '77\n');
  assert.throws(() => own.prepareStart(), { code: 'ERR_CGROUP_NOT_EMPTY' });
  const loaded = new ResctrlGroup(root, 'box', { enableMonitoring: true }, true);
  assert.deepEqual(
    loaded.removal.map(o => o.op !== 'lock' && o.path),
    [join(root, 'box/mon_groups/box'), join(root, 'box')],
  );
  empty(join(root, 'box/mon_groups/box'));
  rmdirSync(join(root, 'box/mon_groups/box'));
  empty(join(root, 'box'));
  await loaded.destroy();
  assert.equal(existsSync(join(root, 'box')), false);
  await loaded.destroy();

  const named = new ResctrlGroup(root, 'one', { closID: 'gold', memBwSchema: 'MB:0=50' });
  assert.equal(named.record().intel_rdt_made, true);
  carryOut(named.prepareStart().operations);
  const second = new ResctrlGroup(root, 'two', { closID: 'gold', memBwSchema: 'MB:0=50' });
  assert.equal(second.record().intel_rdt_made, false);
  assert.deepEqual(second.prepareStart().operations, []);
  assert.deepEqual(second.removal, []);
  writeFileSync(join(root, 'gold/tasks'), '99\n');
  assert.deepEqual(named.removal, [], 'the other container is still in it');
  writeFileSync(join(root, 'gold/tasks'), '');
  assert.equal(named.removal.length, 1);

  const whole = new ResctrlGroup(root, 'three', { closID: '/' });
  assert.equal(whole.record().intel_rdt_made, false);
  assert.deepEqual(whole.removal, []);
  for (const id of ['info', 'mon_data'])
    assert.throws(() => new ResctrlGroup(root, id, {}), { code: 'ERR_UNSUPPORTED' });
});

test('no free class: the hint says how many there are', t => {
  const root = mkdtempSync(join(tmpdir(), 'libcontainer-test-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'info/L3'), { recursive: true });
  writeFileSync(join(root, 'info/L3/num_closids'), '4\n');
  const start = new ResctrlGroup(root, 'box', { l3CacheSchema: 'L3:0=f' }).prepareStart();
  const error = start.failure(0, Object.assign(new Error('mkdir'), { code: 'ENOSPC' }));
  assert.equal(error.hint, 'no class of service is free; this machine has 4');
});
