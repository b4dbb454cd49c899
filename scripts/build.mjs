// `npm run build [-- PART…]`: proto (lib/generated), init and init-faults (static, musl), addon, dist (library, CLI, types).
// Parts: proto init addon dist. Up-to-date parts are skipped by comparing times, so a second run is quick.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const wanted = process.argv.slice(2).filter(a => !a.startsWith('-'));
const parts = wanted.length > 0 ? wanted : ['proto', 'init', 'addon', 'dist'];

function newest(...paths) {
  let time = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stat = statSync(path);
    if (stat.isDirectory())
      for (const name of readdirSync(path)) time = Math.max(time, newest(join(path, name)));
    else time = Math.max(time, stat.mtimeMs);
  }
  return time;
}
const fresh = (output, ...inputs) =>
  existsSync(output) && statSync(output).mtimeMs > newest(...inputs, 'scripts/build.mjs');
const run = (file, args, options = {}) => execFileSync(file, args, { stdio: 'inherit', ...options });

function proto() {
  const output = 'lib/generated/init.js';
  if (fresh(output, 'proto')) return;
  mkdirSync('lib/generated', { recursive: true });
  run('node_modules/.bin/pbjs', [
    '-t',
    'static-module',
    '-w',
    'es6',
    '--es6',
    '--no-comments',
    '--no-verify',
    '--no-convert',
    '--no-delimited',
    '--no-service',
    '-o',
    output,
    'proto/init.proto',
  ]);
  // The wrapper imports the runtime without its extension, which Node refuses for ESM.
  writeFileSync(
    output,
    readFileSync(output, 'utf8')
      .replace(
        /import \* as (\$protobuf) from "protobufjs\/minimal";/,
        'import $1 from "protobufjs/minimal.js";',
      )
      .replace(/import (\$protobuf) from "protobufjs\/minimal";/, 'import $1 from "protobufjs/minimal.js";'),
  );
  run('node_modules/.bin/pbjs', [
    '-t',
    'static-module',
    '-w',
    'es6',
    '--no-verify',
    '--no-convert',
    '--no-delimited',
    '-o',
    'build/init-types.js',
    'proto/init.proto',
  ]);
  run('node_modules/.bin/pbts', ['-o', 'lib/generated/init.d.ts', 'build/init-types.js']);
}

// C++20 without exceptions, RTTI and the standard library, on musl: 0.15 ms to start (docs/performance.md).
function init() {
  const sources = ['addon/init', 'addon/sys'];
  for (const [output, extra] of [
    ['build/init/init', []],
    ['build/init/init-faults', ['-DLIBCONTAINER_FAULTS']],
  ]) {
    if (fresh(output, ...sources)) continue;
    mkdirSync('build/init', { recursive: true });
    const files = [
      ...readdirSync('addon/init').map(f => `addon/init/${f}`),
      ...readdirSync('addon/init/steps').map(f => `addon/init/steps/${f}`),
    ].filter(f => f.endsWith('.cc'));
    const specs = execFileSync('sh', ['-c', 'ls /usr/lib/*-linux-musl/musl-gcc.specs'])
      .toString()
      .trim()
      .split('\n')[0];
    const arch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    // The C driver: it compiles .cc files just so and links no C++ library (g++ 12 has no -nostdlib++).
    run('gcc', [
      '-specs',
      specs,
      '-nostdinc++',
      '-std=c++20',
      '-Os',
      '-fno-exceptions',
      '-fno-rtti',
      '-fno-asynchronous-unwind-tables',
      '-fno-threadsafe-statics',
      '-ffunction-sections',
      '-fdata-sections',
      '-Wall',
      '-Wextra',
      '-Wconversion',
      '-Werror',
      '-Iaddon',
      '-idirafter',
      '/usr/include',
      '-idirafter',
      `/usr/include/${arch}`,
      '-static',
      '-Wl,--gc-sections',
      '-Wl,--build-id=none',
      '-Wl,-z,noseparate-code',
      '-s',
      ...extra,
      '-o',
      output,
      ...files,
    ]);
  }
}

function addon() {
  const output = 'build/Release/libcontainer.node';
  if (fresh(output, 'addon/binding', 'addon/sys', 'binding.gyp')) return;
  // The system's own headers when they are of this Node; else node-gyp finds or fetches them.
  const version = '/usr/include/node/node_version.h';
  const text = existsSync(version) ? readFileSync(version, 'utf8') : '';
  const number = name => text.match(new RegExp(`#define NODE_${name}_VERSION (\\d+)`))?.[1];
  const same = `v${number('MAJOR')}.${number('MINOR')}.${number('PATCH')}` === process.version;
  const beside = join(dirname(process.execPath), '..');
  const dir = same ? '/usr' : existsSync(join(beside, 'include/node/node_version.h')) ? beside : undefined;
  // `configure build`, not `rebuild`: the latter deletes build/, and init with it.
  run('node_modules/.bin/node-gyp', [
    'configure',
    'build',
    '--silent',
    ...(dir === undefined ? [] : [`--nodedir=${dir}`]),
  ]);
}

async function dist() {
  const { build } = await import('esbuild');
  const common = {
    bundle: true,
    platform: 'node',
    target: 'node20',
    logLevel: 'warning',
    legalComments: 'none',
  };
  await build({ ...common, entryPoints: ['lib/index.ts'], format: 'cjs', outfile: 'dist/index.cjs' });
}

const all = { proto, init, addon, dist };
for (const part of parts) {
  if (!all[part]) {
    console.error(`build: unknown part ${part}; parts: ${Object.keys(all).join(' ')}`);
    process.exit(2);
  }
  await all[part]();
}
