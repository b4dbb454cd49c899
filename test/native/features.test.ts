/** features() is the truth: what it names is accepted by the conversion and compiled, what it leaves out is refused. */
import assert from 'node:assert/strict';
import { configFromSpec } from '../../lib/config/load.ts';
import { seccompArchitectures } from '../../lib/config/seccomp.ts';
import { features, LinuxFactory } from '../../lib/index.ts';
import { containerId, makeStateRoot } from '../harness/bundle.ts';
import { type TestContext, test } from '../harness/test.ts';
import { bundle, specWith } from '../unit/config/fixture.ts';

const options = { requires: ['file:build/Release/libcontainer.node'] } as const;

/** Plans a container with these changes of the default specification. */
async function plan(t: TestContext, changes: { readonly [path: string]: unknown }): Promise<void> {
  const config = await configFromSpec(specWith({ 'process.terminal': false, ...changes }), bundle(t));
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(containerId('plan'), config);
  await container.plan();
  await container.destroy();
}

const profile = (more: object) => ({ 'linux.seccomp': { defaultAction: 'SCMP_ACT_ALLOW', ...more } });
const call = (more: object) =>
  profile({ syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_ERRNO', ...more }] });

test('everything that features() names is accepted', {
  ...options,
  proves: [
    'features.mountOptions',
    'features.linux.namespaces',
    'features.linux.capabilities',
    'features.linux.seccomp',
  ],
}, async t => {
  const { linux, mountOptions } = features();
  const { actions, archs, operators, supportedFlags } = linux.seccomp;
  assert.ok(archs.includes('SCMP_ARCH_X86_64') && archs.includes('SCMP_ARCH_AARCH64'));
  await plan(t, profile({ architectures: archs }));
  for (const action of actions) await plan(t, call({ action }));
  const args = operators.map(op => [{ index: 0, value: 1, valueTwo: 1, op }]);
  for (const list of args) await plan(t, call({ args: list }));
  await plan(
    t,
    profile({ flags: supportedFlags, syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }] }),
  );
  const mappings = [{ containerID: 0, hostID: 100_000, size: 1 }];
  await plan(t, {
    'linux.namespaces': linux.namespaces.map(type => ({ type })),
    'linux.uidMappings': mappings,
    'linux.gidMappings': mappings,
  });
  await plan(t, { 'process.capabilities': { bounding: linux.capabilities } });
  for (const option of mountOptions) {
    const mount = { destination: '/mnt', type: 'tmpfs', source: 'tmpfs', options: [option] };
    await plan(t, { mounts: [mount] });
  }
});

test('an architecture that libseccomp cannot do is refused by name', options, async t => {
  const { archs } = features().linux.seccomp;
  const others = seccompArchitectures.filter(name => !archs.includes(name));
  // At least those of the other byte order.
  assert.ok(others.includes('SCMP_ARCH_PPC64'));
  for (const name of others)
    await assert.rejects(plan(t, profile({ architectures: ['SCMP_ARCH_X86_64', name] })), {
      name: 'ConfigError',
      code: 'ERR_UNSUPPORTED',
      message: /linux\.seccomp\.architectures\[1\]: /,
    });
});

test('a profile of the same content is compiled once, whatever the bundle', options, async t => {
  const programs = [];
  for (const errnoRet of [7, 7, 8]) {
    const spec = specWith({ 'process.terminal': false, ...call({ errnoRet }) });
    const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(
      containerId('plan'),
      await configFromSpec(spec, bundle(t)),
    );
    const { steps } = await container.plan();
    programs.push(steps.flatMap(step => (step.kind === 'seccomp' ? [step.program] : []))[0]);
    await container.destroy();
  }
  const [first, second, other] = programs;
  assert.ok(first !== undefined && first === second && first !== other);
});
