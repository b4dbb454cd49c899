/** The file that says what is to be done, and the keys of its steps: hashes of all that a step's result depends on. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';

const step = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  /** Files and directories beside the pipeline's file → where they go. They are there before `run`. */
  copy: z.record(z.string(), z.string().startsWith('/')).default({}),
  /** For `sh -e -c`. */
  run: z.string().default(':'),
  env: z.record(z.string(), z.string()).default({}),
  cwd: z.string().startsWith('/').default('/'),
  timeoutMs: z.int().positive().default(600_000),
  memoryBytes: z
    .int()
    .positive()
    .default(512 << 20),
  pids: z.int().positive().default(256),
  cpus: z.number().positive().optional(),
});
const pipeline = z.strictObject({
  /** Directory. Default: one of the host's static busybox. */
  rootfs: z.string().optional(),
  steps: z.array(step).min(1),
});

export type Step = z.infer<typeof step>;
export type Pipeline = z.infer<typeof pipeline>;

/** Paths come back absolute. */
export async function readPipeline(path: string): Promise<Pipeline> {
  const parsed = pipeline.safeParse(JSON.parse(await readFile(path, 'utf8')));
  if (!parsed.success) throw new Error(`${path}: ${z.prettifyError(parsed.error)}`);
  const { rootfs, steps } = parsed.data;
  const absolute = (file: string): string => resolve(dirname(path), file);
  return {
    ...(rootfs === undefined ? {} : { rootfs: absolute(rootfs) }),
    steps: steps.map(one => ({
      ...one,
      copy: Object.fromEntries(Object.entries(one.copy).map(([from, to]) => [absolute(from), to])),
    })),
  };
}

/**
 * The same key: the same result. Limits are not in it: they decide whether there is one.
 * @param below Key of the step before, or of the root file system.
 */
export async function stepKey(below: string, { copy, run, env, cwd }: Step): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([below, run, Object.entries(env).sort(), cwd]));
  for (const [from, to] of Object.entries(copy)) {
    hash.update(`\0${to}\0`);
    await addTree(hash, from, '');
  }
  return hash.digest('hex');
}

export async function treeKey(directory: string): Promise<string> {
  const hash = createHash('sha256');
  await addTree(hash, directory, '');
  return hash.digest('hex');
}

/** Names, modes and contents; each preceded by its size, so that no two trees give the same stream. */
async function addTree(hash: Hash, path: string, name: string): Promise<void> {
  const stat = await lstat(path);
  const target = stat.isSymbolicLink() ? await readlink(path) : '';
  hash.update(JSON.stringify([name, stat.mode, stat.isFile() ? stat.size : 0, target]));
  if (stat.isFile()) for await (const chunk of createReadStream(path)) hash.update(chunk);
  if (!stat.isDirectory()) return;
  const names = (await readdir(path)).sort();
  hash.update(JSON.stringify(names.length));
  for (const one of names) await addTree(hash, join(path, one), one);
}
