/**
 * Random resource sets under runc and under us: the kernel shows the same values, or the difference stands in the table
 * below with its reason. LIBCONTAINER_SETS (default 24, in a slow machine 4) sets by update and a twelfth of it by create;
 * LIBCONTAINER_SEED. All of them: LIBCONTAINER_SETS=500 LIBCONTAINER_TEST_MINUTES=60.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { merge } from '../../lib/cli/commands/update.ts';
import { type Container, LinuxFactory, loadConfig, Process, resourcesFromJson } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { slowness } from '../harness/deadline.ts';
import { command, differential } from '../harness/runtimes.ts';
import type { TestContext } from '../harness/test.ts';
import { createSet, generator, onV2, type SpecSet, updateSet } from './limits-random.ts';
import './warm.ts';

const sets = Number(process.env.LIBCONTAINER_SETS ?? (slowness === 1 ? '24' : '4'));
/** A second or so for each of a full run, by update; a create takes some. */
const timeoutMs = Math.max(60_000, sets * 3000);
const seed = Number(process.env.LIBCONTAINER_SEED ?? '20261121');

const files: { readonly [controller: string]: readonly string[] } = onV2
  ? {
      '': 'memory.max memory.swap.max memory.low memory.high cpu.max cpu.weight cpu.max.burst cpu.idle cpuset.cpus cpuset.mems pids.max io.max io.weight io.bfq.weight hugetlb.2MB.max hugetlb.2MB.rsvd.max'.split(
        ' ',
      ),
    }
  : {
      memory:
        'memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness memory.oom_control'.split(
          ' ',
        ),
      cpu: 'cpu.shares cpu.cfs_quota_us cpu.cfs_period_us cpu.cfs_burst_us cpu.idle'.split(' '),
      cpuset: ['cpuset.cpus', 'cpuset.mems'],
      pids: ['pids.max'],
      blkio:
        'throttle.read_bps_device throttle.write_bps_device throttle.read_iops_device throttle.write_iops_device bfq.weight weight'
          .split(' ')
          .map(name => `blkio.${name}`),
      devices: ['devices.list'],
    };

interface Difference {
  readonly file: string;
  readonly why: string;
  /** Whether these two are this difference. */
  readonly is: (theirs: string, ours: string, set: SpecSet) => boolean;
}

/** The curve before runc 1.4: linear from 2 … 262144 to 1 … 10000, which puts 1024 at 39. */
const formerWeight = (shares: number): number => 1 + Math.trunc(((shares - 2) * 9999) / 262142);

const permitted: readonly Difference[] = [
  {
    file: 'cpu.weight',
    why: 'runc 1.1.5 has the former curve; from 1.4 on runc has ours (cpuWeight)',
    is: (theirs, _, set) => Number(theirs) === formerWeight(Number(lastShares(set))),
  },
  {
    file: 'hugetlb.2MB.rsvd.max',
    why: 'runc limits reservations too since 1.2',
    is: theirs => theirs === 'max',
  },
];

let shares: number | undefined;
/** Of the last set that named some: the file keeps them. */
const lastShares = (set: SpecSet): number | string => set.cpu?.shares ?? shares ?? 0;

function values(paths: { readonly [controller: string]: string }): Map<string, string> {
  const found = new Map<string, string>();
  for (const [controller, names] of Object.entries(files))
    for (const name of names) {
      const directory = paths[controller];
      if (directory === undefined) continue;
      try {
        // under_oom and oom_kill are no limits; rules may stand in any order.
        const text = readFileSync(join(directory, name), 'utf8').replace(/\n(under_oom|oom_kill) .*/g, '');
        found.set(name, text.trim().split('\n').sort().join('\n'));
      } catch (error) {
        if (
          !(
            error instanceof Error &&
            'code' in error &&
            ['ENOENT', 'EOPNOTSUPP'].includes(String(error.code))
          )
        )
          throw error;
      }
    }
  return found;
}

const used = new Map<string, number>();

function compare(theirs: Map<string, string>, ours: Map<string, string>, set: SpecSet, what: string): void {
  for (const [file, value] of ours) {
    const other = theirs.get(file) ?? '(absent)';
    if (other === value) continue;
    const known = permitted.find(row => row.file === file && row.is(other, value, set));
    if (known !== undefined) used.set(known.file, (used.get(known.file) ?? 0) + 1);
    else
      assert.fail(
        `${what}: ${file}: runc ${JSON.stringify(other)}, ours ${JSON.stringify(value)}: ${JSON.stringify(set)}`,
      );
  }
  assert.ok(ours.size > 5, 'files of limits were found');
}

interface Pair {
  readonly ours: Container;
  readonly runcRoot: string;
  readonly runcId: string;
  readonly theirPaths: { readonly [controller: string]: string };
  readonly ourPaths: { readonly [controller: string]: string };
}

/** One container of each, waiting, with the same limits. */
async function createBoth(t: TestContext, resources: object): Promise<Pair> {
  const [runcRoot, root] = [makeStateRoot(t), makeStateRoot(t)];
  const [runcId, id] = [containerId('theirs'), containerId('ours')];
  const bundleFor = (name: string) =>
    makeBundle(t, {
      process: { args: ['/bin/probe', 'sleep'] },
      patch: spec => {
        Object.assign(spec.linux.resources, resources);
        spec.linux.cgroupsPath = `/lctest-${name}`;
        return spec;
      },
    });
  // Their pipe would hold the reader until init ends.
  let state: { readonly cgroup_paths: { readonly [controller: string]: string } } | undefined;
  const made = spawnSync('runc', ['--root', runcRoot, 'create', '--bundle', bundleFor(runcId), runcId], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  t.after(() => {
    command('runc', ['--root', runcRoot, 'delete', '--force', runcId]);
    // runc 1.1.5 gives up after some tries on a slow machine.
    for (const directory of Object.values(state?.cgroup_paths ?? {}))
      if (existsSync(directory)) rmdirSync(directory);
  });
  assert.equal(made.status, 0, `runc refuses ${JSON.stringify(resources)}`);
  const config = await loadConfig(bundleFor(id));
  const ours = await new LinuxFactory({ root }).create(id, config);
  t.after(() => ours.destroy({ force: true }));
  await ours.start(new Process({ args: ['/bin/true'], ...config.process }));
  const theirs: { readonly cgroup_paths: { readonly [controller: string]: string } } = JSON.parse(
    readFileSync(join(runcRoot, runcId, 'state.json'), 'utf8'),
  );
  state = theirs;
  return {
    ours,
    runcRoot,
    runcId,
    theirPaths: theirs.cgroup_paths,
    ourPaths: (await ours.state()).cgroup_paths,
  };
}

differential(
  'limits by update show the same values',
  async t => {
    shares = undefined;
    const pair = await createBoth(t, {});
    const g = generator(seed);
    for (let i = 0; i < sets; i++) {
      const set = updateSet(g);
      const text = JSON.stringify(set);
      const theirs = spawnSync('runc', ['--root', pair.runcRoot, 'update', '-r', '-', pair.runcId], {
        input: text,
        encoding: 'utf8',
      });
      assert.equal(theirs.status, 0, `set ${i} of seed ${seed}: runc refuses ${text}: ${theirs.stderr}`);
      await pair.ours.set(merge(pair.ours.config.resources, await resourcesFromJson(text, 'set')), {
        skipDevices: true,
      });
      if (typeof set.cpu?.shares === 'number') shares = set.cpu.shares;
      compare(values(pair.theirPaths), values(pair.ourPaths), set, `update ${i} of seed ${seed}`);
    }
    t.diagnostic(`${sets} sets by update; known differences: ${JSON.stringify([...used])}`);
  },
  [],
  timeoutMs,
);

differential(
  'limits by create show the same values',
  async t => {
    const g = generator(seed + 1);
    const count = Math.max(1, Math.trunc(sets / 12));
    for (let i = 0; i < count; i++) {
      const set = createSet(g);
      shares = undefined;
      const pair = await createBoth(t, set);
      compare(values(pair.theirPaths), values(pair.ourPaths), set, `create ${i} of seed ${seed}`);
      await pair.ours.destroy({ force: true });
      command('runc', ['--root', pair.runcRoot, 'delete', '--force', pair.runcId]);
    }
    t.diagnostic(`${count} sets by create; known differences: ${JSON.stringify([...used])}`);
  },
  [],
  timeoutMs,
);
