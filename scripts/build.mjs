// `npm run build [-- PART…]`: proto (lib/generated), init and init-faults (static, musl), addon, dist (library, CLI, types).
// Parts: proto init addon dist. Up-to-date parts are skipped by comparing times, so a second run is quick.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
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

// dist/index.cjs is the library, index.mjs the same objects for ESM, nrunc.cjs the command line over it. zod and
// protobufjs are in files of their own that are required by the first config.json and the first start: reading and
// compiling them would be half the time of `nrunc state`.
async function dist() {
  const { build } = await import('esbuild');
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  rmSync('dist', { recursive: true, force: true });
  const common = {
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    logLevel: 'warning',
    legalComments: 'none',
    minifyWhitespace: true,
    minifySyntax: true,
    // require() in place of import(): the loader of ES modules costs more than what it would load.
    supported: { 'dynamic-import': false },
    define: {
      // Only the ES module build of a test bundle has one (native/binding.ts).
      'import.meta.url': '""',
      NRUNC_VERSION: JSON.stringify(version),
      NRUNC_COMMIT: JSON.stringify(sourceCommit()),
    },
  };
  const bundle = (entry, outfile, ...plugins) =>
    build({ ...common, entryPoints: [entry], outfile, plugins: plugins.filter(Boolean) });
  await bundle('lib/index.ts', 'dist/index.cjs', lazyFile, lazyFunctions);
  // The error classes must be those of the library: `instanceof` decides in it.
  await bundle('lib/config/spec.ts', 'dist/spec.cjs', errorsOfLibrary);
  await bundle('lib/plan/encode.ts', 'dist/encode.cjs', errorsOfLibrary);
  await bundle('lib/cli/nrunc.ts', 'dist/nrunc.cjs', library);
  writeFileSync('dist/nrunc.cjs', `#!/usr/bin/env node\n${readFileSync('dist/nrunc.cjs', 'utf8')}`);
  chmodSync('dist/nrunc.cjs', 0o755);

  const names = Object.keys(createRequire(import.meta.url)(join(root, 'dist/index.cjs'))).sort();
  writeFileSync(
    'dist/index.mjs',
    `import library from './index.cjs';\nexport const { ${names.join(', ')} } = library;\n`,
  );
  declarations();
}

const external = (filter, path) => ({
  name: `external ${path}`,
  setup: ({ onResolve }) =>
    onResolve({ filter }, ({ kind }) => (kind === 'entry-point' ? undefined : { path, external: true })),
});
const lazyFile = external(/\/spec\.ts$/, './spec.cjs');
const errorsOfLibrary = external(/\/errors\.ts$/, './index.cjs');
const library = external(/\/index\.ts$/, './index.cjs');
/** A static import whose file is required by the first call of one of its functions. */
const lazyFunctions = {
  name: 'lazy encode',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/encode\.cjs$/ }, ({ path }) => ({ path, external: true }));
    onLoad({ filter: /\/plan\/encode\.ts$/ }, () => ({
      contents: `export const encodePlan = (...plan) => require('./encode.cjs').encodePlan(...plan);`,
      loader: 'js',
    }));
  },
};

/** Type declarations for both kinds of module; TypeScript leaves the `.ts` of import paths as it is. */
function declarations() {
  run('node_modules/.bin/tsc', [
    '--noEmit',
    'false',
    '--declaration',
    '--emitDeclarationOnly',
    '--stripInternal',
    '--rootDir',
    'lib',
    '--outDir',
    'dist/types',
    '--project',
    'tsconfig.dist.json',
  ]);
  rmSync('dist/types/cli', { recursive: true, force: true });
  cpSync('dist/types', 'dist/types-cjs', { recursive: true });
  for (const [directory, imported, suffix] of [
    ['dist/types', '.js', '.d.ts'],
    ['dist/types-cjs', '.cjs', '.d.cts'],
  ])
    for (const name of readdirSync(directory, { recursive: true })) {
      if (!name.endsWith('.d.ts')) continue;
      const path = join(directory, name);
      const text = readFileSync(path, 'utf8').replace(
        /((?:from|import\()\s*'\.[^']*)\.ts'/g,
        `$1${imported}'`,
      );
      rmSync(path);
      writeFileSync(path.replace(/\.d\.ts$/, suffix), text);
    }
}

function sourceCommit() {
  try {
    return execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
  } catch {
    return 'unknown';
  }
}

/** `npm pack`: the native files of this machine's architecture go into the package. A checkout uses those in build/. */
async function native() {
  const directory = `dist/native/${process.platform}-${process.arch}`;
  mkdirSync(directory, { recursive: true });
  copyFileSync('build/Release/libcontainer.node', join(directory, 'libcontainer.node'));
  copyFileSync('build/init/init', join(directory, 'init'));
  chmodSync(join(directory, 'init'), 0o755);
}

const all = { proto, init, addon, dist, native };
for (const part of parts) {
  if (!all[part]) {
    console.error(`build: unknown part ${part}; parts: ${Object.keys(all).join(' ')}`);
    process.exit(2);
  }
  await all[part]();
}
