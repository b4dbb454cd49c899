/** Rows 7 and 44 of the catalogue of runtime holes: what a container sees of processes that enter it. */
import assert from 'node:assert/strict';
import type { SpecDocument } from '../harness/bundle.ts';
import { slowness, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';
import { hostDescriptors, makeCanary } from './security-rootfs.ts';

interface Hunt {
  readonly hits: readonly string[];
  /** Processes that were our init still, and could be looked into. */
  readonly seen: number;
  readonly passed: number;
}

/** What a container's process with CAP_SYS_PTRACE finds in those that enter. */
async function hunted(t: TestContext, on: Fixture, execs: number): Promise<Hunt> {
  hostDescriptors(t, on.bundle);
  const own = ['CAP_SYS_PTRACE', 'CAP_KILL'];
  const capabilities = { bounding: own, effective: own, permitted: own, inheritable: [], ambient: [] };
  const container = await on.create();
  const init = on.process({ args: ['/bin/probe', 'hunt'], capabilities, stdin: 'pipe', stdout: 'pipe' });
  await container.run(init);
  const lines = (init.stdout ?? assert.fail()).iterator({ destroyOnReturn: false });
  let output = String((await within(lines.next(), 'the hunter')).value);
  for (let i = 0; i < execs; i++) {
    const process = on.process({ capabilities });
    await container.start(process);
    assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
  }
  init.stdin?.end('\n');
  for await (const part of lines) output += String(part);
  await init.wait();
  await container.destroy();
  const [ready, ...hits] = output.trimEnd().split('\n');
  assert.equal(ready, 'ready');
  const [, seen, passed] = /^seen (\d+) of (\d+)$/.exec(hits.pop() ?? '') ?? assert.fail(output);
  return { hits, seen: Number(seen), passed: Number(passed) };
}

const hunts = { requires: ['root', 'probe'], timeoutMs: 300_000 } as const;
const execs = slowness === 1 ? 300 : 40;

test('row 7, 44: CVE-2016-9962: a process that enters shows nothing of the host', hunts, async t => {
  const canary = makeCanary(t);
  const { hits, seen } = await hunted(t, await fixture(t), execs);
  assert.ok(seen > 0, 'the hunter saw no process that enters, so it proves nothing');
  assert.deepEqual(hits, []);
  canary.check();
});

test(
  'row 7: with a filter and without no_new_privs it has its privileges, and nothing else',
  hunts,
  async t => {
    const patch = (spec: SpecDocument): SpecDocument => {
      spec.linux.seccomp = { defaultAction: 'SCMP_ACT_ALLOW' };
      spec.process.noNewPrivileges = false;
      return spec;
    };
    const { hits, seen } = await hunted(t, await fixture(t, { patch }), slowness === 1 ? 100 : 20);
    assert.ok(seen > 0, 'the hunter saw no process that enters, so it proves nothing');
    assert.deepEqual(
      hits.filter(line => !line.startsWith('hit caps')),
      [],
    );
  },
);

// With ids of its own the kernel does it too, at the change of the user: here they are those outside.
test('row 44: crun 1.31: of a user namespace, nobody looks into a process that enters', hunts, async t => {
  const patch = (spec: SpecDocument): SpecDocument => {
    const ids = [{ containerID: 0, hostID: 0, size: 65_536 }];
    spec.linux.namespaces.push({ type: 'user' });
    Object.assign(spec.linux, { uidMappings: ids, gidMappings: ids });
    return spec;
  };
  const { hits, seen, passed } = await hunted(t, await fixture(t, { patch }), slowness === 1 ? 100 : 20);
  assert.deepEqual([hits, seen], [[], 0]);
  assert.ok(passed > 0, 'nothing has entered, so it proves nothing');
});
