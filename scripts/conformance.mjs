// docs/spec-conformance.md: one row per property of runtime-spec 1.3, with the tests that prove it (`proves` of the
// test harness) and the lanes where they passed. `node scripts/conformance.mjs [--write] [RESULTS…]` reads the lanes'
// build/results/*.json; without --write it checks
// that no row is empty, and says when the page names other tests.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const page = join(root, 'docs/spec-conformance.md');
const lanes = ['host', 'v2', 'systemd', 'v1', 'systemd-v1'];
/** Beside the lane, for what passed there as an ordinary user. */
const ordinary = 'rootless';

async function library() {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    stdin: {
      contents: `export { specSchema } from './lib/config/spec.ts';
        export { namespaceTypes } from './lib/config/convert.ts';
        export { mountOptionNames } from './lib/config/mount-options.ts';`,
      resolveDir: root,
    },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
  });
  const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`;
  return await import(url);
}

// The paths of all leaves: objects by `.name`, lists by `[]`, tables by `.*`.
export function leaves(schema, path = '') {
  const { def } = schema._zod;
  switch (def.type) {
    case 'object':
      return Object.entries(def.shape).flatMap(([name, inner]) =>
        leaves(inner, path === '' ? name : `${path}.${name}`),
      );
    case 'optional':
      return leaves(def.innerType, path);
    case 'array':
      return def.element._zod.def.type === 'object' ? leaves(def.element, `${path}[]`) : [path];
    case 'record':
      return def.valueType._zod.def.type === 'object' ? leaves(def.valueType, `${path}.*`) : [path];
    default:
      return [path];
  }
}

// features.md and features-linux.md.
const features = [
  ...['ociVersionMin', 'ociVersionMax', 'hooks', 'mountOptions', 'annotations'],
  ...['potentiallyUnsafeConfigAnnotations', 'linux.namespaces', 'linux.capabilities', 'linux.cgroup'],
  ...['linux.seccomp', 'linux.apparmor', 'linux.selinux', 'linux.intelRdt', 'linux.memoryPolicy'],
  ...['linux.mountExtensions.idmap', 'linux.netDevices'],
].map(name => `features.${name}`);

/** Every property, and the values that the specification lists for namespaces and mount options. */
export async function properties() {
  const { specSchema, namespaceTypes, mountOptionNames } = await library();
  return leaves(specSchema)
    .flatMap(path => {
      if (path === 'linux.namespaces[].type')
        return [path, ...namespaceTypes.map(type => `linux.namespaces[${type}]`)];
      if (path === 'mounts[].options')
        return [
          path,
          ...[...mountOptionNames(), 'idmap', 'ridmap'].map(option => `mounts[].options[${option}]`),
        ];
      return [path];
    })
    .concat(features);
}

// `hooks.prestart` proves `hooks.prestart[].path` too; the values in brackets are only proved by their own name.
const covers = (claim, property) =>
  claim === property || property.startsWith(`${claim}.`) || property.startsWith(`${claim}[].`);

/** @returns {Map<string, Map<string, Set<string>>>} property → test → lanes; and the claims that are no property. */
export function joinResults(list, records) {
  const rows = new Map(list.map(property => [property, new Map()]));
  const unknown = new Set();
  for (const { lane, tests } of records)
    for (const { file, name, result, uid, proves = [] } of tests) {
      for (const claim of proves) {
        const proved = list.filter(property => covers(claim, property));
        if (proved.length === 0) unknown.add(`${file} › ${name}: ${claim}`);
        if (result !== 'passed') continue;
        for (const property of proved) {
          const row = rows.get(property);
          const key = `${file} › ${name}`;
          const where = (row.get(key) ?? new Set()).add(lane);
          row.set(key, uid === undefined ? where : where.add(ordinary));
        }
      }
    }
  return { rows, unknown: [...unknown] };
}

const cell = text => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
const shown = 4;
function document(rows) {
  const lines = [...rows].map(([property, tests]) => {
    const names = [...tests.keys()].sort();
    const more = names.length > shown ? `<br>and ${names.length - shown} more` : '';
    const where = [...lanes, ordinary].filter(lane => [...tests.values()].some(set => set.has(lane)));
    const list = names.slice(0, shown).map(name => cell(name.replace(/^test\//, '')));
    return `| \`${property}\` | ${list.join('<br>')}${more} | ${where.join(', ')} |`;
  });
  return `# Conformance to runtime-spec 1.3

Every property of config.json and of the features structure, the tests that prove it by looking at a container (or, for
what is refused or ignored, at the answer), and the lanes where they passed: \`host\` is the machine's own kernel and
cgroups, \`v2\`, \`systemd\`, \`v1\` and \`systemd-v1\` are Debian's stock kernel with cgroup v2, with systemd, with cgroup v1,
and with systemd on cgroup v1. \`rootless\`: in one of them also, or only, as an ordinary user.

The properties are those of the schema that the library parses with; the tests name them in \`proves\`. Written by
\`node scripts/conformance.mjs --write\` from the results of the lanes.

| Property | Tests | Lanes |
| --- | --- | --- |
${lines.join('\n')}
`;
}

// The page without its last column: where a test ran is the business of the run.
const withoutLanes = text => text.replaceAll(/ \| [^|\n]* \|$/gm, ' |');

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { write: { type: 'boolean', default: false } },
  });
  const given =
    positionals.length > 0 ? positionals : lanes.map(lane => join(root, `build/results/${lane}.json`));
  const records = given.filter(existsSync).map(path => JSON.parse(readFileSync(path, 'utf8')));
  const list = await properties();
  const { rows, unknown } = joinResults(list, records);
  const problems = unknown.map(claim => `no such property: ${claim}`);
  for (const [property, tests] of rows)
    if (tests.size === 0) problems.push(`no test that passed proves ${property}`);
  const text = document(rows);
  if (values.write) writeFileSync(page, text);
  else if (!existsSync(page) || withoutLanes(readFileSync(page, 'utf8')) !== withoutLanes(text))
    console.log('note: docs/spec-conformance.md names other tests: node scripts/conformance.mjs --write');
  for (const problem of problems) console.log(`problem: ${problem}`);
  console.log(`conformance: ${rows.size} properties, ${problems.length} problems`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
