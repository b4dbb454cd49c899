/**
 * Reads options as Go's flag package and urfave/cli do, because containerd, conmon and scripts are written for that:
 * one dash or two, `-name value` or `-name=value`, a value may begin with a dash (`--cpu-quota -1`), no grouped letters.
 * node:util parseArgs differs in each of these.
 */
import { UsageError } from './usage-error.ts';

export interface OptionSpec {
  readonly name: string;
  readonly alias?: string;
  readonly kind: 'flag' | 'text' | 'list' | 'number' | 'duration';
  readonly help: string;
  /** Text of the default in help. */
  readonly shown?: string;
  /** Works, but is not in help. */
  readonly hidden?: boolean;
}

/** `mixed`: options may follow arguments; `first`: from the first argument on all is the command's own (exec, ps). */
export type Order = 'mixed' | 'first';

export class Options {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }
  has(name: string): boolean {
    return this.#values.has(name);
  }
  flag(name: string): boolean {
    return this.#values.get(name)?.at(-1) === 'true';
  }
  /** Undefined when it was not given; the last one wins. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }
  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }
  /** 0 when it was not given. */
  number(name: string): number {
    return Number(this.#values.get(name)?.at(-1) ?? 0);
  }
  /** Milliseconds. */
  durationMs(name: string): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseDurationMs(text);
  }
}

export interface ParsedArguments {
  readonly options: Options;
  readonly arguments: readonly string[];
}

const booleans: { readonly [text: string]: string } = Object.fromEntries([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map(text => [text, 'true']),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map(text => [text, 'false']),
]);

const durationUnitsMs: { readonly [unit: string]: number } = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's durations: `5s`, `1m30s`, `500ms`, `0`. Undefined for anything else. */
export function parseDurationMs(text: string): number | undefined {
  if (text === '0') return 0;
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)$/.exec(text);
  if (match === null) return undefined;
  let total = 0;
  for (const [, number, unit] of (match[2] ?? '').matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g))
    total += Number(number) * (durationUnitsMs[unit ?? ''] ?? 0);
  return match[1] === '-' ? -total : total;
}

const isNumber = (text: string): boolean => /^[+-]?\d+$/.test(text) && Number.isSafeInteger(Number(text));

/** The text that is kept for an option, or a complaint in Go's words. */
function checkedValue(option: OptionSpec, name: string, text: string): string {
  const quoted = JSON.stringify(text);
  switch (option.kind) {
    case 'flag': {
      const value = booleans[text];
      if (value === undefined)
        throw new UsageError(`invalid boolean value ${quoted} for -${name}: parse error`);
      return value;
    }
    case 'number':
      if (!isNumber(text)) throw new UsageError(`invalid value ${quoted} for flag -${name}: parse error`);
      return text;
    case 'duration':
      if (parseDurationMs(text) === undefined)
        throw new UsageError(`invalid value ${quoted} for flag -${name}: parse error`);
      return text;
    default:
      return text;
  }
}

export const helpOption: OptionSpec = { name: 'help', alias: 'h', kind: 'flag', help: 'show help' };

/** @throws {UsageError} */
export function parseOptions(
  specs: readonly OptionSpec[],
  words: readonly string[],
  order: Order,
): ParsedArguments {
  const byName = new Map<string, OptionSpec>();
  for (const spec of [...specs, helpOption])
    for (const name of [spec.name, spec.alias]) if (name !== undefined) byName.set(name, spec);
  const values = new Map<string, string[]>();
  const rest: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') {
      rest.push(...words.slice(at + 1));
      break;
    }
    const match = word === '-' ? null : /^--?([^=]*)(?:=(.*))?$/s.exec(word);
    const name = match?.[1] ?? '';
    const option = byName.get(name);
    // What is no option of ours counts as an argument once one was seen: `kill ID -9`.
    if (match === null || (option === undefined && rest.length > 0)) {
      rest.push(word);
      if (order === 'first') {
        rest.push(...words.slice(at + 1));
        break;
      }
      continue;
    }
    if (name === '' || name.startsWith('-')) throw new UsageError(`bad flag syntax: ${word}`);
    if (option === undefined) throw new UsageError(`flag provided but not defined: -${name}`);
    let value = match[2];
    if (value === undefined && option.kind === 'flag') value = 'true';
    if (value === undefined) {
      at += 1;
      value = words[at];
      if (value === undefined) throw new UsageError(`flag needs an argument: -${name}`);
    }
    const kept = checkedValue(option, name, value);
    if (option.kind === 'list') values.set(option.name, [...(values.get(option.name) ?? []), kept]);
    else values.set(option.name, [kept]);
  }
  return { options: new Options(values), arguments: rest };
}
