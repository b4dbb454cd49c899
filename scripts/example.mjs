// node scripts/example.mjs NAME [ARGUMENTS…]: runs examples/NAME/main.ts over the built package (dist/), as a program of a
// user's would: imports of lib/ become imports of libcontainer.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const examples = join(root, 'examples');
const names = readdirSync(examples, { withFileTypes: true })
  .filter(entry => entry.isDirectory())
  .map(({ name }) => name);
const [name, ...words] = process.argv.slice(2);
if (!names.includes(name)) {
  console.error(`usage: node scripts/example.mjs ${names.join('|')} [ARGUMENTS…]`);
  process.exit(2);
}

const asInstalled = {
  name: 'as installed',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /\/lib\/index\.ts$/ }, () => ({ path: 'libcontainer', external: true }));
    onResolve({ filter: /\/lib\/sandbox\/sandbox\.ts$/ }, () => ({
      path: 'libcontainer/sandbox',
      external: true,
    }));
    // Files beside a source are found from its bundle too.
    onLoad({ filter: /\/examples\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(
        'import.meta.url',
        JSON.stringify(pathToFileURL(path).href),
      ),
      loader: 'ts',
    }));
  },
};
const outfile = join(root, 'build/examples', `${name}.mjs`);
await build({
  entryPoints: [join(examples, name, 'main.ts')],
  outfile,
  bundle: true,
  packages: 'external',
  platform: 'node',
  target: 'node20',
  format: 'esm',
  logLevel: 'warning',
  plugins: [asInstalled],
});
process.argv = [process.argv[0], outfile, ...words];
await import(pathToFileURL(outfile).href);
