/** Options that checkpoint and restore share, in runc's words. */
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import type { RestoreOptions } from '../index.ts';
import type { Invocation } from './invocation.ts';

const modes = ['soft', 'full', 'strict', 'ignore'] as const;
type Mode = (typeof modes)[number];
const isMode = (word: string): word is Mode => (modes as readonly string[]).includes(word);

/** Relative paths are those of where nrunc was called: to be asked before the bundle is entered. */
export function criuOptions({ options }: Invocation): RestoreOptions {
  const imagePath = resolve(options.text('image-path') || 'checkpoint');
  // runc makes it, whichever of the two commands it is.
  mkdirSync(imagePath, { recursive: true, mode: 0o700 });
  const workPath = options.text('work-path') ?? '';
  const mode = options.text('manage-cgroups-mode') ?? '';
  if (mode !== '' && !isMode(mode)) throw new Error('Invalid manage-cgroups-mode value');
  // The only one that CRIU can leave empty, and always left so: networks are the engine's.
  for (const name of options.list('empty-ns'))
    if (name !== 'network') throw new Error(`namespace ${JSON.stringify(name)} is not supported`);
  return {
    imagePath,
    ...(workPath === '' ? {} : { workPath: resolve(workPath) }),
    ...(isMode(mode) ? { manageCgroupsMode: mode } : {}),
    tcpEstablished: options.flag('tcp-established'),
    extUnixSk: options.flag('ext-unix-sk'),
    shellJob: options.flag('shell-job'),
    fileLocks: options.flag('file-locks'),
    autoDedup: options.flag('auto-dedup'),
    lazyPages: options.flag('lazy-pages'),
  };
}
