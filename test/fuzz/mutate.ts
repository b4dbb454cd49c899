/**
 * A seeded mutation fuzzer for the parsers in TypeScript: inputs of the corpus, cut, doubled, joined, with bytes and words
 * that break parsers. A refusal is an error of ours; anything else that is thrown, more than two seconds, or a changed
 * Object.prototype is a crash and is written beside the corpus.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LibcontainerError } from '../../lib/errors.ts';
import { type Target, targets } from './targets.ts';

export { targets };

const words = [
  '__proto__',
  'constructor',
  '\0',
  '..',
  '/',
  '-1',
  '0',
  '4294967295',
  '4294967296',
  '1e400',
  'null',
  '{}',
  '[]',
  '""',
  '\\u0000',
  '\u{1f600}',
  'NaN',
  'rbind',
  ',',
  '=',
  ':',
  '--',
  'true',
  '9'.repeat(40),
  '['.repeat(2000),
  'a'.repeat(5000),
];
const prototype = JSON.stringify(Object.getOwnPropertyNames(Object.prototype));

export interface FuzzOptions {
  /** Of processor time. */
  readonly seconds: number;
  readonly seed: number;
  readonly output: string;
}

function random(seed: number): (below: number) => number {
  let at = seed >>> 0;
  return below => {
    at = (Math.imul(at ^ (at >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return (at ^ (at >>> 13)) % Math.max(1, below);
  };
}

function mutate(corpus: readonly string[], next: (below: number) => number): string {
  let text = corpus[next(corpus.length)] ?? '';
  for (let times = 1 + next(6); times > 0; times--) {
    const at = next(text.length + 1);
    const end = at + next(Math.min(60, text.length - at + 1));
    const piece = [
      '',
      words[next(words.length)] ?? '',
      String.fromCharCode(next(256)),
      text.slice(at, end).repeat(2 + next(3)),
      corpus[next(corpus.length)]?.slice(at, end) ?? '',
    ][next(5)];
    text = text.slice(0, at) + piece + text.slice([at, end][next(2)]);
  }
  return text.slice(0, 100_000);
}

const spent = (since: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(since);
  return user + system;
};

/** Undefined: the input did no harm. */
export function harm(target: Target, input: string): string | undefined {
  const started = process.cpuUsage();
  try {
    target(input);
  } catch (error) {
    if (!(error instanceof LibcontainerError) && !(error instanceof Error && error.name === 'UsageError'))
      return error instanceof Error ? (error.stack ?? String(error)) : String(error);
  }
  if (spent(started) > 2_000_000) return 'more than two seconds';
  return JSON.stringify(Object.getOwnPropertyNames(Object.prototype)) === prototype
    ? undefined
    : 'Object.prototype was changed';
}

export const corpusOf = (name: string): string[] => {
  const directory = join('test/fuzz/corpus', name);
  return readdirSync(directory).map(file => readFileSync(join(directory, file), 'utf8'));
};

export async function fuzz(name: string, { seconds, seed, output }: FuzzOptions): Promise<boolean> {
  const target = targets[name];
  if (target === undefined) throw new Error(`fuzz: no target ${name}`);
  const corpus = corpusOf(name);
  const next = random(seed);
  const started = process.cpuUsage();
  let runs = 0;
  for (const seedInput of corpus) {
    const problem = harm(target, seedInput);
    if (problem !== undefined) throw new Error(`fuzz: ${name}: an input of the corpus: ${problem}`);
  }
  while (spent(started) < seconds * 1_000_000) {
    const input = mutate(corpus, next);
    const problem = harm(target, input);
    runs += 1;
    if (problem === undefined) continue;
    mkdirSync(output, { recursive: true });
    const file = join(output, `${name}-crash-${runs}`);
    writeFileSync(file, input);
    console.log(`fuzz: ${name}: ${problem}\nthe input is in ${file}`);
    return false;
  }
  console.log(`fuzz: ${name}: ${runs} inputs in ${seconds} s of processor time, seed ${seed}: no crash`);
  return true;
}
