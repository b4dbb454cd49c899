/** A plan that is taken over from another container of the configuration must be the one that would be made anew. */
import { deepEqual, equal, notDeepEqual } from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import type { CgroupManager } from '../../../lib/cgroups/manager.ts';
import type { Config, ProcessConfig } from '../../../lib/config/config.ts';
import { configFromSpec } from '../../../lib/config/load.ts';
import { CgroupError } from '../../../lib/errors.ts';
import type { Binding } from '../../../lib/native/binding.ts';
import { type StandardPlanRequest, setnsPlan, standardPlan, templateOf } from '../../../lib/parent/plans.ts';
import { encodePlan } from '../../../lib/plan/encode.ts';
import { test } from '../../harness/test.ts';
import { bundle, specWith } from '../config/fixture.ts';

const controllers = ['cpu', 'memory', 'systemd'];

function request(config: Config, containerId: string, names = controllers): StandardPlanRequest {
  const path = (name: string): string => `/sys/fs/cgroup/${name}/${containerId}`;
  const rows = names.map(name => ({ name, path: path(name), type: 'cgroup', data: name, links: [] }));
  return {
    binding: { lastCapability: () => 40 } as Partial<Binding> as Binding,
    containerId,
    config,
    process: config.process as ProcessConfig,
    manager: { layout: 'v1', mountRows: rows } as Partial<CgroupManager> as CgroupManager,
    cgroup: {
      operations: [],
      joinFiles: names.map(name => `${path(name)}/tasks`),
      failure: index => new CgroupError('ERR_CGROUP', { file: String(index) }),
    },
    wait: false,
    preservedFds: 0,
  };
}

async function configs(t: TestContext, changes: { readonly [path: string]: unknown } = {}) {
  const directory = bundle(t);
  const make = () => configFromSpec(specWith({ 'process.terminal': false, ...changes }), directory);
  return [await make(), await make()] as const;
}

const cgroupNamespace = ['mount', 'uts', 'pid', 'cgroup'].map(type => ({ type }));

test('standardPlan() of a second container is what would be made anew, and shares its steps', async t => {
  for (const changes of [{}, { 'linux.namespaces': cgroupNamespace }, { mounts: [] }]) {
    const [config, fresh] = await configs(t, changes);
    const first = standardPlan(request(config, 'first'));
    const second = standardPlan(request(config, 'second'));
    deepEqual(second, standardPlan(request(fresh, 'second')));
    const named = first.steps.map(step => inspect(step).includes('first'));
    deepEqual(
      second.steps.map((step, at) => step !== first.steps[at]),
      named,
    );
    equal(standardPlan(request(config, 'first')), first);
  }
});

test('encodePlan() gives the same bytes with a template as without', async t => {
  const [config, fresh] = await configs(t);
  encodePlan(standardPlan(request(config, 'first-1')));
  let taken = 0;
  // Another length, a name that is in other fields, one that is not ASCII, then the first length again.
  for (const id of [
    'first-2',
    'a-longer-name',
    'a-longer-nam2',
    'tmpfs',
    'tasks',
    'ä-longer-nam',
    'first-3',
  ]) {
    const plan = standardPlan(request(config, id));
    const template = templateOf(plan);
    if (template !== undefined) taken++;
    const expected = encodePlan(standardPlan(request(fresh, id)));
    deepEqual(Buffer.from(encodePlan(plan, undefined, template)), Buffer.from(expected), id);
  }
  equal(taken, 7);
});

test('standardPlan() makes a new plan when cgroups or mounts differ in more than the container’s name', async t => {
  const [config, fresh] = await configs(t);
  standardPlan(request(config, 'first'));
  deepEqual(
    standardPlan(request(config, 'second', ['cpu', 'memory'])),
    standardPlan(request(fresh, 'second', ['cpu', 'memory'])),
  );
  const own = { destination: '/own', source: '/sys/fs/cgroup/cpu/first', type: 'bind', options: ['bind'] };
  const cgroup = { destination: '/sys/fs/cgroup', source: 'cgroup', type: 'cgroup' };
  const [bound, again] = await configs(t, { mounts: [own, cgroup] });
  const first = standardPlan(request(bound, 'first'));
  const second = standardPlan(request(bound, 'second'));
  deepEqual(second, standardPlan(request(again, 'second')));
  notDeepEqual(first, second);
});

test('setnsPlan() is made once for a command, and anew for anything else', async t => {
  const [config, fresh] = await configs(t);
  const { process, ...rest } = request(config, 'first');
  const exec = { ...rest, process, waitForRelease: false };
  const plan = setnsPlan(exec);
  equal(setnsPlan({ ...exec, process: { ...process } }), plan);
  const moved = { ...exec.cgroup, joinFiles: ['/sys/fs/cgroup/cpu/first/sub/tasks'] };
  for (const other of [
    { ...exec, containerId: 'second' },
    { ...exec, waitForRelease: true },
    { ...exec, preservedFds: 1 },
    { ...exec, cgroup: moved },
    { ...exec, process: { ...process, args: ['id'] } },
  ]) {
    const made = setnsPlan(other);
    notDeepEqual(made, plan);
    deepEqual(made, setnsPlan({ ...other, config: fresh }));
  }
});
