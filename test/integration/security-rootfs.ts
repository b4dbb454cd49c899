/** Rows of security.test.ts: what a hostile image plants in its rootfs, and what becomes of it. */
import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import type { TestContext } from '../harness/test.ts';

export interface Canary {
  readonly path: string;
  check(): void;
}

/** A directory of the host with one of each thing that was once removed, made or changed by a runtime. */
export function makeCanary(t: TestContext): Canary {
  const path = makeDirectory(t);
  mkdirSync(join(path, 'pts'));
  mkdirSync(join(path, 'bin'));
  for (const name of ['ptmx', 'null', 'file', 'bin/sh'])
    writeFileSync(join(path, name), 'host', { mode: 0o755 });
  const look = (): string[] =>
    ['', ...readdirSync(path, { recursive: true, encoding: 'utf8' })].sort().map(name => {
      const at = join(path, name);
      const { ino, mode, uid, gid, mtimeMs, size } = lstatSync(at);
      return [name, ino, mode, uid, gid, mtimeMs, size].join(' ');
    });
  const before = look();
  return { path, check: () => assert.deepEqual(look(), before, 'the canary on the host was touched') };
}

/** Descriptors of host directories, as a daemon has them. */
export function hostDescriptors(t: TestContext, path: string): void {
  const fds = Array.from({ length: 12 }, () => openSync(path, 'r'));
  t.after(() => {
    for (const fd of fds) closeSync(fd);
  });
}

export const link = (path: string, target: string): void => {
  rmSync(path, { recursive: true, force: true });
  symlinkSync(target, path);
};
const without = (spec: SpecDocument, ...destinations: string[]): SpecDocument => ({
  ...spec,
  mounts: spec.mounts.filter(({ destination }) => !destinations.includes(destination)),
});
export const withMount = (
  spec: SpecDocument,
  destination: string,
  source: string,
  type = 'bind',
): SpecDocument => ({
  ...spec,
  mounts: [...spec.mounts, { destination, source, type, ...(type === 'bind' ? { options: ['bind'] } : {}) }],
});
const noDev = ['/dev', '/dev/pts', '/dev/shm', '/dev/mqueue'];

interface Hostile {
  readonly plant: (rootfs: string, canary: string) => void;
  readonly patch?: (spec: SpecDocument, canary: string) => SpecDocument;
  readonly terminal?: true;
  /** Code of the refusal; else it starts, contained. */
  readonly refused?: RegExp;
  /** The step that must refuse it: a later one would refuse it for another reason. */
  readonly step?: string;
}

export const rootfsRows: { readonly [row: string]: Hostile } = {
  '2, 36: CVE-2015-3627, CVE-2026-88265: /dev/null is a link, and nothing is mounted on /dev': {
    plant: (rootfs, canary) => link(join(rootfs, 'dev/null'), join(canary, 'null')),
    patch: spec => without(spec, ...noDev),
    refused: /^ERR_/,
    step: 'device',
  },
  '24, 41: CVE-2025-31133, CVE-2025-62161: /dev/null is a file': {
    plant: rootfs => {
      rmSync(join(rootfs, 'dev/null'), { force: true });
      writeFileSync(join(rootfs, 'dev/null'), '');
    },
    patch: spec => without(spec, ...noDev),
    // An ordinary user may make no device: the host's is bound over the file, and what is masked gets that one.
    ...(process.geteuid?.() === 0 ? { refused: /^ERR_/, step: 'device' } : {}),
  },
  '25, 35: CVE-2025-52565, CVE-2026-88264: /dev/console is a link': {
    plant: (rootfs, canary) => {
      link(join(rootfs, 'dev/console'), join(canary, 'new'));
      mkdirSync(join(rootfs, 'dev/pts'), { recursive: true });
    },
    patch: spec => without(spec, '/dev', '/dev/shm', '/dev/mqueue'),
    terminal: true,
    refused: /^ERR_ESCAPE$/,
  },
  '25: CVE-2025-52565: /dev/pts is a link to a directory with a ptmx': {
    plant: (rootfs, canary) => link(join(rootfs, 'dev/pts'), canary),
    patch: spec => without(spec, ...noDev),
    terminal: true,
    refused: /^ERR_CONSOLE$/,
  },
  '25: CVE-2025-52565: /dev/pts/ptmx is a file of the image': {
    plant: rootfs => {
      mkdirSync(join(rootfs, 'dev/pts'), { recursive: true });
      writeFileSync(join(rootfs, 'dev/pts/ptmx'), '');
    },
    patch: spec => without(spec, ...noDev),
    terminal: true,
    refused: /^ERR_CONSOLE$/,
  },
  '27, 33: CVE-2026-41579, CVE-2026-47766: /dev is an absolute link': {
    plant: (rootfs, canary) => link(join(rootfs, 'dev'), canary),
    patch: spec => without(spec, ...noDev),
  },
  '27: CVE-2026-41579: /dev is a relative link, with the usual mounts': {
    plant: (rootfs, canary) => link(join(rootfs, 'dev'), `../../../../../..${canary}`),
  },
  '10, 20, 40: CVE-2019-19921, CVE-2023-28642, CVE-2025-54867: /proc is a link': {
    plant: (rootfs, canary) => link(join(rootfs, 'proc'), canary),
    refused: /^ERR_ESCAPE$/,
  },
  '10: CVE-2019-19921: /sys is a link inside': {
    plant: rootfs => link(join(rootfs, 'sys'), '/tmp'),
    refused: /^ERR_ESCAPE$/,
  },
  '9, 42: CVE-2019-16884, CVE-2025-62596: a volume over /proc': {
    plant: () => undefined,
    patch: (spec, canary) => withMount(spec, '/proc', canary),
    refused: /^ERR_ESCAPE$/,
  },
  '4, 26: CVE-2015-3631, CVE-2025-52881: tmpfs over /proc/sys by way of a link': {
    plant: rootfs => symlinkSync('/proc/sys', join(rootfs, 'volume')),
    patch: spec => withMount(spec, '/volume/kernel', 'tmpfs', 'tmpfs'),
    refused: /^ERR_ESCAPE$/,
  },
  '3, 15, 22: CVE-2015-3629, CVE-2021-30465, CVE-2024-45310: a mount point five levels below a link': {
    plant: (rootfs, canary) => symlinkSync(canary, join(rootfs, 'data')),
    patch: (spec, canary) => withMount(spec, '/data/a/b/c/d', canary),
  },
  '31: CVE-2025-24965: the file of a bind mount is a link': {
    plant: (rootfs, canary) => link(join(rootfs, 'etc/resolv.conf'), join(canary, 'new')),
    patch: (spec, canary) => withMount(spec, '/etc/resolv.conf', join(canary, 'file')),
  },
  'N1: CVE-2026-87766: the working directory is below a link': {
    plant: (rootfs, canary) => symlinkSync(canary, join(rootfs, 'srv')),
    patch: spec => ({ ...spec, process: { ...spec.process, cwd: '/srv/here' } }),
  },
};
