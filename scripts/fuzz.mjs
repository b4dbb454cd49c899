// npm run fuzz -- [--seconds N] [TARGET…]: the parsers and init against inputs that nobody wrote. C++ targets
// (test/fuzz/*.cc) are libFuzzer's, with AddressSanitizer and UndefinedBehaviorSanitizer (Debian: clang,
// libclang-rt-14-dev; npm run setup -- --fuzz); those in TypeScript (test/fuzz/targets.ts) run under the seeded mutation fuzzer in
// test/fuzz/mutate.ts. Corpora: test/fuzz/corpus. N seconds of processor time for each target. A crash is written to build/fuzz and ends with status 1.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { initSources } from './init-flags.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_007) },
    minimize: { type: 'boolean', default: false },
  },
});
const seconds = Number(options.seconds);
const output = 'build/fuzz';
mkdirSync(output, { recursive: true });

const sources = directory =>
  readdirSync(directory)
    .filter(name => name.endsWith('.cc'))
    .map(name => join(directory, name));
// init's ways to the kernel; all else in it is arithmetic on memory.
const renamed = ['syscall', 'fstat', 'fstatat', 'fstatfs', 'mmap', 'munmap', 'prctl'].map(
  name => `-D${name}=fuzz_${name}`,
);
const common = [
  '-std=c++20',
  '-O1',
  '-g',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-Iaddon',
];
const native = {
  init: () => {
    const objects = initSources().map(source => {
      const object = join(output, `${source.replaceAll('/', '-')}.o`);
      const flags = [
        '-fsanitize=fuzzer-no-link',
        '-fno-exceptions',
        '-fno-rtti',
        '-Dmain=init_main',
        ...renamed,
      ];
      execFileSync('clang++', [...common, ...flags, '-c', source, '-o', object], { stdio: 'inherit' });
      return object;
    });
    return ['test/fuzz/init.cc', ...objects];
  },
  frames: () => [
    'test/fuzz/frames.cc',
    'addon/binding/frames.cc',
    'addon/binding/init_pipe.cc',
    ...sources('addon/sys'),
  ],
};

/** Of this process, in seconds: proc_pid_stat(5), utime and stime in ticks of a hundredth. */
function processorTime(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function fuzzNative(name) {
  const program = join(output, name);
  execFileSync(
    'clang++',
    [...common, '-fsanitize=fuzzer', '-D_GNU_SOURCE', ...native[name](), '-o', program],
    {
      stdio: 'inherit',
    },
  );
  const [seeds, found] = [join('test/fuzz/corpus', name), join(output, `${name}-corpus`)];
  mkdirSync(found, { recursive: true });
  const artifacts = `-artifact_prefix=${output}/${name}-`;
  const more = options.minimize
    ? ['-merge=1', seeds, found]
    : [`-seed=${options.seed}`, '-print_final_stats=1', '-timeout=10', artifacts, found];
  const dictionaries = existsSync(seeds) && !options.minimize ? [seeds] : [];
  const words = [...more, ...dictionaries, '-max_len=4096', '-verbosity=1'];
  const child = spawn(program, words, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' },
  });
  // libFuzzer's own limit is of the clock, which on a busy machine is far from what was computed.
  const timer = setInterval(() => {
    if (options.minimize || processorTime(child.pid) < seconds) return;
    clearInterval(timer);
    child.kill('SIGINT');
  }, 1000);
  const [status] = await once(child, 'exit');
  clearInterval(timer);
  return status === 0;
}

async function fuzzTypeScript(names) {
  const { build } = await import('esbuild');
  const outfile = join(output, 'targets.mjs');
  await build({
    entryPoints: ['test/fuzz/mutate.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
    external: ['zod', 'protobufjs', 'protobufjs/*', 'eventemitter3'],
  });
  const { fuzz, targets } = await import(pathToFileURL(join(root, outfile)).href);
  const chosen = names.length > 0 ? names.filter(name => name in targets) : Object.keys(targets);
  let good = true;
  for (const name of chosen)
    good = (await fuzz(name, { seconds, seed: Number(options.seed), output })) && good;
  return { good, known: Object.keys(targets) };
}

const nativeNames = Object.keys(native);
let good = true;
for (const name of nativeNames)
  if (positionals.length === 0 || positionals.includes(name)) good = (await fuzzNative(name)) && good;
if (positionals.length === 0 || positionals.some(name => !nativeNames.includes(name))) {
  const { good: fine, known } = await fuzzTypeScript(positionals.filter(name => !nativeNames.includes(name)));
  const unknown = positionals.filter(name => !nativeNames.includes(name) && !known.includes(name));
  if (unknown.length > 0) {
    console.error(
      `fuzz: unknown target ${unknown.join(' ')}; targets: ${[...nativeNames, ...known].join(' ')}`,
    );
    process.exit(2);
  }
  good = fine && good;
}
process.exitCode = good ? 0 : 1;
