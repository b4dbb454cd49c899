/**
 * What people get wrong: each case has its code, its words and a hint, and leaves nothing behind (the harness looks for
 * cgroups, mounts, processes and descriptors after each test; a state directory fails makeStateRoot).
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  ConfigError,
  HookError,
  InitError,
  LibcontainerError,
  LinuxFactory,
  loadConfig,
  Process,
  signalNumber,
} from '../../lib/index.ts';
import {
  containerId,
  makeBundle,
  makeDirectory,
  makeStateRoot,
  type SpecDocument,
} from '../harness/bundle.ts';
import { within } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import './warm.ts';

const root = { requires: ['root'] } as const;

/** The error that the work ends with: ours, with a code and a hint. */
async function refusal(work: () => unknown): Promise<LibcontainerError> {
  let error: unknown;
  try {
    await work();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof LibcontainerError, `not refused, or not by us: ${String(error)}`);
  assert.notEqual(error.hint, '');
  return error;
}

async function refuses(code: string, words: RegExp, work: () => unknown): Promise<LibcontainerError> {
  const error = await refusal(work);
  assert.equal(error.code, code, `${error.code}: ${error.message}`);
  assert.match(error.message, words);
  return error;
}

type Patch = (spec: SpecDocument) => void;
const bundleWith = (t: TestContext, patch: Patch): string =>
  makeBundle(t, {
    patch: spec => {
      patch(spec);
      return undefined;
    },
  });

/** Loads and runs; a container that comes up all the same is destroyed. */
async function runBundle(t: TestContext, bundle: string): Promise<void> {
  const config = await loadConfig(bundle);
  const container = await new LinuxFactory({ root: makeStateRoot(t) }).create(containerId('bad'), config);
  assert.ok(config.process !== undefined);
  const process = new Process(config.process);
  try {
    await within(container.run(process), 'the end of run()', 30_000);
    await process.wait();
  } finally {
    await container.destroy({ force: true });
  }
}

// ---- the document ----

test('broken JSON: line and column', async t => {
  const bundle = makeDirectory(t);
  writeFileSync(join(bundle, 'config.json'), '{\n  "ociVersion": "1.0.2",\n  "process": {,}\n}\n');
  const error = await refuses('ERR_SPEC_JSON', /JSON/, () => loadConfig(bundle));
  assert.ok(error instanceof ConfigError);
  assert.deepEqual([error.line, error.column], [3, 15]);
});

test('no config.json', async t => {
  await refuses('ERR_SPEC_NOT_FOUND', /config\.json/, () => loadConfig(makeDirectory(t)));
});

const documents: readonly (readonly [name: string, code: string, path: string, patch: Patch])[] = [
  [
    'wrong type: a string for a number',
    'ERR_SPEC_INVALID',
    'process.user.uid',
    spec => Object.assign(spec.process, { user: { uid: '0', gid: 0 } }),
  ],
  [
    'wrong type in a list',
    'ERR_SPEC_INVALID',
    'mounts[1].options[0]',
    spec => Object.assign(spec.mounts[1] ?? assert.fail(), { options: [7] }),
  ],
  ['missing args', 'ERR_SPEC_INVALID', 'process.args', spec => Object.assign(spec.process, { args: [] })],
  ['empty args[0]', 'ERR_SPEC_INVALID', 'process.args', spec => Object.assign(spec.process, { args: [''] })],
  ['relative cwd', 'ERR_SPEC_INVALID', 'process.cwd', spec => Object.assign(spec.process, { cwd: 'tmp' })],
  [
    'duplicate namespace',
    'ERR_SPEC_INVALID',
    'linux.namespaces',
    spec => spec.linux.namespaces.push({ type: 'pid' }),
  ],
  [
    'unknown namespace',
    'ERR_SPEC_INVALID',
    'linux.namespaces',
    spec => spec.linux.namespaces.push({ type: 'net' }),
  ],
];
for (const [name, code, path, patch] of documents) {
  test(name, async t => {
    const bundle = bundleWith(t, patch);
    const error = await refuses(code, new RegExp(path.replaceAll(/[.[\]]/g, '\\$&')), () =>
      loadConfig(bundle),
    );
    assert.ok(error instanceof ConfigError);
    assert.ok(error.issues.some(issue => issue.path.startsWith(path)));
  });
}

const rootfses: readonly (readonly [name: string, make: (bundle: string) => string])[] = [
  ['missing rootfs', () => 'absent'],
  [
    'rootfs that is a file',
    bundle => {
      writeFileSync(join(bundle, 'file'), '');
      return 'file';
    },
  ],
  [
    'rootfs that is a link',
    bundle => {
      symlinkSync('/', join(bundle, 'link'));
      return 'link';
    },
  ],
];
for (const [name, make] of rootfses) {
  test(name, async t => {
    const directory = makeDirectory(t);
    const path = join(directory, make(directory));
    const bundle = bundleWith(t, spec => {
      spec.root.path = path;
    });
    await refuses('ERR_ROOTFS', /rootfs/, () => loadConfig(bundle));
  });
}

test('namespace path of another kind', root, async t => {
  const bundle = bundleWith(t, spec => {
    const network = spec.linux.namespaces.find(({ type }) => type === 'network');
    Object.assign(network ?? assert.fail(), { path: '/proc/self/ns/uts' });
  });
  await refuses('ERR_NAMESPACE_KIND', /\/proc\/self\/ns\/uts/, () => runBundle(t, bundle));
});

test('namespace path that is no namespace', root, async t => {
  const bundle = bundleWith(t, spec => {
    const network = spec.linux.namespaces.find(({ type }) => type === 'network');
    Object.assign(network ?? assert.fail(), { path: '/etc/passwd' });
  });
  await refuses('ERR_NAMESPACE_KIND', /\/etc\/passwd/, () => runBundle(t, bundle));
});

// ---- what is found only inside ----

const programs: readonly (readonly [name: string, code: string, words: RegExp, args: string[]])[] = [
  [
    'a program that is not in PATH',
    'ERR_EXEC_NOT_FOUND',
    /no-such-program.*not found in \$PATH/,
    ['no-such-program'],
  ],
  ['a path that does not exist', 'ERR_EXEC_NO_FILE', /\/no\/such\/file/, ['/no/such/file']],
  ['a file without execute permission', 'ERR_EXEC_PERMISSION', /\/etc\/passwd/, ['/etc/passwd']],
  ['a directory', 'ERR_EXEC_PERMISSION', /\/etc/, ['/etc']],
];
for (const [name, code, words, args] of programs) {
  test(`args[0]: ${name}`, root, async t => {
    const error = await refuses(code, words, () => runBundle(t, makeBundle(t, { process: { args } })));
    assert.ok(error instanceof InitError);
    assert.equal(error.step, 'findExecutable');
  });
}

const files: readonly (readonly [name: string, code: string, content: string])[] = [
  ['a script with a missing interpreter', 'ERR_EXEC_INTERPRETER', '#!/no/such/interpreter\n'],
  ['a script with CRLF line ends', 'ERR_EXEC_INTERPRETER', '#!/bin/sh\r\necho x\r\n'],
  ['a text without #! line', 'ERR_EXEC_FORMAT', 'echo x\n'],
];
for (const [name, code, content] of files) {
  test(`args[0]: ${name}`, root, async t => {
    const file = join(makeDirectory(t), 'program');
    writeFileSync(file, content);
    chmodSync(file, 0o755);
    const bundle = bundleWith(t, spec => {
      spec.mounts.push({
        destination: '/dev/shm',
        type: 'bind',
        source: join(file, '..'),
        options: ['bind'],
      });
      Object.assign(spec.process, { args: ['/dev/shm/program'] });
    });
    await refuses(code, /\/dev\/shm\/program|\/no\/such\/interpreter/, () => runBundle(t, bundle));
  });
}

test('cwd that is a file', root, async t => {
  const bundle = makeBundle(t, { process: { cwd: '/etc/passwd' } });
  await refuses('ERR_CWD', /\/etc\/passwd/, () => runBundle(t, bundle));
});

test('cwd that the user may not enter', { ...root, proves: ['process.cwd'], trap: 4 }, async t => {
  const directory = makeDirectory(t);
  const closed = join(directory, 'closed');
  mkdirSync(closed, { mode: 0o700 });
  const bundle = bundleWith(t, spec => {
    spec.mounts.push({ destination: '/mnt', type: 'bind', source: directory, options: ['bind'] });
    // CAP_DAC_OVERRIDE is not in the default set: even root needs the permission bits of its user.
    Object.assign(spec.process, { cwd: '/mnt/closed/deeper', user: { uid: 1000, gid: 1000 } });
  });
  // As root it can be made and entered (runc does so too), so this one starts.
  await runBundle(t, bundle);
  assert.deepEqual(readdirSync(closed), ['deeper']);
});

// ---- names ----

const ids = ['', '.', '..', 'a/b', '../x', '/x', 'x'.repeat(256), '-x', 'a b', 'a\0b', 'a\nb', 'ä', 'a,b'];
for (const id of ids) {
  test(`container id ${JSON.stringify(id.slice(0, 12))}`, async t => {
    const config = await loadConfig(makeBundle(t));
    const factory = new LinuxFactory({ root: makeStateRoot(t) });
    await refuses('ERR_ID_INVALID', /id/i, () => factory.create(id, config));
    await refuses('ERR_ID_INVALID', /id/i, () => factory.load(id));
  });
}

test('an id that exists', root, async t => {
  const config = await loadConfig(makeBundle(t, { process: { args: ['/bin/sleep', '1000'] } }));
  assert.ok(config.process !== undefined);
  const path = makeStateRoot(t);
  const id = containerId('twice');
  const container = await new LinuxFactory({ root: path }).create(id, config);
  try {
    await container.run(new Process(config.process));
    await refuses('ERR_CONTAINER_EXISTS', /container with given ID already exists/, () =>
      new LinuxFactory({ root: path }).create(id, config),
    );
    // The first one is not touched by the second one's failure.
    assert.equal(await container.status(), 'running');
    for (const name of ['NOPE', '0', '65', '-1', '', 'SIG', '9x']) {
      await refuses('ERR_SIGNAL_UNKNOWN', /signal/, () => container.signal(name));
    }
    assert.equal(await container.status(), 'running');
  } finally {
    await container.destroy({ force: true });
  }
});

test('an id that does not exist', async t => {
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  await refuses('ERR_CONTAINER_NOT_EXIST', /container does not exist/, () => factory.load('absent'));
});

test('signals are known by name and number', () => {
  assert.equal(signalNumber('TERM'), 15);
  assert.equal(signalNumber('sigkill'), 9);
  assert.equal(signalNumber('64'), 64);
});

// ---- hooks ----

const hook = (script: string, timeout?: number) => ({
  path: '/bin/sh',
  args: ['sh', '-c', script],
  ...(timeout === undefined ? {} : { timeout }),
});

for (const phase of ['prestart', 'createRuntime', 'createContainer', 'startContainer'] as const) {
  test(`${phase} hook that fails`, root, async t => {
    const bundle = bundleWith(t, spec => {
      spec.hooks = { [phase]: [hook('exit 0'), hook('echo out of luck >&2; exit 7')] };
    });
    const error = await refuses('ERR_HOOK', new RegExp(phase), () => runBundle(t, bundle));
    assert.ok(error instanceof HookError);
    assert.deepEqual([error.hook, error.index, error.exitCode], [phase, 1, 7]);
    assert.match(error.output, /out of luck/);
  });

  test(`${phase} hook that hangs, and its children`, {
    ...root,
    proves: [`hooks.${phase}[].timeout`],
  }, async t => {
    const bundle = bundleWith(t, spec => {
      spec.hooks = { [phase]: [hook('sleep 1000 & sleep 1000', 1)] };
    });
    const begun = performance.now();
    await refuses('ERR_HOOK_TIMEOUT', new RegExp(phase), () => runBundle(t, bundle));
    assert.ok(performance.now() - begun >= 900, 'its second was not up');
  });
}

test('hooks that never read their stdin are no error', root, async t => {
  const bundle = bundleWith(t, spec => {
    const deaf = [hook('exec <&-; exit 0', 20), hook('true', 20)];
    // More than a pipe holds, so that a writer who waits for the reader would hang.
    spec.annotations = { big: 'x'.repeat(200_000) };
    spec.hooks = {
      prestart: deaf,
      createContainer: deaf,
      startContainer: deaf,
      poststart: deaf,
      poststop: deaf,
    };
  });
  await runBundle(t, bundle);
});

test('a hook that does not exist', root, async t => {
  const bundle = bundleWith(t, spec => {
    spec.hooks = { createRuntime: [{ path: '/no/such/hook' }] };
  });
  const error = await refuses('ERR_HOOK', /createRuntime hook #0/, () => runBundle(t, bundle));
  assert.ok(error instanceof HookError);
  assert.deepEqual([error.hook, error.index], ['createRuntime', 0]);
});

test('a hook that does not exist in the container', root, async t => {
  const bundle = bundleWith(t, spec => {
    spec.hooks = { startContainer: [{ path: '/no/such/hook' }] };
  });
  const error = await refuses('ERR_HOOK', /startContainer hook #0/, () => runBundle(t, bundle));
  assert.ok(error instanceof HookError);
  assert.deepEqual([error.hook, error.index], ['startContainer', 0]);
});

// ---- the machine ----

test('no privilege', { requires: ['root', 'file:/usr/bin/setpriv'] }, async t => {
  const bundle = makeBundle(t);
  chmodSync(bundle, 0o755);
  const state = makeDirectory(t);
  chmodSync(state, 0o777);
  const program = `
    const { LinuxFactory, loadConfig, Process } = require(process.argv[1]);
    const [, , bundle, root, id] = process.argv;
    loadConfig(bundle)
      .then(async config => {
        const container = await new LinuxFactory({ root }).create(id, config);
        await container.run(new Process(config.process));
      })
      .then(() => ({ code: 'none' }), ({ code, message, hint }) => ({ code, message, hint }))
      .then(outcome => console.log(JSON.stringify(outcome)));`;
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all'];
  const library = join(projectRoot, 'dist/index.cjs');
  const child = spawn(
    '/usr/bin/setpriv',
    [...user, process.execPath, '-e', program, library, bundle, join(state, 'root'), containerId('weak')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  await within(new Promise(resolve => child.once('close', resolve)), 'the end of the program', 30_000);
  const outcome: unknown = JSON.parse(output);
  assert.ok(typeof outcome === 'object' && outcome !== null);
  assert.equal('code' in outcome && outcome.code, 'ERR_SPEC_INVALID', output);
  assert.match(output, /linux\.namespaces: rootless container requires user namespaces/);
  // The root directory itself may be there; a container is not.
  assert.deepEqual(existsSync(join(state, 'root')) ? readdirSync(join(state, 'root')) : [], []);
});

test('full state disk', root, async t => {
  const state = makeDirectory(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=711', 'tmpfs', state]);
  t.after(() => execFileSync('umount', [state]));
  // Every page but none for a state file.
  const { bavail, bsize } = statfsSync(state);
  writeFileSync(join(state, '.filler'), Buffer.alloc(bavail * bsize));
  const config = await loadConfig(makeBundle(t));
  const container = await new LinuxFactory({ root: state }).create(containerId('full'), config);
  assert.ok(config.process !== undefined);
  const { process } = config;
  const error = await refusal(() => within(container.run(new Process(process)), 'the end of run()', 30_000));
  assert.match(`${error.message} ${String(error.cause)}`, /ENOSPC|no space/i);
  await container.destroy({ force: true });
  assert.deepEqual(readdirSync(state), ['.filler']);
});
