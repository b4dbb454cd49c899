/** Row 12 of the catalogue of runtime holes: links of all shapes, resolved by the kernel in the root and by a model. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

interface Corpus {
  readonly plant: (rootfs: string) => void;
  /** `leads`: the directory in the rootfs that the path ends in. */
  readonly paths: readonly { readonly path: string; readonly leads: string }[];
}

/** Directories `a` to `d` in one another, links of all shapes among them, and paths through them that end in a directory. */
function linkCorpus(seed: number, count: number): Corpus {
  let at = seed;
  const next = (below: number): number => {
    at = (Math.imul(at, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (at >> 8) % below;
  };
  const letters = ['a', 'b', 'c', 'd'];
  const directories = ['/t'];
  for (const one of letters) for (const two of letters) directories.push(`/t/${one}`, `/t/${one}/${two}`);
  const known = new Set(['/', ...directories]);
  const links = new Map<string, string>();
  const targets = (): string => {
    const some = directories[next(directories.length)] ?? '/t';
    const up = '../'.repeat(next(9));
    return (
      [
        some,
        `${up}${some.slice(1)}`,
        `${up}t/./a/..//b/`,
        `/../..${some}`,
        `l${next(6)}`,
        '..',
        '/',
        '/nowhere',
      ][next(8)] ?? '/'
    );
  };
  for (const directory of directories) for (let i = 0; i < 6; i++) links.set(`${directory}/l${i}`, targets());

  /** As a process in this root would resolve it, path_resolution(7); undefined: it leads to no directory. */
  const resolve = (path: string): string | undefined => {
    const rest = path.split('/');
    let here = '/';
    for (let steps = 0; rest.length > 0; steps++) {
      const name = rest.shift() ?? '';
      if (steps > 400) return undefined;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        here = here.slice(0, here.lastIndexOf('/')) || '/';
        continue;
      }
      const there = here === '/' ? `/${name}` : `${here}/${name}`;
      const target = links.get(there);
      if (target !== undefined) {
        rest.unshift(...target.split('/'));
        if (target.startsWith('/')) here = '/';
      } else if (known.has(there)) here = there;
      else return undefined;
    }
    return here.startsWith('/t') ? here : undefined;
  };
  const paths: { path: string; leads: string }[] = [];
  while (paths.length < count) {
    let path = directories[next(directories.length)] ?? '/t';
    // No "..": a destination is cleaned as text first, as runc does. The links have enough of them.
    for (let i = next(5); i >= 0; i--)
      path += `/${[`l${next(6)}`, `l${next(6)}`, `l${next(6)}`, '.', letters[next(4)]][next(5)]}`;
    const leads = resolve(path);
    // The kernel gives up behind 40 links (ELOOP), which a model need not count when there are fewer components.
    if (leads !== undefined && path.includes('/l')) paths.push({ path, leads });
  }
  const plant = (rootfs: string): void => {
    for (const directory of directories) {
      mkdirSync(join(rootfs, directory), { recursive: true });
      writeFileSync(join(rootfs, directory, 'file'), '');
    }
    for (const [name, target] of links) symlinkSync(target, join(rootfs, name));
  };
  return { plant, paths };
}

test('row 12: CVE-2019-18837: 500 paths of links lead where a model says, or nowhere', {
  requires: ['root'],
  timeoutMs: 120_000,
}, async t => {
  const marks = makeDirectory(t);
  const { plant, paths } = linkCorpus(12, 500);
  for (let from = 0; from < paths.length; from += 100) {
    const some = paths.slice(from, from + 100);
    const on = await fixture(t, {
      writable: true,
      patch: spec => ({
        ...spec,
        mounts: [
          ...spec.mounts,
          ...some.map(({ path }, index) => {
            writeFileSync(join(marks, String(index)), `${index} `);
            return {
              destination: `${path}/file`,
              source: join(marks, String(index)),
              type: 'bind',
              options: ['bind'],
            };
          }),
        ],
      }),
    });
    plant(join(on.bundle, 'rootfs'));
    const last = new Map(some.map(({ leads }, index) => [leads, index]));
    const wanted = [...last].sort(([a], [b]) => (a < b ? -1 : 1));
    const output = await on.output(`cat ${wanted.map(([directory]) => `${directory}/file`).join(' ')}`);
    assert.equal(output, wanted.map(([, index]) => `${index} `).join(''));
  }
});
