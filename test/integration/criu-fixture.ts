/** A container whose process counts into a file of a bind mount: that it goes on is seen from outside. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import type { TestContext } from '../harness/test.ts';
import { type Fixture, fixture } from './fixture.ts';

export const requires = ['root', 'criu', 'iptables'] as const;

/** A program that writes 1, 2, 3 … to a file of its bind mount; another bind is read-only. */
export const counting = 'i=0; while :; do i=$((i+1)); echo $i >/data/count; usleep 20000; done';

export interface Counter {
  /** The directory behind /data. */
  readonly data: string;
  count(): number;
  /** A number that was not there before. */
  further(): Promise<number>;
}

/** The number in a file that a container writes; 0: none yet. */
export function counterOf(data: string): Counter {
  const file = join(data, 'count');
  const count = (): number => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0);
  const further = (): Promise<number> => {
    const from = count();
    return eventually('the count goes on', () => (count() > from ? count() : undefined));
  };
  return { data, count, further };
}

export interface CountingFixture extends Fixture, Counter {}

/** /data and /fixed are binds. @param patch What else is in the configuration */
export async function counter(
  t: TestContext,
  patch: (spec: SpecDocument) => void = () => undefined,
): Promise<CountingFixture> {
  const data = makeDirectory(t);
  const fixed = makeDirectory(t);
  writeFileSync(join(fixed, 'word'), 'fixed');
  const on = await fixture(t, {
    writable: true,
    patch: spec => {
      spec.mounts.push(
        { destination: '/data', type: 'bind', source: data, options: ['bind', 'rw'] },
        { destination: '/fixed', type: 'bind', source: fixed, options: ['bind', 'ro', 'nosuid'] },
      );
      patch(spec);
      return undefined;
    },
  });
  return { ...on, ...counterOf(data) };
}
