/**
 * Random configurations: what a process reads back is what its config.json says; broken ones are typed errors. More of them
 * by hand: LIBCONTAINER_RANDOM_RUNS=1000, and LIBCONTAINER_RANDOM_RUNC=1 for the same through runc.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { LibcontainerError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot, rootfs } from '../harness/bundle.ts';
import { slowness, text, within } from '../harness/deadline.ts';
import { defaultSpec, type SpecDocument } from '../harness/spec.ts';
import { test } from '../harness/test.ts';
import { apply, expected, observed, type Wanted, wanted } from './random-spec.ts';
import './warm.ts';

const runs = Number(process.env.LIBCONTAINER_RANDOM_RUNS ?? (slowness > 1 ? 4 : 20));
const settings = {
  numRuns: runs,
  ...(process.env.LIBCONTAINER_RANDOM_SEED === undefined
    ? {}
    : { seed: Number(process.env.LIBCONTAINER_RANDOM_SEED) }),
};
const timeoutMs = 60_000 + runs * 3_000;

function documentOf(want: Wanted): SpecDocument {
  const document = defaultSpec(rootfs);
  apply(document, want);
  return document;
}

async function withLibrary(bundle: string, root: string): Promise<string> {
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root }).create(containerId('random'), config);
  try {
    const process = new Process({ args: ['/bin/true'], ...config.process, stdout: 'pipe' });
    await within(container.run(process), 'the start');
    const output = text(process.stdout ?? assert.fail());
    await within(process.wait(), 'the end');
    return await output;
  } finally {
    await container.destroy({ force: true });
  }
}

function withRunc(bundle: string): string {
  const { status, stdout, stderr } = spawnSync(
    'runc',
    ['--root', '/run/libcontainer-test-runc', 'run', '--bundle', bundle, containerId('runc')],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, `runc: ${stderr}${stdout}`);
  return stdout;
}

test(`random configurations, ${runs}: the container is what its config.json says`, {
  requires: ['root', 'probe', 'controller:pids', 'controller:memory'],
  timeoutMs,
  proves: [
    'process.user',
    'process.capabilities',
    'process.rlimits',
    'process.noNewPrivileges',
    'process.oomScoreAdj',
    'linux.sysctl',
    'linux.maskedPaths',
    'linux.readonlyPaths',
    'linux.resources.pids.limit',
    'linux.resources.memory.limit',
    'mounts[].options',
  ],
}, async t => {
  const bundle = makeBundle(t);
  const root = makeStateRoot(t);
  await fc.assert(
    fc.asyncProperty(wanted, async want => {
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(documentOf(want)));
      assert.deepEqual(observed(await withLibrary(bundle, root), want), expected(want));
      // runc knows ids below 2^31 only.
      const known = want.user.uid < 2 ** 31 && want.user.gid < 2 ** 31;
      if (known && process.env.LIBCONTAINER_RANDOM_RUNC === '1')
        assert.deepEqual(observed(withRunc(bundle), want), expected(want), 'runc');
    }),
    settings,
  );
});

/** All places of a document. */
function places(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  const below =
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, inner]) =>
          places(inner, [...path, Array.isArray(value) ? Number(key) : key]),
        )
      : [];
  return path.length === 0 ? below : [path, ...below];
}

const odd = fc.oneof(
  fc.constantFrom(null, true, -1, 0, 1.5, 2 ** 53, 1e300, '', '\0', '/', '../..', 'x'.repeat(5000), {}, []),
  fc.constantFrom({ type: 'x' }, ['x'], [{}], [null], { a: { b: 1 } }),
);

function mutate(document: SpecDocument, where: number, value: unknown): SpecDocument {
  const all = places(document);
  const path = all[where % all.length] ?? assert.fail();
  let holder: unknown = document;
  for (const key of path.slice(0, -1)) holder = Reflect.get(Object(holder), key);
  const last = path.at(-1) ?? assert.fail();
  Reflect.set(Object(holder), last, value);
  return document;
}

test(`mutated configurations, ${runs}: a typed error or a container, never a crash, a hang or a leak`, {
  requires: ['root', 'probe'],
  timeoutMs,
  trap: 2,
}, async t => {
  const bundle = makeBundle(t);
  const root = makeStateRoot(t);
  await fc.assert(
    fc.asyncProperty(wanted, fc.nat(), odd, async (want, where, value) => {
      const document = mutate(documentOf(want), where, value);
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(document));
      try {
        await withLibrary(bundle, root);
      } catch (error) {
        assert.ok(error instanceof LibcontainerError, `${String(error)} ${(error as Error).stack}`);
        assert.match(error.code, /^ERR_[A-Z_]+$/);
      }
      assert.deepEqual(await new LinuxFactory({ root }).list(), []);
    }),
    settings,
  );
});
