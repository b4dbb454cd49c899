/** What cpu limits do to programs that want the same processor. */
import assert from 'node:assert/strict';
import { newCgroups } from '../../lib/cgroups/open.ts';
import { binding } from '../../lib/native/binding.ts';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { type CgroupBox, cgroupBox, memberOf, runIn, uniqueId } from './cgroup-box.ts';
import { onV2 } from './limits-random.ts';

const used = async (box: CgroupBox): Promise<bigint> => (await box.manager.stats()).cpu.usage.totalNs;

test('two that want one processor get it in the ratio of their shares, and one that is idle gets what is left', {
  proves: ['linux.resources.cpu.shares', 'linux.resources.cpu.idle', 'linux.resources.cpu.cpus'],
  requires: ['root', 'controller:cpu', 'controller:cpuset', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  const place = { cpus: '0', mems: '0' };
  const [large, small] = [
    await cgroupBox(t, { cpu: { ...place, shares: 8192 } }),
    await cgroupBox(t, { cpu: { ...place, shares: 512 } }),
  ];
  // 1:16 by shares, about 1:13 by the weights of v2; a third of that leaves room for a coarse scheduler.
  for (const box of [large, small]) box.run('burn', '1000000');
  const start = async () => [await used(large), await used(small)] as const;
  /** Who is ahead by that factor, over a time in which it used 300 ms. */
  const ahead = async (factor: bigint): Promise<void> => {
    const [first, second] = await start();
    await eventually(`${factor} times as much for one`, async () => {
      const [more, less] = [(await used(large)) - first, (await used(small)) - second];
      return more > 300_000_000n && more > factor * less;
    });
  };
  await ahead(4n);
  await small.manager.set({ cpu: { shares: 8192 } }, {});
  const equal = await start();
  await eventually('about the same for both', async () => {
    const [one, two] = [(await used(large)) - equal[0], (await used(small)) - equal[1]];
    return one > 200_000_000n && two > 200_000_000n && one < 2n * two && two < 2n * one;
  });
  await small.manager.set({ cpu: { idle: 1 } }, {});
  assert.equal(small.read('cpu', 'cpu.idle'), '1');
  await ahead(8n);
  // First the one that is in the way: even to die the idle one needs the processor.
  await large.manager.killAll(9);
});

test('cpu.burst: what was not used in one period may be used in another', {
  proves: ['linux.resources.cpu.burst'],
  requires: ['root', 'controller:cpu', 'probe'],
  timeoutMs: 60_000,
}, async t => {
  const box = await cgroupBox(t, { cpu: { quota: 20_000, period: 100_000, burst: 20_000 } });
  const bursts = (): number => Number(/^nr_bursts (\d+)$/m.exec(box.read('cpu', 'cpu.stat'))?.[1] ?? 0);
  assert.equal(box.read('cpu', onV2 ? 'cpu.max.burst' : 'cpu.cfs_burst_us'), '20000');
  assert.equal(bursts(), 0);
  const program =
    'while :; do sleep 0.4; /bin/true; x=0; while [ $x -lt 20000 ]; do x=$((x + 1)); done; done';
  memberOf(box.joinFiles, ['/bin/sh', '-c', program]);
  await eventually('a period used more than the quota of one', () => bursts() > 0, 20_000);
});

test('a leftover cgroup that another process removes while a start is planned is made anew, with processors', {
  requires: ['root', 'controller:cpuset', 'cgroup-v1', 'probe'],
}, async t => {
  const cgroupsPath = `/${uniqueId()}`;
  const leftover = await cgroupBox(t, {}, cgroupsPath);
  const manager = newCgroups(binding(), 'x', { cgroupsPath, resources: {}, systemdCgroup: false });
  const start = await manager.prepareStart({});
  await leftover.manager.destroy();
  await binding().files(start.operations, true);
  assert.notEqual(leftover.read('cpuset', 'cpuset.cpus'), '');
  const member = runIn(start.joinFiles, 'sleep');
  assert.equal(await member.line(), 'ready');
});
