// node scripts/test.mjs [FILES…] [--filter NAME] [--lane NAME] [--retry] [--no-setup] [--no-bundle] [--results FILE] [--bundles DIR] [--rootless only|none]
//   [--deny CALL=ENOSYS,CALL=EPERM]
// --deny: the tests run where these system calls are refused (test/programs/deny.c); scripts/fallbacks.mjs is the matrix.
// Bundles the test files, runs each in its own process, and ends with one line: `host: N passed, N failed, N skipped`.
// As root, the integration tests that need no privilege (`requires` says rootless or not-root) run a second time as an
// ordinary user; the line `<lane>, as uid N: …` tells of them. --rootless: that part alone, or not at all.
// A whole lane is recorded in build/results/<lane>.json, a part of it in build/results/<lane>.part.json.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { leaksSince, snapshot } from './leaks.mjs';
import { testProgram } from './programs.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const given = parseArgs({
  allowPositionals: true,
  options: {
    filter: { type: 'string', default: '' },
    lane: { type: 'string', default: 'host' },
    retry: { type: 'boolean', default: false },
    'no-setup': { type: 'boolean', default: false },
    'no-bundle': { type: 'boolean', default: false },
    results: { type: 'string' },
    rootless: { type: 'string', default: '' },
    bundles: { type: 'string', default: 'build/test' },
    deny: { type: 'string' },
  },
});
const options = given.values;
const named = given.positionals.map(file => (isAbsolute(file) ? relative(root, file) : file));
process.chdir(root);
if (options.deny !== undefined && process.env.LIBCONTAINER_TEST_DENIED !== options.deny) {
  process.exit(runDenied(options.deny.split(',')));
}
const ordinary = 65534;
const isOrdinary = process.env.LIBCONTAINER_TEST_ROOTLESS === '1';
const slowness = Math.max(1, Number(process.env.LIBCONTAINER_TEST_SLOWNESS ?? '1') || 1);
const whole = named.length === 0 && options.filter === '';

// Extra certificates cost every Node process some 35 ms, and NODE_OPTIONS of the caller are not part of a test.
delete process.env.NODE_EXTRA_CA_CERTS;
delete process.env.NODE_OPTIONS;
if (slowness === 1) process.env.NODE_OPTIONS = '--enable-source-maps';
process.env.LIBCONTAINER_TEST_LANE = options.lane;
process.env.LIBCONTAINER_TEST_FILTER = options.filter;

if (!options['no-setup']) await import('./setup.mjs').then(setup => setup.setUp({}));
// Only now: it needs esbuild, which the set-up installs.
const { bundlePath, bundleTests, findTests } = await import('./bundle-tests.mjs');
const files = named.length > 0 ? named : findTests();
const { makeRootfs } = await import('./rootfs.mjs');
if (!options['no-bundle']) {
  makeRootfs();
  testProgram('deny');
  await bundleTests(files, options.bundles);
}

/** This very command, in a process with the filter. */
function runDenied(denied) {
  const words = [...denied, '--', process.execPath, ...process.argv.slice(1)];
  const env = { ...process.env, LIBCONTAINER_TEST_DENIED: options.deny };
  const { status, error } = spawnSync(testProgram('deny'), words, { stdio: 'inherit', env });
  if (error) throw error;
  return status ?? 1;
}

const failureText = error => {
  const cause = error?.cause ?? error;
  const stack = cause?.stack ?? String(cause);
  // Node's own frames say nothing about our code.
  return stack
    .split('\n')
    .filter(line => !/\(?node:internal|^\s+at .*node:events/.test(line))
    .slice(0, 40)
    .join('\n');
};

// A file runs in a process of its own; resolves to the rows of its tests.
async function runFile(file) {
  const rows = [];
  let output = '';
  const print = [];
  const add = (result, data) => {
    if (data.details?.type === 'suite') return;
    const whole = data.name.endsWith('.mjs') && data.nesting === 0;
    // A file is a row of its own only when it failed as a whole (a crash, an import that throws, a hang).
    if (whole && (result === 'passed' || data.details?.error?.failureType === 'subtestsFailed')) return;
    const row = {
      file,
      name: whole ? '(the file)' : data.name,
      result: data.skip === undefined ? result : 'skipped',
    };
    if (data.skip !== undefined) row.reason = typeof data.skip === 'string' ? data.skip : 'no reason';
    if (row.result === 'failed') row.error = failureText(data.details?.error);
    row.durationMs = Math.round(data.details?.duration_ms ?? 0);
    rows.push(row);
    const mark = { passed: 'ok  ', failed: 'FAIL', skipped: 'skip' }[row.result];
    print.push(
      `${mark} ${file} › ${row.name}${row.reason ? ` (${row.reason})` : ''}${row.result === 'passed' ? ` ${row.durationMs} ms` : ''}\n`,
    );
    if (row.error) print.push(`${row.error.replace(/^/gm, '     ')}\n`);
  };
  // What the harness says of a test that ran: the properties of the specification that it proves, the traps.
  const annotate = message => {
    const text = /^annotation (\{.*\})$/.exec(message)?.[1];
    if (text === undefined) return;
    const { name, proves, traps } = JSON.parse(text);
    const row = rows.findLast(one => one.name === name);
    if (row !== undefined) Object.assign(row, { proves, traps });
  };
  const stream = run({
    files: [join(root, bundlePath(file, options.bundles))],
    concurrency: 1,
    // LIBCONTAINER_TEST_MINUTES: for a test at more than its usual size.
    timeout: 60_000 * Number(process.env.LIBCONTAINER_TEST_MINUTES ?? 3 * Math.min(slowness, 2)),
  });
  for await (const { type, data } of stream) {
    if (type === 'test:pass') add('passed', data);
    else if (type === 'test:fail') add('failed', data);
    else if (type === 'test:diagnostic') annotate(data.message);
    else if (type === 'test:stdout' || type === 'test:stderr')
      output = `${output.slice(-16_000)}${data.message}`;
  }
  if (rows.some(row => row.result === 'failed') && output !== '')
    print.push(`--- output of ${file}\n${output}\n`);
  process.stdout.write(print.join(''));
  return rows;
}

async function runFiles(sources, concurrency) {
  const rows = [];
  const queue = [...sources];
  const work = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      if (options.lane !== 'host') record(rows, { running: file });
      rows.push(...(await runFile(file)));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return rows;
}

async function runAll(sources) {
  // Unit tests touch nothing outside of their process; the rest runs one at a time, for the leak checks.
  const apart = sources.filter(file => file.startsWith('test/unit/'));
  const rows = apart.length > 0 ? await runFiles(apart, 2) : [];
  const others = sources.filter(file => !apart.includes(file));
  return others.length > 0 ? [...rows, ...(await runFiles(others, 1))] : rows;
}

const before = snapshot();
const started = Date.now();
const results = options.results ?? `build/results/${options.lane}${whole ? '' : '.part'}.json`;
mkdirSync(dirname(results), { recursive: true });
// Written before each file too: when the machine under the lane stops, what ran is known.
function record(tests, more) {
  const seconds = Math.round((Date.now() - started) / 1000);
  writeFileSync(
    results,
    JSON.stringify({ lane: options.lane, seconds, leaks: [], second: [], ...more, tests }, undefined, 1),
  );
}

// On cgroup v2 alone: a cgroup that is the ordinary user's, as an administrator delegates one (cgroup-v2.rst, "Model of
// Delegation"), and one in it for the tests themselves. systemd delegates in its own way, to a user's session.
function delegateCgroup() {
  const top = '/sys/fs/cgroup/libcontainer-delegated';
  if (!existsSync('/sys/fs/cgroup/cgroup.controllers') || existsSync('/run/systemd/system')) return undefined;
  const tests = join(top, 'tests');
  for (const directory of [top, tests]) {
    mkdirSync(directory);
    for (const file of ['', 'cgroup.procs', 'cgroup.threads', 'cgroup.subtree_control'])
      chownSync(join(directory, file), ordinary, ordinary);
    if (directory === top)
      for (const parent of ['/sys/fs/cgroup', top])
        for (const controller of ['memory', 'pids', 'cpu'])
          try {
            writeFileSync(join(parent, 'cgroup.subtree_control'), `+${controller}`);
          } catch {
            // A kernel without it: the tests that need it say so.
          }
  }
  return {
    procs: join(tests, 'cgroup.procs'),
    remove: () => {
      for (const directory of [tests, top]) rmdirSync(directory);
    },
  };
}

// The same files as an ordinary user: a process of its own, whose rows come back in a file.
async function runRootless(sources) {
  const directory = mkdtempSync(join(tmpdir(), 'libcontainer-rootless-'));
  chownSync(directory, ordinary, ordinary);
  const result = join(directory, 'results.json');
  const cgroup = delegateCgroup();
  // Into the cgroup as root still: from where we are to there only root moves a process.
  const entry = cgroup === undefined ? [] : ['sh', '-c', 'echo $$ >"$0" && exec "$@"', cgroup.procs];
  const [program, ...first] = [...entry, 'setpriv'];
  const child = spawn(
    program,
    [
      ...first,
      ...[`--reuid=${ordinary}`, `--regid=${ordinary}`, '--clear-groups', '--inh-caps=-all'],
      ...[process.execPath, 'scripts/test.mjs', '--no-setup', '--no-bundle', '--bundles', options.bundles],
      ...['--lane', options.lane, '--filter', options.filter, '--results', result, ...sources],
    ],
    {
      // What is root's in the environment is not theirs.
      env: {
        ...process.env,
        LIBCONTAINER_TEST_ROOTLESS: '1',
        HOME: directory,
        TMPDIR: '/tmp',
        XDG_RUNTIME_DIR: directory,
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  const [code] = await once(child, 'exit');
  const found = existsSync(result)
    ? JSON.parse(readFileSync(result, 'utf8'))
    : {
        leaks: [],
        tests: [
          {
            file: 'scripts/test.mjs',
            name: '(as an ordinary user)',
            result: 'failed',
            error: `status ${code}`,
          },
        ],
      };
  rmSync(directory, { recursive: true, force: true });
  cgroup?.remove();
  return found;
}

let rows = options.rootless === 'only' ? [] : await runAll(files);

const second = [];
const broken = rows.filter(row => row.result === 'failed');
if (options.retry && broken.length > 0 && broken.length <= 10) {
  // Once more and alone: on a machine that is 20 times slower than usual a deadline can pass by accident. It is told.
  for (const file of new Set(broken.map(row => row.file))) {
    const names = broken.filter(row => row.file === file).map(row => row.name);
    process.env.LIBCONTAINER_TEST_ONLY = names.includes('(the file)') ? 'null' : JSON.stringify(names);
    const again = await runFiles([file], 1);
    if (again.length === 0 || again.some(row => row.result === 'failed')) continue;
    second.push(...names.map(name => `${file} › ${name}`));
    const ran = new Set(again.map(row => row.name));
    rows = [
      ...rows.filter(row => row.file !== file || !(ran.has(row.name) || names.includes(row.name))),
      ...again,
    ];
  }
  // The ordinary user's tests are others.
  delete process.env.LIBCONTAINER_TEST_ONLY;
}
const asUser = { rows: [], leaks: [] };
const canSwitch = process.geteuid() === 0 && !isOrdinary && options.rootless !== 'none';
// A process per file costs seconds on a slow machine: only those that have such a test.
const integration = files.filter(
  file =>
    file.startsWith('test/integration/') &&
    /'(rootless|not-root)'/.test(readFileSync(join(root, file), 'utf8')),
);
if (canSwitch && integration.length > 0) {
  const found = await runRootless(integration);
  asUser.rows = found.tests;
  asUser.leaks = found.leaks;
}
const leaks = (await leaksSince(before)).filter(leak => !leak.startsWith('descriptor '));
leaks.push(...asUser.leaks.map(leak => `${leak} (as uid ${ordinary})`));
const countAsUser = result => asUser.rows.filter(row => row.result === result).length;
if (asUser.rows.length > 0) {
  const ran = new Set(
    asUser.rows.filter(row => row.result !== 'skipped').map(row => `${row.file} › ${row.name}`),
  );
  const isRun = new Set(rows.map(row => `${row.file} › ${row.name}`));
  rows = [
    ...rows.filter(row => row.result !== 'skipped' || !ran.has(`${row.file} › ${row.name}`)),
    // Skipped for both is told once.
    ...asUser.rows
      .filter(row => row.result !== 'skipped' || !isRun.has(`${row.file} › ${row.name}`))
      .map(row => ({ ...row, uid: ordinary })),
  ];
}
const count = result => rows.filter(row => row.result === result).length;
const none = count('passed') + count('failed') === 0;
record(rows, { leaks, second });

process.stdout.write('\n');
for (const row of rows.filter(r => r.result === 'skipped'))
  process.stdout.write(`skipped: ${row.file} › ${row.name}: ${row.reason}\n`);
for (const row of rows.filter(r => r.result === 'failed'))
  process.stdout.write(`failed: ${row.file} › ${row.name}\n${row.error.replace(/^/gm, '  ')}\n`);
for (const leak of leaks) process.stdout.write(`leaked by the lane: ${leak}\n`);
for (const name of second) process.stdout.write(`passed only at the second try: ${name}\n`);
if (none) process.stdout.write('no test ran\n');
if (asUser.rows.length > 0)
  process.stdout.write(
    `${options.lane}, as uid ${ordinary}: ${countAsUser('passed')} passed, ${countAsUser('failed')} failed, ${countAsUser('skipped')} skipped\n`,
  );
process.stdout.write(
  `${options.lane}${isOrdinary ? ` (uid ${process.geteuid()})` : ''}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped\n`,
);
process.exitCode = count('failed') > 0 || leaks.length > 0 || none ? 1 : 0;
