// What all candidates share: one bundle, one place for state (tmpfs), the compiled floor, the bundled library.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const build = join(root, 'build/bench');
export const floorProgram = join(build, 'floor');
export const floorInit = join(build, 'floor-init');
export const rootfs = join(root, 'build/rootfs');

// The same in floor/floor.c.
const limits = {
  memory: { limit: 256 << 20 },
  pids: { limit: 128 },
  cpu: { shares: 512, quota: 100_000, period: 100_000 },
};

const newer = (output, ...sources) =>
  existsSync(output) && sources.every(source => statSync(source).mtimeMs <= statSync(output).mtimeMs);

export function compileFloor() {
  mkdirSync(build, { recursive: true });
  const source = name => join(root, 'bench/floor', name);
  const warnings = ['-std=gnu11', '-Wall', '-Wextra', '-Werror'];
  if (
    !newer(
      floorProgram,
      source('floor.c'),
      source('device_program.h'),
      source('plan.h'),
      source('second_stage.h'),
    )
  )
    execFileSync('gcc', ['-O2', ...warnings, '-pthread', '-o', floorProgram, source('floor.c')]);
  if (newer(floorInit, source('init.c'), source('plan.h'), source('second_stage.h'))) return;
  const architecture = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const headers = ['-idirafter', '/usr/include', '-idirafter', `/usr/include/${architecture}`];
  execFileSync('musl-gcc', [
    '-Os',
    '-static',
    '-s',
    ...warnings,
    ...headers,
    '-o',
    floorInit,
    source('init.c'),
  ]);
}

// Below build/, where the library finds its addon.
export async function loadLibrary() {
  const { build: bundle } = await import('esbuild');
  await bundle({
    entryPoints: { library: join(root, 'lib/index.ts'), spec: join(root, 'lib/config/default-spec.ts') },
    outdir: build,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'warning',
    external: ['*.node'],
    banner: {
      js: "import { createRequire as lcCreateRequire } from 'node:module'; const require = lcCreateRequire(import.meta.url);",
    },
  });
  const load = name => import(pathToFileURL(join(build, name)).href);
  return { ...(await load('library.mjs')), ...(await load('spec.mjs')) };
}

/** A bundle of the default configuration with all limits; `args` is what runs in it. */
export function makeBundle({ library, workspace }, name, args) {
  const directory = join(workspace, name);
  mkdirSync(directory);
  const spec = JSON.parse(library.defaultSpecText());
  spec.process.terminal = false;
  spec.process.args = args;
  spec.root.path = rootfs;
  Object.assign(spec.linux.resources, limits);
  writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
  return directory;
}

export function makeWorkspace() {
  const directory = mkdtempSync('/dev/shm/libcontainer-bench-');
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
