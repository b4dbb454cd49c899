/**
 * Values of `org.systemd.property.*` annotations: GVariant text (GLib, "GVariant Text Format"), as runc takes them:
 * `'text'`, `true`, `uint64 5`, `['a', 'b']`, `@as []`, `(1, 'x')`, `{'a': <5>}`.
 */
import { splitSignature, type Value, type Variant } from './wire.ts';

const typeWords: { readonly [word: string]: string } = {
  ...{ boolean: 'b', byte: 'y', int16: 'n', uint16: 'q', int32: 'i', uint32: 'u' },
  ...{ int64: 'x', uint64: 't', double: 'd', string: 's', objectpath: 'o', signature: 'g' },
};
const integerRanges: { readonly [code: string]: readonly [low: bigint, high: bigint] } = {
  y: [0n, 255n],
  n: [-(1n << 15n), (1n << 15n) - 1n],
  q: [0n, (1n << 16n) - 1n],
  i: [-(1n << 31n), (1n << 31n) - 1n],
  u: [0n, (1n << 32n) - 1n],
  x: [-(1n << 63n), (1n << 63n) - 1n],
  t: [0n, (1n << 64n) - 1n],
};
const escapes: { readonly [letter: string]: string } = {
  ...{ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
};

export class VariantTextError extends Error {}

class Parser {
  readonly #text: string;
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }

  whole(): Variant {
    const variant = this.#value(undefined);
    this.#blank();
    if (this.#at < this.#text.length) this.#fail('more text behind the value');
    return variant;
  }

  #fail(why: string): never {
    throw new VariantTextError(`${why} at character ${this.#at} of ${JSON.stringify(this.#text)}`);
  }
  #blank(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at += 1;
  }
  #skip(mark: string): boolean {
    this.#blank();
    if (!this.#text.startsWith(mark, this.#at)) return false;
    this.#at += mark.length;
    return true;
  }
  #expect(mark: string): void {
    if (!this.#skip(mark)) this.#fail(`expected ${mark}`);
  }
  #match(pattern: RegExp): string | undefined {
    this.#blank();
    const found = new RegExp(pattern, 'y');
    found.lastIndex = this.#at;
    const text = found.exec(this.#text)?.[0];
    if (text !== undefined) this.#at += text.length;
    return text;
  }

  /** @param wanted The type that what is around it asks for. */
  #value(wanted: string | undefined): Variant {
    if (this.#skip('@')) {
      const signature = this.#match(/[a-z(){}]+/) ?? '';
      if (this.#types(signature).length !== 1) this.#fail('expected one type');
      return this.#value(signature);
    }
    this.#blank();
    const next = this.#text[this.#at] ?? '';
    if (next === "'" || next === '"') return this.#string(wanted);
    if (next === '[') return this.#array(wanted);
    if (next === '(') return this.#tuple(wanted);
    if (next === '{') return this.#dictionary(wanted);
    if (next === '<') return this.#variant();
    const word = this.#match(/[a-z][a-z0-9]*/);
    if (word === 'true' || word === 'false') return this.#typed('b', wanted, word === 'true');
    if (word !== undefined) {
      const type = typeWords[word];
      if (type === undefined) this.#fail(`no such type: ${word}`);
      return this.#value(type);
    }
    return this.#number(wanted);
  }

  #types(signature: string): string[] {
    try {
      return splitSignature(signature);
    } catch (error) {
      return this.#fail(String(error));
    }
  }
  #typed(signature: string, wanted: string | undefined, value: Value): Variant {
    if (wanted !== undefined && wanted !== signature) this.#fail(`expected a value of type ${wanted}`);
    return { signature, value };
  }

  #string(wanted: string | undefined): Variant {
    const quote = this.#text[this.#at];
    this.#at += 1;
    let value = '';
    for (;;) {
      const letter = this.#text[this.#at];
      if (letter === undefined) this.#fail('the string does not end');
      this.#at += 1;
      if (letter === quote) break;
      value += letter === '\\' ? this.#escape() : letter;
    }
    const type = wanted === 'o' || wanted === 'g' ? wanted : 's';
    return this.#typed(type, wanted, value);
  }
  #escape(): string {
    const letter = this.#text[this.#at] ?? this.#fail('the string does not end');
    this.#at += 1;
    const size = letter === 'u' ? 4 : letter === 'U' ? 8 : 0;
    if (size === 0) return escapes[letter] ?? letter;
    const digits = this.#text.slice(this.#at, this.#at + size);
    const code = /^[0-9a-fA-F]+$/.test(digits) ? Number.parseInt(digits, 16) : -1;
    if (digits.length !== size || code < 1 || code > 0x10ffff) this.#fail('not a Unicode escape');
    this.#at += size;
    return String.fromCodePoint(code);
  }

  #number(wanted: string | undefined): Variant {
    const text = this.#match(/[+-]?(0x[0-9a-fA-F]+|[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?|[0-9]+\.?)/);
    if (text === undefined) this.#fail('expected a value');
    const whole = /^[+-]?(0x[0-9a-fA-F]+|[0-9]+)$/.test(text);
    const type = wanted ?? (whole ? 'i' : 'd');
    if (type === 'd') return this.#typed('d', wanted, Number(text));
    const range = integerRanges[type];
    if (range === undefined || !whole) this.#fail(`expected a value of type ${type}`);
    const negative = text.startsWith('-');
    const digits = text.replace(/^[+-]/, '');
    // A leading 0 is octal, as in C.
    const size = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
    const value = negative ? -size : size;
    if (value < range[0] || value > range[1]) this.#fail(`${text} does not fit type ${type}`);
    return this.#typed(type, wanted, type === 'x' || type === 't' ? value : Number(value));
  }

  #array(wanted: string | undefined): Variant {
    this.#expect('[');
    let item = wanted?.startsWith('a') ? wanted.slice(1) : undefined;
    const values: Value[] = [];
    while (!this.#skip(']')) {
      if (values.length > 0) this.#expect(',');
      const { signature, value } = this.#value(item);
      item = signature;
      values.push(value);
    }
    if (item === undefined) this.#fail('an empty array needs a type: @as []');
    return this.#typed(`a${item}`, wanted, values);
  }
  #tuple(wanted: string | undefined): Variant {
    this.#expect('(');
    const items = wanted?.startsWith('(') ? this.#types(wanted.slice(1, -1)) : [];
    const values: Variant[] = [];
    while (!this.#skip(')')) {
      if (values.length > 0) this.#expect(',');
      // (1,) is a tuple of one.
      if (values.length > 0 && this.#skip(')')) break;
      values.push(this.#value(items[values.length]));
    }
    if (values.length === 0) this.#fail('D-Bus has no empty struct');
    return this.#typed(
      `(${values.map(v => v.signature).join('')})`,
      wanted,
      values.map(v => v.value),
    );
  }
  #dictionary(wanted: string | undefined): Variant {
    this.#expect('{');
    let [key, item] = wanted?.startsWith('a{') ? this.#types(wanted.slice(2, -1)) : [];
    const values: Value[] = [];
    while (!this.#skip('}')) {
      if (values.length > 0) this.#expect(',');
      const name = this.#value(key);
      this.#expect(':');
      const value = this.#value(item);
      key = name.signature;
      item = value.signature;
      values.push([name.value, value.value]);
    }
    if (key === undefined || item === undefined) this.#fail('an empty dictionary needs a type: @a{ss} {}');
    return this.#typed(`a{${key}${item}}`, wanted, values);
  }
  #variant(): Variant {
    this.#expect('<');
    const value = this.#value(undefined);
    this.#expect('>');
    return { signature: 'v', value };
  }
}

/** @throws {VariantTextError} */
export const parseVariantText = (text: string): Variant => new Parser(text).whole();
