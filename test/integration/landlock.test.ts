/** Landlock: what is left of the file system, for the first process and for those that are executed. */
import assert from 'node:assert/strict';
import { LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import { binding } from '../../lib/native/binding.ts';
import { containerId, makeBundle, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { eventually, text, within } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import './fixture.ts';

const options = { requires: ['root'] } as const;

const annotations = {
  'org.libcontainer.landlock.read': '/etc:/tmp',
  'org.libcontainer.landlock.write': '/tmp:/dev/null',
  'org.libcontainer.landlock.execute': '/bin',
};

async function scene(t: TestContext, patch: (spec: SpecDocument) => void) {
  const bundle = makeBundle(t, {
    writable: true,
    patch: spec => {
      patch(spec);
      return undefined;
    },
  });
  const config = await loadConfig(bundle);
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  const id = containerId('landlock');
  t.after(() => factory.destroy(id, { force: true }));
  const container = await factory.create(id, config);
  const sh = (script: string): Process =>
    new Process({ ...config.process, args: ['/bin/sh', '-c', script], stdout: 'pipe' });
  return { container, sh };
}

async function outputOf(process: Process): Promise<string> {
  assert.ok(process.stdout !== undefined);
  const output = await text(process.stdout);
  await within(process.wait(), 'the exit');
  return output;
}

const look =
  'exec 2>&1; cat /etc/hostname >/dev/null && echo read; echo x >/tmp/x && cat /tmp/x; ls /dev; echo x >/etc/x; mkdir /etc/y; cat /proc/self/status';
const confined =
  /^read\nx\nls: [^\n]*\/dev[^\n]*Permission denied\n[^\n]*\/etc\/x[^\n]*Permission denied\nmkdir: [^\n]*Permission denied\ncat: [^\n]*Permission denied\n$/;

test('the paths of the annotations are what is left, for run and exec', options, async t => {
  const on = await scene(t, spec => {
    spec.annotations = annotations;
  });
  if (binding().landlockAbi() === 0) {
    await assert.rejects(on.container.run(on.sh('true')), { code: 'ERR_UNSUPPORTED', message: /landlock/ });
    return;
  }
  // Created first: init gets to its fifo all the same.
  const init = on.sh(`${look}; echo end; exec sleep 1000`);
  await within(on.container.start(init), 'the creation');
  await within(on.container.exec(), 'the release');
  assert.ok(init.stdout !== undefined);
  let output = '';
  for await (const part of init.stdout) {
    output += String(part);
    if (output.endsWith('end\n')) break;
  }
  assert.match(output.slice(0, -4), confined);
  const further = on.sh(look);
  await within(on.container.start(further), 'the exec');
  assert.match(await outputOf(further), confined);
  await eventually('the status', async () => (await on.container.status()) === 'running');
});

test('landlock: an absent path, a relative one, and no no_new_privs are refused', options, async t => {
  const absent = await scene(t, spec => {
    spec.annotations = { ...annotations, 'org.libcontainer.landlock.read': '/absent' };
  });
  if (binding().landlockAbi() > 0)
    await assert.rejects(within(absent.container.run(absent.sh('true')), 'the start'), {
      step: 'landlock',
      args: /\/absent/,
    });
  const rows: [name: string, value: string, message: RegExp][] = [
    ['org.libcontainer.landlock.read', 'etc', /annotations\["org\.libcontainer\.landlock\.read"\]: "etc"/],
    ['org.libcontainer.landlock.all', '/', /landlock\.all"\]: one of read, write, execute/],
  ];
  for (const [name, value, message] of rows)
    await assert.rejects(
      scene(t, spec => {
        spec.annotations = { [name]: value };
      }),
      { code: 'ERR_SPEC_INVALID', message },
    );
  const privileged = await scene(t, spec => {
    spec.annotations = annotations;
    spec.process.noNewPrivileges = false;
  });
  if (binding().landlockAbi() > 0)
    await assert.rejects(privileged.container.run(privileged.sh('true')), {
      code: 'ERR_SPEC_INVALID',
      message: /noNewPrivileges: must be true with landlock/,
    });
});
