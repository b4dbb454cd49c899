/** The file that says which services there are. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';

const definition = z.strictObject({
  args: z.array(z.string()).min(1),
  /** Directory, relative to the file. Default: one of the host's static busybox. */
  rootfs: z.string().optional(),
  env: z.record(z.string(), z.string()).default({}),
  cwd: z.string().startsWith('/').default('/'),
  restart: z.enum(['never', 'on-failure', 'always']).default('always'),
  /** Before the first restart; each further one waits twice as long, at most 30 s. */
  backoffMs: z.int().positive().default(500),
  stopSignal: z.string().default('TERM'),
  /** Then it is killed. */
  stopTimeoutMs: z.int().positive().default(10_000),
  memoryBytes: z.int().positive().optional(),
  pids: z.int().positive().optional(),
  cpus: z.number().positive().optional(),
  network: z.enum(['own', 'host']).default('own'),
});
const document = z.strictObject({
  services: z.record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/), definition),
});

export type Definition = z.infer<typeof definition>;

export async function readDefinitions(path: string): Promise<Map<string, Definition>> {
  const parsed = document.safeParse(JSON.parse(await readFile(path, 'utf8')));
  if (!parsed.success) throw new Error(`${path}: ${z.prettifyError(parsed.error)}`);
  return new Map(
    Object.entries(parsed.data.services).map(([name, { rootfs, ...rest }]) => [
      name,
      { ...rest, ...(rootfs === undefined ? {} : { rootfs: resolve(dirname(path), rootfs) }) },
    ]),
  );
}
