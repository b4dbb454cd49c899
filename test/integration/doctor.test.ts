/** The doctor agrees with what really works here, and with what a filter takes away. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Diagnosis, doctor } from '../../lib/doctor/doctor.ts';
import { sandbox } from '../../lib/sandbox/sandbox.ts';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { test } from '../harness/test.ts';
import { nruncPath } from './cli-fixture.ts';
import './warm.ts';

const options = { requires: ['rootless'], timeoutMs: 60_000 } as const;

test(
  'doctor: what it says works, works; what is missing has a line that says what to do',
  options,
  async () => {
    const { ok, findings, uid } = await doctor();
    assert.equal(ok, true, JSON.stringify(findings));
    assert.equal(uid, process.geteuid?.());
    const names = findings.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const name of [
      'kernel.version',
      'kernel.calls',
      'namespace.pid',
      'mount.overlay',
      'cgroup.layout',
      'seccomp',
      'sandbox',
    ])
      assert.ok(names.includes(name), name);
    for (const { name, verdict, fix } of findings) assert.equal(fix === undefined, verdict === 'ok', name);
    // Limits: allowed by the doctor and by a sandbox, or by neither.
    const controllers = findings.find(({ name }) => name === 'cgroup.controllers');
    const limited = sandbox(['true'], { memoryBytes: 64 << 20 });
    if (controllers?.verdict === 'ok') assert.equal((await limited).exitCode, 0);
    else await assert.rejects(limited);
    assert.deepEqual(
      readdirSync(tmpdir()).filter(name => name.startsWith('libcontainer-doctor-')),
      [],
    );
  },
);

function diagnose(denied: readonly string[]): {
  readonly status: number | null;
  readonly diagnosis: Diagnosis;
} {
  const deny = join(projectRoot, 'build/programs/deny');
  const words = [...denied, '--', process.execPath, nruncPath, 'doctor', '--json'];
  const { status, stdout, stderr } = spawnSync(deny, words, { encoding: 'utf8', timeout: 60_000 * slowness });
  assert.notEqual(stdout, '', stderr);
  return { status, diagnosis: JSON.parse(stdout) };
}

test('doctor: what is taken away is found, by name', {
  requires: ['root', 'lane:host'],
  timeoutMs: 60_000,
}, () => {
  const { status, diagnosis } = diagnose(['openat2=ENOSYS', 'close_range=EPERM']);
  assert.deepEqual([status, diagnosis.ok], [1, false]);
  const calls = diagnosis.findings.find(({ name }) => name === 'kernel.calls');
  assert.equal(calls?.verdict, 'fail');
  assert.match(calls?.detail ?? '', /openat2 is not in this kernel/);
  assert.match(calls?.detail ?? '', /close_range is refused by a filter/);
});

test('nrunc doctor: a line for each finding', { requires: ['root', 'lane:host'], timeoutMs: 60_000 }, () => {
  const { status, stdout } = spawnSync(process.execPath, [nruncPath, 'doctor'], { encoding: 'utf8' });
  assert.ok(status === 0 || status === 2, stdout);
  assert.match(stdout, /^ok {4}sandbox +a program ran and was removed/m);
});
