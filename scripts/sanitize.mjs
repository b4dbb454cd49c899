// npm run sanitize -- [--build | --built] [--undefined] [--valgrind] [TEST FILES…]: the addon and init under AddressSanitizer and
// UndefinedBehaviorSanitizer, and the integration and native tests with them. The sanitized files are in build/sanitize; a
// mount namespace of this run alone has them in the place of the others. init is a dynamic executable of glibc then (musl has
// no ASan); --undefined: the static one of musl as it is shipped, with traps where behaviour is undefined (SIGILL).
// --valgrind: Node.js with the addon under memcheck, for the native tests that start no process: Valgrind 3.19 knows neither
// clone3 nor the CLONE_VM of a birth, nor openat2.
// What a sanitizer finds ends the process that it finds it in, so a test fails; reports of Node.js processes are in
// build/sanitize/report.*.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { addonFlags, addonLinkFlags, addonSources } from './addon-flags.mjs';
import { initFlags, initLinkFlags, initSources } from './init-flags.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    build: { type: 'boolean', default: false },
    built: { type: 'boolean', default: false },
    undefined: { type: 'boolean', default: false },
    valgrind: { type: 'boolean', default: false },
    filter: { type: 'string', default: '' },
    lane: { type: 'string', default: 'host' },
  },
});
const made = 'build/sanitize';
const places = {
  init: 'build/init/init',
  'init-faults': 'build/init/init-faults',
  'libcontainer.node': 'build/Release/libcontainer.node',
};

// vptr needs type information, which init has not.
const both = ['-fsanitize=address,undefined', '-fno-sanitize=vptr', '-fno-sanitize-recover=all'];
const debug = ['-O1', '-g', '-fno-omit-frame-pointer'];

function compile(compiler, sources, flags, link, output) {
  const objects = sources.map(file => {
    const object = join(made, `${output}-${file.replaceAll('/', '-')}.o`);
    execFileSync(compiler, [...flags, '-c', file, '-o', object], { stdio: 'inherit' });
    return object;
  });
  execFileSync(compiler, [...flags, '-o', join(made, output), ...objects, ...link], { stdio: 'inherit' });
}

/** Nothing of an environment reaches init: its options are compiled in. Leaks: it has one arena, and ends. */
const optionsOfInit = `
extern "C" const char* __asan_default_options() { return "detect_leaks=0:handle_segv=1"; }
`;

function buildInit(output, more) {
  if (options.undefined) {
    const trap = ['-fsanitize=undefined', '-fno-sanitize=vptr', '-fsanitize-undefined-trap-on-error'];
    compile('gcc', initSources(), [...initFlags(), ...trap, ...more], initLinkFlags, output);
    return;
  }
  const own = join(made, 'options.cc');
  writeFileSync(own, optionsOfInit);
  const flags = ['-std=c++20', '-fno-exceptions', '-fno-rtti', '-Iaddon', ...debug, ...both, ...more];
  compile('g++', [...initSources(), own], flags, ['-static-libasan', '-static-libubsan'], output);
}

function buildAll() {
  mkdirSync(made, { recursive: true });
  buildInit('init', []);
  buildInit('init-faults', ['-DLIBCONTAINER_FAULTS']);
  const flags = addonFlags().filter(flag => flag !== '-O2' && flag !== '-Werror');
  const own = options.valgrind ? debug : [...debug, ...both];
  compile('g++', addonSources(), [...flags, ...own], addonLinkFlags, 'libcontainer.node');
}

const library = name => execFileSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();

function test(files) {
  const words = [
    'scripts/test.mjs',
    ...files,
    '--no-setup',
    '--lane',
    options.lane,
    '--filter',
    options.filter,
  ];
  const results = join(made, 'results.json');
  const binds = Object.entries(places).map(([name, place]) => `mount --bind ${join(made, name)} ${place}`);
  const script = `${binds.join(' && ')} && exec "$@"`;
  const report = join(root, made, 'report');
  const env = {
    ...process.env,
    // Node.js keeps what it has to its end; and it is preloaded into programs that were not made for it.
    ASAN_OPTIONS: `detect_leaks=0:verify_asan_link_order=0:log_path=${report}`,
    UBSAN_OPTIONS: 'print_stacktrace=1',
    LD_PRELOAD: `${library('libasan.so')} ${library('libubsan.so')}`,
  };
  const command = ['--mount', '--propagation', 'slave', 'sh', '-c', script, 'sh'];
  const all = [...command, 'env', `LD_PRELOAD=${env.LD_PRELOAD}`, process.execPath, ...words];
  const { LD_PRELOAD: _, ...plain } = env;
  const { status } = spawnSync('unshare', [...all, '--results', results], { stdio: 'inherit', env: plain });
  return status === 0;
}

/** A file of tests in one process: node's runner would start another that is not looked at. */
function memcheck(files) {
  let good = true;
  for (const file of files) {
    const bundle = join('build/test', file.replace(/^test\//, '').replace(/\.ts$/, '.mjs'));
    const words = ['--error-exitcode=99', '--quiet', '--smc-check=all-non-file', '--undef-value-errors=yes'];
    const suppressions = ['--suppressions=test/valgrind.supp', '--gen-suppressions=all'];
    const { status } = spawnSync('valgrind', [...words, ...suppressions, process.execPath, bundle], {
      stdio: 'inherit',
    });
    console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${file} under valgrind: status ${status}`);
    good = status === 0 && good;
  }
  return good;
}

function reports() {
  const names = existsSync(made) ? readdirSync(made).filter(name => name.startsWith('report.')) : [];
  for (const name of names) console.log(`${name}:\n${readFileSync(join(made, name), 'utf8').slice(0, 6000)}`);
  return names.length;
}

if (!options.built) {
  rmSync(made, { recursive: true, force: true });
  buildAll();
}
if (!options.build) {
  const files = positionals.length > 0 ? positionals : [];
  const good = options.valgrind ? memcheck(files) : test(files);
  const found = reports();
  console.log(`sanitize: ${found} reports`);
  process.exitCode = good && found === 0 ? 0 : 1;
}
