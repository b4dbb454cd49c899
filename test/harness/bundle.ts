/** Bundles over the shared test rootfs (build/rootfs), state roots and names that are gone at the end of a test. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from './requirements.ts';
import { defaultSpec, type SpecDocument } from './spec.ts';
import type { TestContext } from './test.ts';

export const rootfs = join(projectRoot, 'build/rootfs');
export type { SpecDocument } from './spec.ts';

export interface BundleOptions {
  /** Merged into the default `process` section; terminal is false and args are ['/bin/true'] unless given. */
  readonly process?: { readonly [property: string]: unknown };
  /** Changes the whole document (or returns another) before it is written. */
  readonly patch?: (spec: SpecDocument) => SpecDocument | undefined;
  /** True: `<bundle>/rootfs` is a copy of the rootfs that the test may write to. Default: the shared one, read-only. */
  readonly writable?: boolean;
}

/** A bundle directory with config.json; removed at the end of the test. Returns its path. */
export function makeBundle(t: TestContext, options: BundleOptions = {}): string {
  const bundle = makeDirectory(t);
  const spec = defaultSpec(rootfs);
  Object.assign(spec.process, options.process);
  if (options.writable === true) {
    cpSync(rootfs, join(bundle, 'rootfs'), { recursive: true, verbatimSymlinks: true });
    spec.root = { path: 'rootfs', readonly: false };
  }
  const document = options.patch?.(spec) ?? spec;
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(document, undefined, 2));
  return bundle;
}

/** A temporary directory, removed at the end of the test. */
export function makeDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'libcontainer-test-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

let count = 0;

/** A container id that nobody else uses. */
export function containerId(word = 'test'): string {
  count += 1;
  return `${word}-${process.pid}-${count}`;
}

/** Another run on the same machine may remove the parent between our two calls; it is then made again. */
function makeStateDirectory(): string {
  if (process.geteuid?.() !== 0) return mkdtempSync(join(tmpdir(), 'libcontainer-test-state-'));
  for (let tries = 1; ; tries += 1) {
    mkdirSync('/run/libcontainer-test', { recursive: true, mode: 0o711 });
    try {
      return mkdtempSync('/run/libcontainer-test/');
    } catch (error) {
      if (tries === 10) throw error;
    }
  }
}

/** A state root on tmpfs; the test fails when a container is left in it. */
export function makeStateRoot(t: TestContext): string {
  const directory = makeStateDirectory();
  t.after(() => {
    const left = existsSync(directory)
      ? readdirSync(directory, { withFileTypes: true }).filter(e => e.isDirectory())
      : [];
    rmSync(directory, { recursive: true, force: true });
    try {
      if (directory.startsWith('/run/libcontainer-test/')) rmdirSync('/run/libcontainer-test');
    } catch (error) {
      if (
        !(
          error instanceof Error &&
          'code' in error &&
          ['ENOTEMPTY', 'ENOENT', 'EBUSY'].includes(String(error.code))
        )
      )
        throw error;
    }
    if (left.length > 0)
      throw new Error(`state directories left in the state root: ${left.map(e => e.name).join(', ')}`);
  });
  return directory;
}
