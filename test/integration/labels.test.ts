/** AppArmor profiles and SELinux labels: what the kernel says of the processes that got them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Container, Process, ProcessOptions } from '../../lib/index.ts';
import { makeDirectory } from '../harness/bundle.ts';
import { text, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

const parser = '/usr/sbin/apparmor_parser';
const apparmor = { requires: ['root', 'apparmor', `file:${parser}`] } as const;

/** Everything is allowed but one file: that the profile works is seen, and that nothing of ours needs more. */
const profileText = (name: string): string => `
profile ${name} flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  mount,
  umount,
  deny /etc/group r,
}
`;

/** Loads a profile for the time of the test. */
function loadProfile(t: TestContext): string {
  const name = `libcontainer-test-${process.pid}`;
  const file = join(makeDirectory(t), 'profile');
  writeFileSync(file, profileText(name));
  const parse = (option: string): void => {
    // No cache: the host keeps nothing of a test.
    const done = spawnSync(parser, [option, '--skip-cache', file], { encoding: 'utf8', timeout: 120_000 });
    assert.equal(done.status, 0, done.stderr);
  };
  parse('--replace');
  t.after(() => parse('--remove'));
  return name;
}

async function inside(container: Container, process: Process): Promise<string> {
  await within(container.start(process), 'the start');
  assert.ok(process.stdout !== undefined);
  const output = await text(process.stdout);
  await within(process.wait(), 'the end');
  return output;
}

const look = 'cat /proc/self/attr/current; cat /etc/group 2>&1 | head -n 1';

test('an AppArmor profile confines the first process and those that are executed', {
  ...apparmor,
  proves: ['process.apparmorProfile'],
}, async t => {
  const profile = loadProfile(t);
  const on = await fixture(t);
  const confined: Partial<ProcessOptions> = { apparmorProfile: profile, stdout: 'pipe' };
  const denied = new RegExp(`^${profile} \\(enforce\\)\\n.*Permission denied`);
  const container = await on.create();
  const init = on.sh(`${look}; exec sleep 1000`, confined);
  await within(container.run(init), 'the start');
  let seen = '';
  for await (const part of init.stdout ?? []) {
    seen += String(part);
    if (seen.split('\n').length > 2) break;
  }
  assert.match(seen, denied);
  assert.match(await inside(container, on.sh(look, confined)), denied);
  assert.match(await inside(container, on.sh(look, { ...confined, user: { uid: 1000 } })), denied);
  // By its own configuration, or none at all: what it is executed with decides, as in runc.
  assert.match(await inside(container, on.sh(look, { stdout: 'pipe' })), /^unconfined\n/);
  assert.match(
    await inside(container, on.sh(look, { apparmorProfile: 'unconfined', stdout: 'pipe' })),
    /^unconfined\n/,
  );
  await container.destroy({ force: true });
});

test('a profile that is not loaded is an error in the words of runc', apparmor, async t => {
  const on = await fixture(t);
  const wanted = {
    code: 'ERR_LABEL',
    step: 'apparmor',
    message:
      'unable to start container process: error during container init: unable to apply apparmor profile: apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec: no such file or directory',
  };
  const first = await on.create();
  await assert.rejects(
    within(first.run(on.process({ apparmorProfile: 'libcontainer-absent' })), 'the start'),
    wanted,
  );
  const container = await on.create();
  await within(container.run(on.sh('exec sleep 1000')), 'the start');
  await assert.rejects(
    within(container.start(on.process({ apparmorProfile: 'libcontainer-absent' })), 'the exec'),
    wanted,
  );
  await container.destroy({ force: true });
});

test('unconfined is what a kernel without AppArmor has', { requires: ['root'] }, async t => {
  const on = await fixture(t);
  const output = await on.output('echo runs', { apparmorProfile: 'unconfined' });
  assert.equal(output, 'runs\n');
});
