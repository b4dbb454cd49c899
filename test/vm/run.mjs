// npm run test:vm [-- --profile v2|systemd|v1|systemd-v1|engines] [--filter NAME] [FILES…]: the integration and native tests in guests,
// one session per profile, two at a time, one line of results each (build/results/<profile>.json).
// npm run vm -- [--profile P] [--raw] COMMAND…: one command in a guest.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setUp } from '../../scripts/setup.mjs';
import { accelerated, profiles, root, runInGuest } from './guest.mjs';

const { values: options, positionals } = parseArgs({
  // The command's own options are the command's: ours end at the first word.
  args: beforeCommand(process.argv.slice(2)),
  allowPositionals: true,
  options: {
    suite: { type: 'boolean', default: false },
    profile: { type: 'string', multiple: true },
    filter: { type: 'string', default: '' },
    raw: { type: 'boolean', default: false },
    'no-setup': { type: 'boolean', default: false },
    'limit-seconds': { type: 'string', default: '3000' },
  },
});

function beforeCommand(words) {
  if (words.includes('--suite') || words.includes('--')) return words;
  const first = words.findIndex(
    (word, at) => !word.startsWith('-') && !/^--(profile|limit-seconds)$/.test(words[at - 1] ?? ''),
  );
  return first < 0 ? words : [...words.slice(0, first), '--', ...words.slice(first)];
}

const layouts = ['v2', 'systemd', 'v1'];
// Engines are slow there, and run on the host: their guest is for who asks for it.
const chosen = options.profile ?? (options.suite ? profiles.filter(one => one !== 'engines') : ['v2']);
for (const profile of chosen) {
  if (profiles.includes(profile)) continue;
  console.error(`vm: unknown profile ${profile}; profiles: ${profiles.join(' ')}`);
  process.exit(2);
}
const bundles = 'build/test-vm';
const limitSeconds = Number(options['limit-seconds']);
const guestsAtOnce = Math.max(1, Math.min(2, availableParallelism()));

// Where a file runs, when not in all three of these. The command line and the addon meet the kernel through the same
// code in each of them; runc, the reference of the differential tests, is compared on the host, its limits once for each
// layout of cgroups.
const placed = [
  { files: /^test\/native\//, profiles: ['v2'] },
  { files: /^test\/clients\/(isulad|podman-criu)/, profiles: ['v2'] },
  { files: /^test\/clients\//, profiles: ['engines'] },
  { files: /^test\/integration\/fallbacks/, profiles: ['v2'] },
  { files: /^test\/integration\/cli-conformance/, profiles: [] },
  { files: /^test\/integration\/cli-(exec|lifecycle|live)\./, profiles: layouts },
  // The same kernel in all layouts.
  { files: /^test\/integration\/(overlay|rootfs)/, profiles: ['v2'] },
  // Of what the host has set up: seen on the host lane only so far.
  { files: /^test\/integration\/(cli-sandbox|sandbox|doctor|tarball)/, profiles: [] },
  { files: /^test\/integration\/(cli|front|nrunc|pidfd-socket|pool|observe|errors)/, profiles: ['v2'] },
  { files: /limits-runc/, profiles: ['v2', 'v1'] },
  // The same kernel and the same file systems under systemd as without: what they look at is the same.
  {
    files:
      /^test\/integration\/(bad-input|faults|hooks|host-process|net-devices|race|seccomp|security|spec-)/,
    profiles: ['v2', 'v1'],
  },
  { files: /limits-update|cgroup-mounts/, profiles: [...layouts, 'systemd-v1'] },
  { files: /systemd-user/, profiles: ['systemd'] },
  { files: /systemd(-units|-v1)?\.test/, profiles: ['systemd', 'systemd-v1'] },
  { files: /integration\/criu-cgroups/, profiles: layouts },
  { files: /integration\/criu/, profiles: ['v2'] },
  { files: /integration\/nested/, profiles: ['v2'] },
  { files: /example-(supervisor|dashboard|terminal|ci|telemetry)/, profiles: [] },
  { files: /differential|package|tarball|sandbox-fixture|readme|host-only/, profiles: [] },
];
// For a test at more than its usual size: its head says so.
const sizes = ['LIBCONTAINER_SETS', 'LIBCONTAINER_SEED', 'LIBCONTAINER_TEST_MINUTES'];
const sized = sizes.flatMap(name =>
  process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`],
);
const runsIn = (file, profile) =>
  (placed.find(row => row.files.test(file))?.profiles ?? layouts).includes(profile);

async function suite() {
  const { bundleTests, findTests } = await import('../../scripts/bundle-tests.mjs');
  const all =
    positionals.length > 0 ? positionals : findTests(['test/native', 'test/integration', 'test/clients']);
  // Apart from those of the host: a run there must not change what a guest is reading.
  await bundleTests(all, bundles);
  const results = new Map();
  const waiting = [...chosen];
  const work = async () => {
    for (let profile = waiting.shift(); profile !== undefined; profile = waiting.shift()) {
      const files = positionals.length > 0 ? all : all.filter(file => runsIn(file, profile));
      results.set(profile, await runProfile(profile, files));
    }
  };
  // A guest's tests run one after the other: it uses little more than one processor.
  await Promise.all(Array.from({ length: Math.min(guestsAtOnce, chosen.length) }, work));
  if (chosen.length > 1) for (const profile of chosen) console.log(results.get(profile).line);
  return chosen.every(profile => results.get(profile).good) ? 0 : 1;
}

async function runProfile(profile, files) {
  const out = mkdtempSync(join(tmpdir(), 'libcontainer-out-'));
  const started = Date.now();
  console.log(
    `vm: profile ${profile}, ${files.length} files, at most ${limitSeconds} s${accelerated() ? '' : ', emulated'}`,
  );
  let line;
  const status = await runInGuest({
    profile,
    out,
    limitSeconds,
    // Emulation is 10 to 20 times slower; a third of that is enough for deadlines, which are generous already.
    command: [
      ...[
        'env',
        `LIBCONTAINER_TEST_SLOWNESS=6`,
        ...sized,
        process.execPath,
        'scripts/test.mjs',
        '--no-setup',
        '--no-bundle',
        '--bundles',
        bundles,
      ],
      ...[
        '--retry',
        '--lane',
        profile,
        '--results',
        '/out/results.json',
        '--filter',
        options.filter,
        ...files,
      ],
    ],
    raw: options.raw,
    onLine: text => {
      if (new RegExp(`^${profile}: \\d+ passed`).test(text)) line = text;
      else console.log(chosen.length > 1 ? `[${profile}] ${text}` : text);
    },
  });
  const record = existsSync(join(out, 'results.json'))
    ? JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'))
    : { lane: profile, leaks: [], second: [], tests: [] };
  rmSync(out, { recursive: true, force: true });
  if (line === undefined) {
    const error = `the guest stopped ${status === undefined ? 'before the end' : `with status ${status}`}; the last file that was begun: ${record.running ?? 'none'}`;
    record.tests.push({
      file: record.running ?? 'test/vm/run.mjs',
      name: '(the lane)',
      result: 'failed',
      error,
    });
    console.log(`failed: ${profile}: ${error}`);
    const count = result => record.tests.filter(row => row.result === result).length;
    line = `${profile}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`;
  }
  record.seconds = Math.round((Date.now() - started) / 1000);
  const whole = options.filter === '' && positionals.length === 0;
  mkdirSync(join(root, 'build/results'), { recursive: true });
  writeFileSync(
    join(root, `build/results/${profile}${whole ? '' : '.part'}.json`),
    JSON.stringify(record, undefined, 1),
  );
  console.log(`vm: profile ${profile} took ${record.seconds} s`);
  console.log(line);
  return { good: status === 0, line };
}

async function command() {
  if (positionals.length === 0) {
    console.error('usage: npm run vm -- [--profile v2|systemd|v1|systemd-v1|engines] [--raw] COMMAND…');
    return 2;
  }
  const status = await runInGuest({
    profile: chosen[0],
    command: positionals,
    cwd: process.cwd(),
    limitSeconds,
    raw: options.raw,
    onLine: line => console.log(line),
  });
  if (status === undefined) console.error('vm: the guest stopped before the command ended');
  return status ?? 125;
}

process.chdir(options.suite ? root : process.cwd());
if (!options['no-setup']) await setUp({ vm: true });
process.exitCode = options.suite ? await suite() : await command();
