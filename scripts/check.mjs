// npm run check: types, lint and format of TypeScript and C++, import direction, documentation. Warnings are errors;
// the addon and init are compiled with -Wall -Wextra -Wconversion -Werror by the build that comes first.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);

function sources(directory, pattern) {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter(name => pattern.test(name))
    .map(name => join(directory, name));
}

function command(file, ...args) {
  return () => {
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: undefined };
    const { status, stdout, stderr, error } = spawnSync(file, args, {
      encoding: 'utf8',
      env,
      maxBuffer: 1 << 26,
    });
    if (error) return [`${file}: ${error.message}`];
    return status === 0 ? [] : [`${stdout}${stderr}`.trim().split('\n').slice(0, 200).join('\n')];
  };
}

await setUp({ check: true });
const { checkLayers } = await import('./check-layers.mjs');
const { checkDocs } = await import('./check-docs.mjs');
const { checkJsonSchema } = await import('./json-schema.mjs');
const bin = name => `node_modules/.bin/${name}`;
const cxx = ['addon', 'test/programs', 'test/fuzz', 'bench'].flatMap(d =>
  existsSync(d) ? sources(d, /\.(c|cc|h)$/) : [],
);
const checks = [
  ['tsc', command(bin('tsc'), '-p', '.')],
  ['biome', command(bin('biome'), 'ci', '--colors=off', '--error-on-warnings', '--max-diagnostics=60', '.')],
  ['clang-format', command('clang-format', '--dry-run', '-Werror', ...cxx)],
  ['import direction', checkLayers],
  ['documentation', checkDocs],
  ['JSON Schema', checkJsonSchema],
];

let bad = 0;
for (const [name, check] of checks) {
  const problems = await check();
  bad += problems.length;
  console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${name}`);
  for (const problem of problems) console.log(problem.replace(/^/gm, '     '));
}
if (bad > 0) console.log('check: failed');
process.exitCode = bad > 0 ? 1 : 0;
