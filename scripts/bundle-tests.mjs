// Bundles test files with the library into build/test, mirroring test/; shared code is in chunks.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { tarStreamAlias } from './tar-stream.mjs';

export const testDirectories = ['test/unit', 'test/native', 'test/integration', 'test/clients'];

export function findTests(directories = testDirectories) {
  const found = [];
  const walk = directory => {
    for (const entry of readdirSync(directory, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith('.test.ts')) found.push(path);
    }
  };
  for (const directory of directories) {
    try {
      walk(directory);
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
  }
  return found;
}

export const bundlePath = (source, outdir = 'build/test') =>
  source.replace(/^(\.\/)?test\//, `${outdir}/`).replace(/\.ts$/, '.mjs');

export async function bundleTests(files, outdir = 'build/test') {
  await build({
    entryPoints: files,
    outdir,
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    platform: 'node',
    target: 'node20',
    format: 'esm',
    alias: tarStreamAlias,
    sourcemap: 'linked',
    logLevel: 'warning',
    // Dependencies go into the bundle: few big files open faster than many small ones (much so over 9p in the VM).
    external: ['esbuild', 'typescript', '*.node', 'libcontainer', 'puppeteer-core', 'ws'],
    // CommonJS dependencies inside an ES module ask for `require` and friends.
    banner: {
      js: "import { createRequire as lcCreateRequire } from 'node:module'; const require = lcCreateRequire(import.meta.url);",
    },
  });
}
