/**
 * Random configurations: what a process reads back is what its config.json says; broken ones are typed errors. More of them
 * by hand: LIBCONTAINER_RANDOM_RUNS=1000, and LIBCONTAINER_RANDOM_RUNC=1 for the same through runc.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { ConfigError, LibcontainerError, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import { slowness, text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { expected, observed } from './random-facts.ts';
import { type Drawn, documents, forRunc, idleRows } from './random-spec.ts';
import { wrongFor } from './schema-arbitrary.ts';
import './warm.ts';

const runs = Number(process.env.LIBCONTAINER_RANDOM_RUNS ?? (slowness > 1 ? 4 : 20));
const timeoutMs = 60_000 + runs * 3_000;
const settings = {
  // Shrinking ends in time to tell what was found.
  interruptAfterTimeLimit: timeoutMs / 2,
  markInterruptAsFailure: true,
  numRuns: runs,
  // Else the report has the document alone.
  includeErrorInReport: true,
  ...(process.env.LIBCONTAINER_RANDOM_SEED === undefined
    ? {}
    : { seed: Number(process.env.LIBCONTAINER_RANDOM_SEED) }),
};

/** What the program wrote, and the annotations that the state shows while it runs. */
async function withLibrary(bundle: string, root: string): Promise<{ output: string; annotations: unknown }> {
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root }).create(containerId('random'), config);
  try {
    const process = new Process({ args: ['/bin/true'], ...config.process, stdout: 'pipe' });
    await within(container.run(process), 'the start');
    const { annotations = {} } = await container.ociState();
    const output = text(process.stdout ?? assert.fail(), 30_000);
    await within(process.wait(), 'the end');
    return { output: await output, annotations };
  } finally {
    await container.destroy({ force: true });
  }
}

function withRunc(bundle: string): string {
  const id = containerId('runc');
  const runc = (...words: readonly string[]) =>
    spawnSync('runc', ['--root', '/run/libcontainer-test-runc', ...words], { encoding: 'utf8' });
  const { status, stdout, stderr } = runc('run', '--bundle', bundle, id);
  if (status !== 0) runc('delete', '--force', id);
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
    'process.cwd',
    'process.env',
    'process.scheduler.policy',
    'process.scheduler.nice',
    'process.ioPriority',
    'hostname',
    'domainname',
    'annotations',
    'linux.namespaces[].type',
    'linux.timeOffsets',
    'linux.devices',
    'linux.personality.domain',
    'linux.sysctl',
    'linux.maskedPaths',
    'linux.readonlyPaths',
    'linux.resources.pids.limit',
    'linux.resources.memory.limit',
    'linux.resources.cpu.quota',
    'linux.resources.cpu.period',
    'mounts[].options',
  ],
}, async t => {
  const bundle = makeBundle(t);
  const root = makeStateRoot(t);
  const file = join(bundle, 'config.json');
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(documents, async document => {
      writeFileSync(file, JSON.stringify(document));
      const { output, annotations } = await withLibrary(bundle, root);
      assert.deepEqual(observed(output, document), expected(document));
      assert.deepEqual(annotations, document.annotations ?? {});
      const known = process.env.LIBCONTAINER_RANDOM_RUNC === '1' ? forRunc(document) : undefined;
      if (known === undefined) return;
      compared += 1;
      writeFileSync(file, JSON.stringify(known));
      assert.deepEqual(observed(withRunc(bundle), known), expected(known), 'runc');
    }),
    settings,
  );
  if (compared > 0) t.diagnostic(`runc too for ${compared}`);
});

test('the table of the random configurations names properties of the schema', () => {
  assert.deepEqual(idleRows(), []);
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

const valueAt = (document: unknown, path: readonly (string | number)[]): unknown => {
  let value = document;
  for (const key of path) value = Reflect.get(Object(value), key);
  return value;
};

function put(document: Drawn, path: readonly (string | number)[], value: unknown): void {
  const last = path.at(-1) ?? assert.fail();
  Reflect.set(Object(valueAt(document, path.slice(0, -1))), last, value);
}

function mutate(drawn: Drawn, where: number, value: unknown): Drawn {
  const document = structuredClone(drawn);
  const all = places(document);
  put(document, all[where % all.length] ?? assert.fail(), value);
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
    fc.asyncProperty(documents, fc.nat(), odd, async (drawn, where, value) => {
      const document = mutate(drawn, where, value);
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

/** Places that the schema describes: not below what it ignores. */
const described = (path: readonly (string | number)[]): boolean =>
  !path.some(
    key =>
      typeof key === 'string' &&
      (/^x[A-Z][a-z]+$/.test(key) || ['vm', 'windows', 'solaris', 'zos', 'freebsd'].includes(key)),
  );

test(`invalid configurations, ${runs * 5}: a value of a wrong type is refused, whatever it is, by its path`, {
  timeoutMs,
}, async t => {
  const bundle = makeBundle(t);
  const wrong = documents.chain(document => {
    const known = places(document).filter(described);
    return fc.nat(known.length - 1).chain(at => {
      const path = known[at] ?? assert.fail();
      return wrongFor(valueAt(document, path)).map(value => ({ document, path, value }));
    });
  });
  await fc.assert(
    fc.asyncProperty(wrong, async ({ document, path, value }) => {
      const changed = structuredClone(document);
      put(changed, path, value);
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(changed));
      await assert.rejects(loadConfig(bundle), error => {
        assert.ok(error instanceof ConfigError, String(error));
        assert.equal(error.code, 'ERR_SPEC_INVALID');
        const first = path.find(key => typeof key === 'string') ?? '';
        assert.ok(error.message.includes(String(first)), `${error.message} names ${path.join('.')}`);
        return true;
      });
    }),
    { ...settings, numRuns: runs * 5 },
  );
});
