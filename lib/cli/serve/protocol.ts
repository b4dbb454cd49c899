/**
 * What the front (addon/front/main.cc) and the server say to one another over a SOCK_SEQPACKET socket. First the request, with
 * descriptors 0 to 2 of the caller and a socket for clones (addon/sys/monitor_protocol.h); then packets of one letter and
 * its data.
 */
import { isUtf8 } from 'node:buffer';
import { version } from '../version.ts';

export interface Request {
  readonly cwd: string;
  readonly words: readonly string[];
  readonly env: { readonly [name: string]: string };
}

const protocol = 1;
const headBytes = 12;

/** Undefined: of a front of another version, or with words that are not UTF-8 and would become others. */
export function parseRequest(data: Buffer): Request | undefined {
  if (data.length < headBytes || data.readUInt32LE(0) !== protocol) return undefined;
  const count = data.readUInt32LE(4);
  const text = data.subarray(headBytes);
  if (!isUtf8(text)) return undefined;
  const [front, cwd = '', ...rest] = text.toString().split('\0').slice(0, -1);
  if (front !== version || rest.length !== count + data.readUInt32LE(8)) return undefined;
  const env: { [name: string]: string } = {};
  for (const entry of rest.slice(count)) {
    const at = entry.indexOf('=');
    if (at > 0) env[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return { cwd, words: rest.slice(0, count), env };
}

export const accepted = Buffer.from('A');
export const declined = Buffer.from('D');
export const working = Buffer.from('W');
/** The front's answer to `accepted`. */
export const go = 'G';

const textBytes = 32 * 1024;

/** Text for descriptor 1 (`O`) or 2 (`E`). */
export function* textFrames(letter: 'O' | 'E', text: string): Generator<Buffer> {
  const data = Buffer.from(text);
  for (let at = 0; at < data.length; at += textBytes)
    yield Buffer.concat([Buffer.from(letter), data.subarray(at, at + textBytes)]);
}

/** @param kept The process that stays a child of the front; 0: none. */
export function endFrame(code: number, kept: number): Buffer {
  const frame = Buffer.alloc(9);
  frame.write('X');
  frame.writeInt32LE(code, 1);
  frame.writeInt32LE(kept, 5);
  return frame;
}
