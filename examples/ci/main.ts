/** node scripts/example.mjs ci [PIPELINE.json] [--directory DIR]: ends with the exit code of the first step that fails. */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readPipeline } from './pipeline.ts';
import { runPipeline } from './runner.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { directory: { type: 'string', default: '/var/lib/ci-example' } },
});
const [file = fileURLToPath(new URL('pipeline.json', import.meta.url))] = positionals;
const results = await runPipeline(await readPipeline(file), {
  directory: values.directory,
  onOutput: (_, chunk) => process.stdout.write(chunk),
  onResult: ({ step, outcome, exitCode, durationMs }) => {
    const how = outcome === 'cached' ? '' : ` in ${(durationMs / 1000).toFixed(2)} s`;
    console.log(
      `${exitCode === 0 ? '✓' : '✗'} ${step}: ${outcome}${how}${exitCode === 0 ? '' : `, status ${exitCode}`}`,
    );
  },
});
process.exitCode = results.at(-1)?.exitCode ?? 0;
