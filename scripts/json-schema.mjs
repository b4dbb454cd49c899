// config.schema.json: the schema that the library parses config.json with, as JSON Schema for editors.
// `node scripts/json-schema.mjs --write` writes it; the check is part of `npm run check`.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const file = join(root, 'config.schema.json');

export async function jsonSchemaText() {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    stdin: {
      contents: `import { toJSONSchema } from 'zod/mini';
        import { specSchema } from './lib/config/spec.ts';
        export const schema = toJSONSchema(specSchema, { io: 'input', unrepresentable: 'any' });`,
      resolveDir: root,
    },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
  });
  const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`;
  const { schema } = await import(url);
  const { $schema, ...rest } = schema;
  const document = {
    $schema,
    title: 'config.json of an OCI bundle, runtime-spec 1.3',
    ...rest,
  };
  return `${JSON.stringify(document, undefined, 1)}\n`;
}

export async function checkJsonSchema() {
  const current = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return current === (await jsonSchemaText())
    ? []
    : ['config.schema.json is not the schema of lib/config/spec.ts: node scripts/json-schema.mjs --write'];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--write')) writeFileSync(file, await jsonSchemaText());
  const problems = await checkJsonSchema();
  for (const problem of problems) console.log(`problem: ${problem}`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
