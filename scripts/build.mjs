// `npm run build [-- PART…]`: proto (lib/generated), init and init-faults (static, musl), addon, dist (library, CLI, types).
// Parts: proto init front addon dist. Up-to-date parts are skipped by comparing times, so a second run is quick.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeDirectory } from './addon-flags.mjs';
import { frontSources, initFlags, initLinkFlags, initSources } from './init-flags.mjs';
import { tarStreamAlias } from './tar-stream.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const wanted = process.argv.slice(2).filter(a => !a.startsWith('-'));
const parts = wanted.length > 0 ? wanted : ['proto', 'init', 'front', 'addon', 'dist'];

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
  for (const name of ['init', 'criu']) staticModule(name);
}

function staticModule(name) {
  const source = `proto/${name}.proto`;
  const output = `lib/generated/${name}.js`;
  if (fresh(output, source)) return;
  mkdirSync('lib/generated', { recursive: true });
  const common = ['-t', 'static-module', '-w', 'es6', '--no-verify', '--no-convert', '--no-delimited'];
  run('node_modules/.bin/pbjs', [
    ...[...common, '--es6', '--no-comments', '--no-service'],
    ...['-o', output, source],
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
  run('node_modules/.bin/pbjs', [...common, '-o', `build/${name}-types.js`, source]);
  run('node_modules/.bin/pbts', ['-o', `lib/generated/${name}.d.ts`, `build/${name}-types.js`]);
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
    run('gcc', [...initFlags(), ...initLinkFlags, ...extra, '-o', output, ...initSources()]);
  }
}

// What may stand in nrunc's place before a resident server (docs/adr/0026); of the same kind as init.
function front() {
  const output = 'build/front/nrunc-front';
  if (fresh(output, 'addon/front', 'addon/init', 'addon/sys', 'package.json', 'scripts/init-flags.mjs'))
    return;
  mkdirSync('build/front', { recursive: true });
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  const defined = `-DNRUNC_VERSION=${JSON.stringify(version)}`;
  run('gcc', [...initFlags(), ...initLinkFlags, defined, '-o', output, ...frontSources]);
}

function addon() {
  const output = 'build/Release/libcontainer.node';
  if (fresh(output, 'addon/binding', 'addon/sys', 'binding.gyp')) return;
  const dir = nodeDirectory();
  // `configure build`, not `rebuild`: the latter deletes build/, and init with it.
  // Without the list of what it compiles; what the compiler says comes on stderr.
  run(
    'node_modules/.bin/node-gyp',
    ['configure', 'build', '--silent', '--jobs=max', ...(dir === undefined ? [] : [`--nodedir=${dir}`])],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  // make leaves it alone when only times have changed; the next run must not ask again.
  utimesSync(output, new Date(), new Date());
}

// dist/index.cjs is the library, index.mjs the same objects for ESM, nrunc.cjs the command line over it (cli.cjs). zod and
// protobufjs are in files of their own that are required by the first config.json and the first start: reading and
// compiling them would be half the time of `nrunc state`. So are what talks to systemd (systemd.cjs) and to CRIU (criu.cjs).
async function dist() {
  const { build } = await import('esbuild');
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  if (fresh('dist/nrunc.cjs', 'lib', 'package.json')) return;
  // Made aside and moved at the end, file by file: a command that runs meanwhile finds the one or the other.
  const made = `build/dist-${process.pid}`;
  process.once('exit', () => rmSync(made, { recursive: true, force: true }));
  const common = {
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    alias: tarStreamAlias,
    logLevel: 'warning',
    legalComments: 'none',
    minifyWhitespace: true,
    minifySyntax: true,
    // Node prints the line of an error that nobody catches: not the whole file.
    lineLimit: 160,
    // require() in place of import(): the loader of ES modules costs more than what it would load.
    supported: { 'dynamic-import': false },
    define: {
      // Only the ES module build of a test bundle has one (native/binding.ts).
      'import.meta.url': '""',
      NRUNC_VERSION: JSON.stringify(version),
      NRUNC_COMMIT: JSON.stringify(sourceCommit()),
    },
  };
  const bundle = (entry, name, ...plugins) =>
    build({ ...common, entryPoints: [entry], outfile: join(made, name), plugins });
  await bundle('lib/index.ts', 'index.cjs', lazyFile, systemdFile, criuFile, lazyFunctions);
  // The error classes must be those of the library: `instanceof` decides in it.
  await bundle('lib/config/spec.ts', 'spec.cjs', errorsOfLibrary);
  await bundle('lib/plan/encode.ts', 'encode.cjs', errorsOfLibrary);
  await bundle('lib/cgroups/systemd/driver.ts', 'systemd.cjs', errorsOfLibrary);
  await bundle('lib/criu/engine.ts', 'criu.cjs', errorsOfLibrary, lazyFunctions);
  await bundle('lib/sandbox/sandbox.ts', 'sandbox.cjs', library, errorsOfLibrary);
  await bundle('lib/rootfs/unpack.ts', 'rootfs.cjs', library, errorsOfLibrary);
  await bundle('lib/testing/testing.ts', 'testing.cjs', sandboxFile, library, errorsOfLibrary);
  await bundle('lib/doctor/doctor.ts', 'doctor.cjs', sandboxFile, library, errorsOfLibrary, systemdFile);
  await bundle('lib/cli/nrunc.ts', 'cli.cjs', sandboxFile, doctorFile, rootfsFile, library, lazyFunctions);
  await bundle('lib/cli/launch.ts', 'nrunc.cjs');
  await bundle('lib/cli/man.ts', 'man.cjs', sandboxFile, doctorFile, rootfsFile, library, lazyFunctions);
  const program = join(made, 'nrunc.cjs');
  writeFileSync(program, `#!/usr/bin/env node\n${readFileSync(program, 'utf8')}`);
  chmodSync(program, 0o755);
  // Run in the middle of a checkout of build/, so that it finds the addon.
  run(process.execPath, ['scripts/compile-cache.cjs', made], { stdio: 'ignore' });
  const names = Object.keys(createRequire(import.meta.url)(join(root, made, 'index.cjs'))).sort();
  writeFileSync(
    join(made, 'index.mjs'),
    `import library from './index.cjs';\nexport const { ${names.join(', ')} } = library;\n`,
  );
  // libcontainer/spec: the schema for who checks documents without loading the rest.
  const shapes = ['parseSpec', 'parseSpecProcess', 'parseSpecResources', 'specSchema'];
  writeFileSync(
    join(made, 'spec.mjs'),
    `import shapes from './spec.cjs';\nexport const { ${shapes.join(', ')} } = shapes;\n`,
  );
  writeFileSync(
    join(made, 'doctor.mjs'),
    "import doctors from './doctor.cjs';\nexport const { doctor } = doctors;\n",
  );
  writeFileSync(
    join(made, 'testing.mjs'),
    "import testing from './testing.cjs';\nexport const { useSandbox } = testing;\n",
  );
  writeFileSync(
    join(made, 'rootfs.mjs'),
    "import made from './rootfs.cjs';\nexport const { busyboxRootfs, unpackImage } = made;\n",
  );
  const boxes = ['Sandbox', 'defaultSeccomp', 'sandbox', 'sandboxRoot'];
  writeFileSync(
    join(made, 'sandbox.mjs'),
    `import boxes from './sandbox.cjs';\nexport const { ${boxes.join(', ')} } = boxes;\n`,
  );
  const page = join(root, made, 'man.cjs');
  writeFileSync(join(made, 'nrunc.8'), createRequire(import.meta.url)(page).manPage(version));
  rmSync(page);
  declarations(made);
  moveFiles(made, 'dist');
}

/** Replaces what is in `to` by what is in `from`; what is only in `to` goes. */
function moveFiles(from, to) {
  mkdirSync(to, { recursive: true });
  // A compiled form must never be beside a source that it was not made from: V8 compares only the length.
  const isCache = name => name.endsWith('.cache');
  for (const name of readdirSync(to)) if (isCache(name)) rmSync(join(to, name));
  const entries = readdirSync(from, { withFileTypes: true }).sort(
    (a, b) => isCache(a.name) - isCache(b.name),
  );
  for (const entry of entries) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) moveFiles(source, target);
    else renameSync(source, target);
  }
  // The native files of a package are another part's.
  const kept = new Set(['native', ...entries.map(({ name }) => name)]);
  for (const name of readdirSync(to)) if (!kept.has(name)) rmSync(join(to, name), { recursive: true });
}

const external = (filter, path) => ({
  name: `external ${path}`,
  setup: ({ onResolve }) =>
    onResolve({ filter }, ({ kind }) => (kind === 'entry-point' ? undefined : { path, external: true })),
});
const lazyFile = external(/\/spec\.ts$/, './spec.cjs');
const systemdFile = external(/\/driver\.ts$/, './systemd.cjs');
const criuFile = external(/\/criu\/engine\.ts$/, './criu.cjs');
const errorsOfLibrary = external(/\/errors\.ts$/, './index.cjs');
const doctorFile = external(/\/doctor\/doctor\.ts$/, './doctor.cjs');
const sandboxFile = external(/\/sandbox\/sandbox\.ts$/, './sandbox.cjs');
const rootfsFile = external(/\/rootfs\/unpack\.ts$/, './rootfs.cjs');
const library = external(/\/index\.ts$/, './index.cjs');
/**
 * Static imports of functions whose module is required by the first call of one: what a start needs, and `state` does not.
 */
const lazyBuiltins = /^node:(child_process|crypto)$/;
const lazyFunctions = {
  name: 'lazy functions',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/encode\.cjs$/ }, ({ path }) => ({ path, external: true }));
    onResolve({ filter: lazyBuiltins }, ({ path, namespace }) =>
      namespace === 'lazy' ? { path, external: true } : { path, namespace: 'lazy' },
    );
    onLoad({ filter: /\/plan\/encode\.ts$/ }, () => stubs('./encode.cjs', ['encodePlan', 'encodeCommand']));
    onLoad({ filter: lazyBuiltins, namespace: 'lazy' }, ({ path }) => {
      const module = createRequire(import.meta.url)(path);
      return stubs(
        path,
        Object.keys(module).filter(name => typeof module[name] === 'function' && name !== 'default'),
      );
    });
  },
};
function stubs(path, names) {
  const lines = names.map(
    name => `export const ${name} = (...given) => require('${path}').${name}(...given);`,
  );
  return { contents: lines.join('\n'), loader: 'js' };
}

/** Type declarations for both kinds of module; TypeScript leaves the `.ts` of import paths as it is. */
function declarations(directory) {
  run('node_modules/.bin/tsc', [
    '--noEmit',
    'false',
    '--declaration',
    '--emitDeclarationOnly',
    // `npm run check` is who complains.
    '--noCheck',
    '--stripInternal',
    '--rootDir',
    'lib',
    '--outDir',
    join(directory, 'types'),
    '--project',
    'tsconfig.dist.json',
  ]);
  cpSync(join(directory, 'types'), join(directory, 'types-cjs'), { recursive: true });
  for (const [folder, imported, suffix] of [
    ['types', '.js', '.d.ts'],
    ['types-cjs', '.cjs', '.d.cts'],
  ])
    for (const name of readdirSync(join(directory, folder), { recursive: true })) {
      if (!name.endsWith('.d.ts')) continue;
      const path = join(directory, folder, name);
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
  copyFileSync('build/front/nrunc-front', join(directory, 'nrunc-front'));
  chmodSync(join(directory, 'nrunc-front'), 0o755);
}

const all = { proto, init, front, addon, dist, native };
for (const part of parts) {
  if (!all[part]) {
    console.error(`build: unknown part ${part}; parts: ${Object.keys(all).join(' ')}`);
    process.exit(2);
  }
  await all[part]();
}
