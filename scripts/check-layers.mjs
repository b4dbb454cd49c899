// Imports inside lib/ go one way only: cli → sandbox → index → factory → container → {parent, events, cgroups} → plan, config,
// state → errors, native. Files of one layer may import each other. zod stays in config/spec.ts, protobufjs where a
// message is encoded, process.exit and stdout in cli/.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const lib = join(root, 'lib');

// A layer may import from itself and from every layer below it.
const layers = [
  { name: 'cli', files: /^cli\// },
  { name: 'sandbox', files: /^(sandbox|doctor|testing|rootfs)\// },
  { name: 'index', files: /^(index|internal)\.ts$/ },
  { name: 'factory', files: /^(factory|pool)\.ts$/ },
  { name: 'container', files: /^(container[\w-]*|features|busybox-rootfs)\.ts$/ },
  {
    name: 'parent, events, cgroups, criu',
    files: /^(parent|events|cgroups|criu)\/|^(process|reconcile)\.ts$/,
  },
  {
    name: 'plan, config, state',
    files: /^(plan|config)\/|^(state[\w-]*|signals|lifecycle)\.ts$|^cgroups\/(manager|stats)\.ts$/,
  },
  { name: 'native, generated', files: /^(native|generated)\// },
  { name: 'errors', files: /^(errors|observe)\.ts$/ },
];
// What only some files may import or use.
const fenced = [
  { what: 'zod', pattern: /from '(zod[^']*)'|import\('(zod)'\)/, allowed: /^config\// },
  {
    what: 'protobufjs',
    pattern: /from '(protobufjs[^']*|[^']*generated\/[^']*)'/,
    allowed: /^(plan\/encode|criu\/rpc)\.ts$/,
  },
  { what: 'process.exit', pattern: /\bprocess\.exit\(/, allowed: /^cli\// },
  { what: 'process.stdout', pattern: /\bprocess\.stdout\b|\bconsole\.log\(/, allowed: /^cli\// },
  { what: 'a .node file', pattern: /\.node['"`]/, allowed: /^native\/binding\.ts$/ },
];

function files(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap(entry => {
    const path = join(directory, entry.name);
    if (entry.name === 'generated') return [];
    return entry.isDirectory() ? files(path) : entry.name.endsWith('.ts') ? [path] : [];
  });
}

// cgroups/manager.ts is the interface that plan/ knows; the drivers beside it are above.
const layerOf = file => layers.findLastIndex(layer => layer.files.test(file));
const withoutComments = source => source.replace(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, '$1');

export function checkLayers() {
  const problems = [];
  for (const path of files(lib)) {
    const file = relative(lib, path);
    const from = layerOf(file);
    if (from < 0) problems.push(`lib/${file}: no layer; add it to scripts/check-layers.mjs`);
    const source = withoutComments(readFileSync(path, 'utf8'));
    // Types vanish when the file is compiled, but they are knowledge of a layer too: they count.
    for (const [, specifier] of source.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const target = relative(lib, join(dirname(path), specifier));
      if (target.startsWith('..')) {
        if (specifier.endsWith('.json')) continue;
        problems.push(`lib/${file}: imports ${specifier}, which is outside of lib/`);
      } else if (from >= 0 && layerOf(target) >= 0 && layerOf(target) < from)
        problems.push(
          `lib/${file} (${layers[from].name}) imports lib/${target} (${layers[layerOf(target)].name}): the wrong way`,
        );
    }
    for (const { what, pattern, allowed } of fenced)
      if (pattern.test(source) && !allowed.test(file))
        problems.push(`lib/${file}: ${what} is not for this file (${allowed})`);
    const lines = source.split('\n').length;
    if (lines > 500) problems.push(`lib/${file}: ${lines} lines; split it by noun (500 at most)`);
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problems = checkLayers();
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
