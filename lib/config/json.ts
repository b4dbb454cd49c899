/**
 * Reads JSON (RFC 8259) as config.json needs it: an error has line, column and a caret, integers beyond 2^53 stay exact
 * (bigint: RLIM_INFINITY is 2^64 - 1), `null` members are left out as Go's decoder does for runc, and depth is bounded so
 * that a hostile file cannot overflow the stack. JSON.parse gives none of the four.
 */
import { ConfigError } from '../errors.ts';

export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Json[]
  | { readonly [name: string]: Json };

/** No real configuration is nested a quarter as deep. */
const maxDepth = 128;

const escapes: { readonly [letter: string]: string } = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

const numberPattern = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
/** Runs that need no look at single characters; a control character must be escaped. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these in a string
const plainText = /[^"\\\u0000-\u001f]*/y;
const whiteSpace = /[ \t\r\n]*/y;

/**
 * @param name What messages call the document.
 * @throws {ConfigError} ERR_SPEC_JSON with `line` and `column` (from 1; a column is a UTF-16 unit).
 */
export function parseJson(text: string, name = 'config.json'): Json {
  return new Parser(text, name).document();
}

class Parser {
  readonly #text: string;
  readonly #name: string;
  #at = 0;

  constructor(text: string, name: string) {
    this.#text = text;
    this.#name = name;
  }

  document(): Json {
    this.#space();
    if (this.#at === this.#text.length) throw this.#error('the document is empty');
    const value = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) throw this.#error('nothing may follow the document');
    return value;
  }

  #value(depth: number): Json {
    if (depth > maxDepth) throw this.#error(`nested deeper than ${maxDepth} levels`);
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): Json {
    const members: { [name: string]: Json } = {};
    this.#at += 1;
    this.#space();
    if (this.#take('}')) return members;
    for (;;) {
      if (this.#text[this.#at] !== '"') {
        throw this.#error(`expected a property name in double quotes${this.#found()}`);
      }
      const name = this.#string();
      this.#space();
      if (!this.#take(':')) throw this.#error(`expected ":" after the property name${this.#found()}`);
      this.#space();
      const value = this.#value(depth + 1);
      // Defined, not assigned: "__proto__" must become a property like any other.
      if (value !== null) {
        Object.defineProperty(members, name, { value, enumerable: true, writable: true, configurable: true });
      }
      this.#space();
      if (this.#take('}')) return members;
      if (!this.#take(',')) throw this.#error(`expected "," or "}"${this.#found()}`);
      this.#space();
      if (this.#text[this.#at] === '}') throw this.#error('a comma may not end an object');
    }
  }

  #array(depth: number): Json {
    const items: Json[] = [];
    this.#at += 1;
    this.#space();
    if (this.#take(']')) return items;
    for (;;) {
      items.push(this.#value(depth + 1));
      this.#space();
      if (this.#take(']')) return items;
      if (!this.#take(',')) throw this.#error(`expected "," or "]"${this.#found()}`);
      this.#space();
      if (this.#text[this.#at] === ']') throw this.#error('a comma may not end an array');
    }
  }

  #string(): string {
    const start = this.#at;
    this.#at += 1;
    let value = '';
    for (;;) {
      value += this.#match(plainText) ?? '';
      const next = this.#text[this.#at];
      if (next === '"') {
        this.#at += 1;
        return value;
      }
      if (next === undefined || next === '\n' || next === '\r') {
        this.#at = start;
        throw this.#error('this string has no end');
      }
      if (next !== '\\') throw this.#error('a control character in a string must be escaped');
      value += this.#escape();
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? '';
    const plain = escapes[letter];
    if (plain !== undefined) {
      this.#at += 2;
      return plain;
    }
    const digits = this.#text.slice(this.#at + 2, this.#at + 6);
    if (letter !== 'u' || !/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#error('invalid escape in a string');
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  #number(): number | bigint {
    const start = this.#at;
    numberPattern.lastIndex = start;
    const found = numberPattern.exec(this.#text);
    if (found === null) throw this.#error(`expected a value${this.#found()}`);
    const digits = found[0];
    this.#at += digits.length;
    const next = this.#text[this.#at];
    if (next !== undefined && /[0-9A-Za-z_.+-]/.test(next)) {
      this.#at = start;
      throw this.#error('this is not a number');
    }
    const value = Number(digits);
    const integer = found[1] === undefined && found[2] === undefined;
    if (!Number.isFinite(value)) {
      this.#at = start;
      throw this.#error('this number is too large');
    }
    return integer && !Number.isSafeInteger(value) ? BigInt(digits) : value;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#error(`expected a value${this.#found()}`);
    this.#at += word.length;
    return value;
  }

  #space(): void {
    this.#match(whiteSpace);
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #found(): string {
    const next = this.#text.codePointAt(this.#at);
    if (next === undefined) return ', but the document ends here';
    if (next === 0xfeff) return ', found a byte order mark';
    return `, found ${JSON.stringify(String.fromCodePoint(next))}`;
  }

  #error(reason: string): ConfigError {
    const before = this.#text.slice(0, this.#at);
    const lineStart = before.lastIndexOf('\n') + 1;
    const line = before.split('\n').length;
    const column = this.#at - lineStart + 1;
    const message = `${this.#name} is not valid JSON: line ${line}, column ${column}: ${reason}`;
    return new ConfigError('ERR_SPEC_JSON', {
      message: `${message}\n${caret(this.#text, lineStart, column)}`,
      line,
      column,
    });
  }
}

/** The line and a caret below the column; a long line (a minified document) is cut around it. */
function caret(text: string, lineStart: number, column: number): string {
  const newline = text.indexOf('\n', lineStart);
  const whole = text.slice(lineStart, newline < 0 ? undefined : newline).replaceAll(/[\t\r]/g, ' ');
  const from = Math.max(0, column - 1 - 60);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what is shown must not steer the terminal
  const shown = whole.slice(from, from + 100).replaceAll(/[\u0000-\u001f\u007f]/g, '?');
  return `  ${shown}\n  ${' '.repeat(column - 1 - from)}^`;
}
