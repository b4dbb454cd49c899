/** node scripts/example.mjs supervisor [SERVICES.json] [--directory DIR] [--port N] [--sample-ms N] */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { newToken } from '../local-server.ts';
import { dashboard } from './dashboard.ts';
import { readDefinitions } from './definition.ts';
import { Supervisor } from './supervisor.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    directory: { type: 'string', default: '/var/lib/supervisor-example' },
    port: { type: 'string', default: '7070' },
    'sample-ms': { type: 'string', default: '1000' },
  },
});
const [file = fileURLToPath(new URL('services.json', import.meta.url))] = positionals;
const directory = resolve(values.directory);

/** The same one after a restart, so that an open dashboard goes on. */
function tokenIn(path: string): string {
  try {
    writeFileSync(path, newToken(), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  return readFileSync(path, 'utf8');
}

await mkdir(directory, { recursive: true, mode: 0o700 });
const supervisor = await Supervisor.open(await readDefinitions(file), {
  directory,
  sampleMs: Number(values['sample-ms']),
});
const server = dashboard(supervisor, tokenIn(join(directory, 'token')));
console.log(await server.listen(Number(values.port)));

let isEnding = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, async () => {
    // The second one is for who is impatient: the containers then live on.
    if (isEnding) process.exit(1);
    isEnding = true;
    await supervisor.close();
    await server.close();
    process.exit(0);
  });
