/** Faults at the steps that the default configuration does not have, and at those of an exec. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type Container, InitError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';

const requires = ['root', 'init-faults'] as const;
const variable = 'LIBCONTAINER_FAIL_AT';
const hook = { path: '/bin/true' };
const bundleWithMore = (t: TestContext): string =>
  makeBundle(t, {
    process: {
      args: ['/bin/sleep', '1000'],
      oomScoreAdj: 100,
      scheduler: { policy: 'SCHED_BATCH', nice: 1 },
      ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 5 },
    },
    patch: spec => {
      spec.domainname = 'example';
      spec.linux.sysctl = { 'net.ipv4.ip_forward': '1' };
      spec.linux.personality = { domain: 'LINUX' };
      spec.hooks = {
        createRuntime: [hook],
        createContainer: [hook],
        startContainer: [hook],
        poststop: [hook],
      };
      return undefined;
    },
  });

/** The error of a start with this fault. */
async function failure(container: Container, process_: Process, fault: string): Promise<InitError> {
  process.env[variable] = fault;
  try {
    const error: unknown = await within(container.run(process_), `the failure at ${fault}`, 30_000).then(
      () => assert.fail(`no failure at ${fault}`),
      reason => reason,
    );
    assert.ok(error instanceof InitError, `${fault}: ${String(error)}`);
    return error;
  } finally {
    delete process.env[variable];
  }
}

const more = 'oomScoreAdj sync hooks domainname sysctl scheduler ioPriority personality'.split(' ');

test('a fault at each step of a fuller configuration', { requires }, async t => {
  const root = makeStateRoot(t);
  const factory = new LinuxFactory({ root });
  const config = await loadConfig(bundleWithMore(t));
  const places = [...more, 'sync:1', 'hooks:1'];
  for (const place of places) {
    const container = await factory.create(containerId(`fault-${place.replace(':', '-')}`), config);
    const error = await failure(container, new Process({ args: [], ...config.process }), place);
    assert.equal(error.step, place.replace(/:.*/, ''));
    await container.destroy();
    assert.deepEqual(readdirSync(root), [], place);
  }
});

test('a fault at each step of an exec leaves the container as it was', { requires }, async t => {
  const config = await loadConfig(bundleWithMore(t));
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(containerId('exec'), config);
  try {
    await container.run(new Process({ args: [], ...config.process }));
    const alone = await container.processes();
    const steps =
      'oomScoreAdj setns sessionKeyring noNewPrivileges personality rlimit scheduler ioPriority bounding cwd user umask capabilities forkInto cwd:1 findExecutable exec';
    for (const step of steps.split(' ')) {
      for (const mode of ['error', 'exit'] as const) {
        const error = await failure(
          container,
          new Process({ ...config.process, args: ['/bin/true'] }),
          `${step}@${mode}`,
        );
        if (mode === 'error') assert.equal(error.step, step.replace(/:.*/, ''));
      }
    }
    assert.equal(await container.status(), 'running');
    assert.deepEqual(await container.processes(), alone);
    const next = new Process({ ...config.process, args: ['/bin/true'] });
    await container.start(next);
    assert.deepEqual(await next.wait(), { kind: 'exited', code: 0 });
  } finally {
    await container.destroy({ force: true });
  }
});
