// node scripts/mutants.mjs [--only NAME,…] [--write] [--build | --built]: takes one defence away at a time (scripts/mutants-table.mjs) and looks
// whether the test of its row goes red. In a VM only, since a mutant does to its host what the defence is there to prevent.
// --write records what was seen in docs/mutants.md; --build only builds, --built runs what was built. A mutant that nothing notices ends with status 1.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { addonFlags, addonLinkFlags, addonSources } from './addon-flags.mjs';
import { initFlags, initLinkFlags, initSources } from './init-flags.mjs';
import { rows } from './mutants-table.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    guest: { type: 'string' },
    write: { type: 'boolean', default: false },
    build: { type: 'boolean', default: false },
    built: { type: 'boolean', default: false },
  },
});
const made = 'build/mutants';
const native = { init: 'build/init/init', 'libcontainer.node': 'build/Release/libcontainer.node' };

/** The file that has the test; the names of most rows are put together in the first one. */
const suites = ['security', 'security-links', 'security-enter', 'rootless'].map(
  name => `test/integration/${name}.test.ts`,
);
const suiteOf = filter => suites.find(file => readFileSync(file, 'utf8').includes(filter)) ?? suites[0];
/** The rules of devices are another mechanism there. */
const profileOf = ([name]) => (name.endsWith('-v1') ? 'v1' : 'v2');

const changesOf = ([, file, from, to, , ...more]) => {
  const changes = [[file, from, to]];
  for (let at = 0; at < more.length; at += 3) changes.push(more.slice(at, at + 3));
  return changes;
};

function changed(changes) {
  const texts = new Map();
  for (const [file, from, to] of changes) {
    const text = texts.get(file) ?? readFileSync(file, 'utf8');
    if (!text.includes(from)) throw new Error(`mutants: ${file} no longer has: ${from}`);
    texts.set(
      file,
      text.replace(from, () => to),
    );
  }
  return texts;
}

const quiet = ['-w', '-Wno-error'];
const programs = {
  init: { compiler: 'gcc', flags: initFlags, sources: initSources, link: initLinkFlags },
  'libcontainer.node': { compiler: 'g++', flags: addonFlags, sources: addonSources, link: addonLinkFlags },
};

/** With these texts in the place of what is in the files; what has not changed is compiled once for all mutants. */
function buildNative(name, program, texts) {
  const { compiler, flags: flagsOf, sources, link } = programs[program];
  const flags = flagsOf();
  const objects = sources().map(file => {
    const text = texts.get(file);
    const common = join(made, 'objects', `${program}-${file.replaceAll('/', '-')}.o`);
    if (text === undefined) {
      if (!existsSync(common)) execFileSync(compiler, [...flags, ...quiet, '-c', file, '-o', common]);
      return common;
    }
    const object = join(made, name, `${program}-${basename(file)}.o`);
    const include = `-I${dirname(file)}`;
    execFileSync(compiler, [...flags, ...quiet, include, '-x', 'c++', '-c', '-', '-o', object], {
      // The includes are relative to the file.
      input: text.replaceAll(/#include "(\.\.\/)?([^"]+)"/g, (_, up, path) => {
        const base = join(dirname(file), up ?? '', path);
        return existsSync(base) ? `#include "${join(root, base)}"` : `#include "${path}"`;
      }),
    });
    return object;
  });
  execFileSync(compiler, [...flags, '-o', join(made, name, program), ...objects, ...link]);
}

async function buildTests(name, suites, texts) {
  const { build } = await import('esbuild');
  await build({
    entryPoints: suites,
    outdir: join(made, name, 'test'),
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'error',
    external: ['esbuild', 'typescript', '*.node', 'libcontainer'],
    banner: {
      js: "import { createRequire as lcCreateRequire } from 'node:module'; const require = lcCreateRequire(import.meta.url);",
    },
    plugins: [
      {
        name: 'mutant',
        setup: ({ onLoad }) =>
          onLoad({ filter: /\/lib\/.*\.ts$/ }, ({ path }) => {
            const contents = texts.get(path.slice(root.length + 1));
            return contents === undefined ? undefined : { contents, loader: 'ts' };
          }),
      },
    ],
  });
}

async function prepare(chosen) {
  rmSync(made, { recursive: true, force: true });
  mkdirSync(join(made, 'objects'), { recursive: true });
  await buildTests('none', [...new Set(chosen.map(([, , , , filter]) => suiteOf(filter)))], new Map());
  mkdirSync(join(made, 'none'), { recursive: true });
  for (const program of Object.keys(programs)) buildNative('none', program, new Map());
  for (const row of chosen) {
    const [name, , , , filter] = row;
    const texts = changed(changesOf(row));
    mkdirSync(join(made, name), { recursive: true });
    for (const [program, { sources }] of Object.entries(programs))
      if (sources().some(file => texts.has(file))) buildNative(name, program, texts);
    if ([...texts.keys()].some(file => file.startsWith('lib/')))
      await buildTests(name, [suiteOf(filter)], texts);
  }
}

/** Undefined: green; else how it failed. */
function run(bundles, filter, name) {
  const words = ['scripts/test.mjs', suiteOf(filter), '--no-setup', '--no-bundle', '--bundles', bundles];
  const results = `/tmp/mutant-${name}.json`;
  const { stdout } = spawnSync(
    process.execPath,
    [...words, '--lane', 'v2', '--filter', filter, '--results', results],
    { encoding: 'utf8' },
  );
  const { tests } = JSON.parse(readFileSync(results, 'utf8'));
  const ran = tests.filter(test => test.result !== 'skipped');
  if (ran.length === 0) throw new Error(`mutants: no test is called ${filter}\n${stdout}`);
  const failed = ran.find(test => test.result === 'failed');
  return failed === undefined
    ? undefined
    : String(failed.error).split('\n').slice(0, 3).join(' ').slice(0, 160);
}

function guest(names) {
  // Addon and init speak a protocol of their own: all of one make, whatever has been built since.
  for (const [program, path] of Object.entries(native)) copyFileSync(join(made, 'none', program), path);
  const plain = join(made, 'none', 'test');
  const chosen = rows.filter(([name]) => names.includes(name));
  let bad = 0;
  const controls = new Map();
  for (const [name, file, , , filter] of chosen) {
    if (!controls.has(filter)) controls.set(filter, run(plain, filter, 'control'));
    for (const [program, path] of Object.entries(native))
      if (existsSync(join(made, name, program))) copyFileSync(join(made, name, program), path);
    const own = join(made, name, 'test');
    const red = run(existsSync(own) ? own : plain, filter, name);
    for (const [program, path] of Object.entries(native)) copyFileSync(join(made, 'none', program), path);
    const control = controls.get(filter);
    const good = red !== undefined && control === undefined;
    if (!good) bad += 1;
    const mark = good ? 'red' : control === undefined ? 'ALIVE' : 'CONTROL RED';
    console.log(`${mark} ${name} (${file}) › ${filter}: ${red ?? control ?? 'nothing noticed'}`);
  }
  return bad > 0 ? 1 : 0;
}

/** Gives what the guest has said of each mutant. */
async function inGuest(profile, names) {
  const vm = ['test/vm/run.mjs', '--no-setup', '--profile', profile, '--limit-seconds', '3000', '--'];
  const command = [process.execPath, 'scripts/mutants.mjs', '--guest', names.join(',')];
  const words = [...vm, 'env', 'LIBCONTAINER_TEST_SLOWNESS=6', ...command];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const said = [];
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line);
    const [, mark, name, file, filter, how] =
      /^(red|ALIVE|CONTROL RED) (\S+) \((\S+)\) › (.*?): (.*)$/.exec(line) ?? [];
    if (mark !== undefined) said.push({ mark, name, file, filter, how });
  }
  return said;
}

const head = `# Every defence, taken away once

What \`node scripts/mutants.mjs --write\` saw: each row of \`scripts/mutants-table.mjs\` takes one defence out of the sources, and
the test of its row of the catalogue (\`npm run test:security\`) must fail in a guest. It is green with the defence in place.

| Without | In | Test that fails | How |
| --- | --- | --- | --- |
`;

/** What is in the file of rows that did not run now, stays. */
function write(said) {
  const path = 'docs/mutants.md';
  const former = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
  const cell = text => text.trim().replaceAll('|', '\\|').replaceAll('<', '&lt;');
  const line = ({ name, file, filter, how }) =>
    `| ${name} | \`${file}\` | ${cell(filter)} | ${cell(how).slice(0, 100)} |`;
  const lines = rows.flatMap(([name]) => {
    const now = said.find(one => one.name === name && one.mark === 'red');
    return now === undefined ? former.filter(text => text.startsWith(`| ${name} |`)) : [line(now)];
  });
  writeFileSync(path, `${head}${lines.join('\n')}\n`);
}

if (options.guest !== undefined) {
  process.exitCode = guest(options.guest.split(','));
} else {
  const chosen = rows.filter(([name]) => options.only.split(',').some(part => name.includes(part)));
  if (!options.built) await prepare(chosen);
  const said = [];
  for (const profile of options.build ? [] : new Set(chosen.map(profileOf))) {
    const names = chosen.filter(row => profileOf(row) === profile).map(([name]) => name);
    said.push(...(await inGuest(profile, names)));
  }
  if (options.write) write(said);
  const red = said.filter(({ mark }) => mark === 'red').length;
  if (!options.build) console.log(`mutants: ${red} of ${chosen.length} noticed`);
  process.exitCode = options.build || red === chosen.length ? 0 : 1;
}
