/**
 * JSON as Go's encoding/json writes it, byte for byte: HTML characters escaped, map keys in order when asked, bigint as
 * plain digits. Callers of runc parse with every language, some with patterns.
 */
export type GoJson =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly GoJson[]
  | { readonly [name: string]: GoJson | undefined };

const escapes: { readonly [character: string]: string } = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

function goText(text: string): string {
  return (
    JSON.stringify(text)
      // Go has short forms for \n, \r and \t only.
      .replace(/\\./g, pair => (pair === '\\b' ? '\\u0008' : pair === '\\f' ? '\\u000c' : pair))
      .replace(/[<>&\u2028\u2029]/g, character => escapes[character] ?? character)
      // A lone surrogate has no UTF-8: Go writes the replacement character.
      .replace(/\\ud[89a-f][0-9a-f]{2}/gi, '\\ufffd')
  );
}

/** @param indent One level of indentation; '' for one line. */
export function goJson(value: GoJson, indent = '', level = 0): string {
  if (typeof value === 'string') return goText(value);
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const list = Array.isArray(value);
  const parts = list
    ? value.map((item: GoJson) => goJson(item, indent, level + 1))
    : Object.entries(value as { readonly [name: string]: GoJson | undefined }).flatMap(([name, item]) =>
        item === undefined
          ? []
          : [`${goText(name)}:${indent === '' ? '' : ' '}${goJson(item, indent, level + 1)}`],
      );
  const [open, close] = list ? ['[', ']'] : ['{', '}'];
  if (parts.length === 0) return open + close;
  if (indent === '') return open + parts.join(',') + close;
  const inner = indent.repeat(level + 1);
  return `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent.repeat(level)}${close}`;
}

/** A Go map: its keys in byte order; undefined (left out) when it is empty. */
export function goMap<T extends GoJson>(
  map: { readonly [name: string]: T } | undefined,
): { readonly [name: string]: T } | undefined {
  const entries = Object.entries(map ?? {});
  if (entries.length === 0) return undefined;
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** `omitempty` of a number. */
export function unlessZero<T extends number | bigint>(value: T): T | undefined {
  return value === 0 || value === 0n ? undefined : value;
}
