/**
 * Log lines as runc writes them with logrus: `time="…" level=error msg="…"`, or one JSON object with the keys level, msg,
 * time. containerd and Podman read the last error line of the JSON log. With a log file an error goes to stderr too, as
 * a plain sentence.
 */
import { closeSync, openSync } from 'node:fs';
import { type Caller, ownProcess } from './caller.ts';
import { goJson } from './go-json.ts';

export type Level = 'debug' | 'info' | 'warning' | 'error';
export type LogFormat = 'text' | 'json';

/** RFC 3339 in local time, without fractions. */
export function rfc3339(date: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0');
  const offset = -date.getTimezoneOffset();
  const zone =
    offset === 0
      ? 'Z'
      : `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${zone}`;
}

const short: { readonly [character: string]: string } = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** strconv.Quote: what cannot be printed is escaped, other Unicode stays. */
export function goQuote(text: string): string {
  const body = text.replace(/["\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, character => {
    const known = short[character];
    if (known !== undefined) return known;
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x80) return `\\x${code.toString(16).padStart(2, '0')}`;
    if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`;
    return `\\U${code.toString(16).padStart(8, '0')}`;
  });
  return `"${body}"`;
}

/** logrus leaves a value without quotes when it has only these characters. */
const plain = (text: string): string => (/^[A-Za-z0-9\-._/@^+]+$/.test(text) ? text : goQuote(text));

export function formatLine(format: LogFormat, level: Level, message: string, time: Date): string {
  if (format === 'json') return `${goJson({ level, msg: message, time: rfc3339(time) })}\n`;
  return `time=${goQuote(rfc3339(time))} level=${level} msg=${plain(message)}\n`;
}

export interface LogOptions {
  readonly format: LogFormat;
  readonly debug: boolean;
  /** Absolute path of a file to append to; undefined: stderr. */
  readonly file: string | undefined;
  /** Default: this process. */
  readonly caller?: Caller;
}

export class Log {
  readonly debugging: boolean;
  readonly #format: LogFormat;
  readonly #fd: number | undefined;
  readonly #caller: Caller;

  /** @throws The system's error when the file cannot be opened. */
  constructor(options: LogOptions) {
    this.debugging = options.debug;
    this.#format = options.format;
    this.#caller = options.caller ?? ownProcess;
    if (options.file !== undefined) this.#fd = openSync(options.file, 'a', 0o644);
  }

  debug(message: string): void {
    if (this.debugging) this.#write('debug', message);
  }
  warning(message: string): void {
    this.#write('warning', message);
  }
  error(message: string): void {
    this.#write('error', message);
    if (this.#fd !== undefined) this.#caller.printError(`${message}\n`);
  }
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
  }

  #write(level: Level, message: string): void {
    const line = formatLine(this.#format, level, message, new Date());
    if (this.#fd === undefined) this.#caller.printError(line);
    else this.#caller.writeLog(this.#fd, line);
  }
}
