/**
 * D-Bus values and messages as bytes. Only what talking to systemd needs: little endian, no file descriptors.
 * D-Bus Specification, "Marshaling (Wire Format)" and "Message Protocol".
 */
export interface Variant {
  readonly signature: string;
  readonly value: Value;
}
/** Arrays, structs and dict entries are arrays; `ay` is a Uint8Array; `x` and `t` are bigint. */
export type Value = boolean | number | bigint | string | Uint8Array | Variant | readonly Value[];

export interface Message {
  /** 1 call, 2 reply, 3 error, 4 signal. */
  readonly type: number;
  readonly serial: number;
  readonly replySerial?: number | undefined;
  readonly path?: string | undefined;
  readonly interface?: string | undefined;
  readonly member?: string | undefined;
  readonly errorName?: string | undefined;
  readonly destination?: string | undefined;
  readonly signature: string;
  readonly body: readonly Value[];
}

/** What a peer sent is not D-Bus as specified: the connection cannot go on. */
export class WireError extends Error {}

/** The specification's limits; a peer that passes them is broken. */
const maxMessageBytes = 128 * 1024 * 1024;
const maxArrayBytes = 64 * 1024 * 1024;
const maxDepth = 64;
const fixedHeaderBytes = 16;

const alignments: { readonly [code: string]: number } = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, b: 4, i: 4, u: 4, s: 4, o: 4, a: 4 },
  ...{ x: 8, t: 8, d: 8, '(': 8, '{': 8 },
};
const alignmentOf = (type: string): number => {
  const alignment = alignments[type[0] ?? ''];
  if (alignment === undefined) throw new WireError(`no such type: ${JSON.stringify(type)}`);
  return alignment;
};

/** The single complete types of a signature: `sa(sv)u` → `s`, `a(sv)`, `u`. */
export function splitSignature(signature: string): string[] {
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = endOfType(signature, at, 0);
    types.push(signature.slice(at, end));
    at = end;
  }
  return types;
}

function endOfType(signature: string, start: number, depth: number): number {
  const code = signature[start];
  if (depth > maxDepth) throw new WireError('signature is nested too deeply');
  if (code === 'a') return endOfType(signature, start + 1, depth + 1);
  if (code !== '(' && code !== '{') {
    alignmentOf(code ?? '');
    return start + 1;
  }
  const close = code === '(' ? ')' : '}';
  let at = start + 1;
  while (signature[at] !== close) {
    if (at >= signature.length) throw new WireError(`no ${close} in ${JSON.stringify(signature)}`);
    at = endOfType(signature, at, depth + 1);
  }
  return at + 1;
}

const isVariant = (value: Value): value is Variant =>
  typeof value === 'object' && !Array.isArray(value) && 'signature' in value;
const listOf = (value: Value): readonly Value[] => {
  if (!Array.isArray(value)) throw new WireError('a container value must be an array');
  return value;
};

const bigint = (value: Value): bigint =>
  BigInt(typeof value === 'number' ? Math.trunc(value) : String(value));

class Writer {
  #bytes = Buffer.alloc(512);
  length = 0;

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }
  #room(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > this.#bytes.length) {
      const larger = Buffer.alloc(this.length * 2);
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    return at;
  }
  align(to: number): void {
    this.#room((to - (this.length % to)) % to);
  }
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }
  setUint32(at: number, value: number): void {
    this.#bytes.writeUInt32LE(value, at);
  }
  #text(text: string, long: boolean): void {
    const bytes = Buffer.from(text, 'utf8');
    // A NUL would end the string for the peer and not for us.
    if (bytes.includes(0)) throw new WireError('a string must not hold NUL');
    if (long) this.write('u', bytes.length);
    else this.write('y', bytes.length);
    this.raw(bytes);
    this.#room(1);
  }

  write(type: string, value: Value): void {
    this.align(alignmentOf(type));
    const code = type[0] ?? '';
    if (code === 's' || code === 'o') this.#text(String(value), true);
    else if (code === 'g') this.#text(String(value), false);
    else if (code === 'v') this.#variant(value);
    else if (code === 'a') this.#array(type.slice(1), value);
    else if (code === '(' || code === '{')
      for (const [index, item] of splitSignature(type.slice(1, -1)).entries())
        this.write(item, listOf(value)[index] ?? '');
    else this.#number(type, value);
  }

  #variant(value: Value): void {
    if (!isVariant(value)) throw new WireError('not a variant');
    this.#text(value.signature, false);
    this.write(value.signature, value.value);
  }

  #array(item: string, value: Value): void {
    const lengthAt = this.#room(4);
    this.align(alignmentOf(item));
    const start = this.length;
    if (item === 'y' && value instanceof Uint8Array) this.raw(value);
    else for (const each of listOf(value)) this.write(item, each);
    this.setUint32(lengthAt, this.length - start);
  }

  #number(type: string, value: Value): void {
    const at = this.#room(alignmentOf(type));
    const bytes = this.#bytes;
    const number = Number(value);
    if (type === 'y') bytes.writeUInt8(number, at);
    else if (type === 'b') bytes.writeUInt32LE(value === true ? 1 : 0, at);
    else if (type === 'n') bytes.writeInt16LE(number, at);
    else if (type === 'q') bytes.writeUInt16LE(number, at);
    else if (type === 'i') bytes.writeInt32LE(number, at);
    else if (type === 'u') bytes.writeUInt32LE(number, at);
    else if (type === 'd') bytes.writeDoubleLE(number, at);
    else if (type === 'x') bytes.writeBigInt64LE(bigint(value), at);
    else bytes.writeBigUInt64LE(bigint(value), at);
  }
}

class Reader {
  readonly #bytes: Buffer;
  at: number;
  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  #take(size: number): number {
    const at = this.at;
    if (at + size > this.#bytes.length) throw new WireError('a value goes beyond the end of its message');
    this.at += size;
    return at;
  }
  align(to: number): void {
    this.#take((to - (this.at % to)) % to);
  }
  #text(length: number): string {
    const at = this.#take(length + 1);
    return this.#bytes.toString('utf8', at, at + length);
  }

  read(type: string, depth = 0): Value {
    if (depth > maxDepth) throw new WireError('a value is nested too deeply');
    this.align(alignmentOf(type));
    const bytes = this.#bytes;
    switch (type[0]) {
      case 'y':
        return bytes.readUInt8(this.#take(1));
      case 'b':
        return bytes.readUInt32LE(this.#take(4)) !== 0;
      case 'n':
        return bytes.readInt16LE(this.#take(2));
      case 'q':
        return bytes.readUInt16LE(this.#take(2));
      case 'i':
        return bytes.readInt32LE(this.#take(4));
      case 'u':
        return bytes.readUInt32LE(this.#take(4));
      case 'x':
        return bytes.readBigInt64LE(this.#take(8));
      case 't':
        return bytes.readBigUInt64LE(this.#take(8));
      case 'd':
        return bytes.readDoubleLE(this.#take(8));
      case 's':
      case 'o':
        return this.#text(bytes.readUInt32LE(this.#take(4)));
      case 'g':
        return this.#text(bytes.readUInt8(this.#take(1)));
      case 'v': {
        const signature = this.#text(bytes.readUInt8(this.#take(1)));
        if (splitSignature(signature).length !== 1) throw new WireError('a variant must hold one value');
        return { signature, value: this.read(signature, depth + 1) };
      }
      case 'a':
        return this.#array(type.slice(1), depth);
      default:
        return splitSignature(type.slice(1, -1)).map(item => this.read(item, depth + 1));
    }
  }

  #array(item: string, depth: number): Value {
    const size = this.#bytes.readUInt32LE(this.#take(4));
    if (size > maxArrayBytes) throw new WireError('an array is too long');
    this.align(alignmentOf(item));
    const end = this.at + size;
    if (item === 'y') {
      const at = this.#take(size);
      return new Uint8Array(this.#bytes.subarray(at, end));
    }
    const values: Value[] = [];
    while (this.at < end) values.push(this.read(item, depth + 1));
    if (this.at !== end) throw new WireError('an array does not end with its last value');
    return values;
  }
}

/** Codes of the header fields, with their types. */
const fields = [
  [1, 'path', 'o'],
  [2, 'interface', 's'],
  [3, 'member', 's'],
  [4, 'errorName', 's'],
  [5, 'replySerial', 'u'],
  [6, 'destination', 's'],
] as const;
const signatureField = 8;

/** @throws {WireError} a value does not fit the signature */
export function encodeMessage(message: Message): Buffer {
  const body = new Writer();
  for (const [index, type] of splitSignature(message.signature).entries())
    body.write(type, message.body[index] ?? '');
  const head = new Writer();
  head.raw(Buffer.from(['l'.charCodeAt(0), message.type, 0, 1]));
  head.write('u', body.length);
  head.write('u', message.serial);
  const rows: Value[] = [];
  for (const [code, name, signature] of fields) {
    const value = message[name];
    if (value !== undefined) rows.push([code, { signature, value }]);
  }
  if (message.signature !== '') rows.push([signatureField, { signature: 'g', value: message.signature }]);
  head.write('a(yv)', rows);
  head.align(8);
  return Buffer.concat([head.bytes, body.bytes]);
}

/** The first message of what has been received, and its size; undefined: more bytes are needed. @throws {WireError} */
export function decodeMessage(
  bytes: Buffer,
): { readonly message: Message; readonly size: number } | undefined {
  if (bytes.length < fixedHeaderBytes) return undefined;
  // systemd and we are on one machine, and all that we run on are little endian.
  if (bytes[0] !== 'l'.charCodeAt(0) || bytes[3] !== 1)
    throw new WireError('not a D-Bus message of this machine');
  const bodyBytes = bytes.readUInt32LE(4);
  const headEnd = fixedHeaderBytes + bytes.readUInt32LE(12);
  const bodyAt = headEnd + ((8 - (headEnd % 8)) % 8);
  const size = bodyAt + bodyBytes;
  if (size > maxMessageBytes) throw new WireError('a message is too long');
  if (bytes.length < size) return undefined;
  const head = new Reader(bytes.subarray(0, bodyAt), 12);
  const found: { [name: string]: Value } = {};
  let signature = '';
  for (const row of listOf(head.read('a(yv)'))) {
    const [code, variant] = listOf(row);
    if (variant === undefined || !isVariant(variant)) throw new WireError('a header field is no variant');
    const field = fields.find(([number, , type]) => number === code && type === variant.signature);
    if (field !== undefined) found[field[1]] = variant.value;
    if (code === signatureField && variant.signature === 'g') signature = String(variant.value);
  }
  const text = (name: string): string | undefined => {
    const value = found[name];
    return typeof value === 'string' ? value : undefined;
  };
  const reader = new Reader(bytes.subarray(bodyAt, size), 0);
  const reply = found.replySerial;
  const message: Message = {
    type: bytes.readUInt8(1),
    serial: bytes.readUInt32LE(8),
    replySerial: typeof reply === 'number' ? reply : undefined,
    path: text('path'),
    interface: text('interface'),
    member: text('member'),
    errorName: text('errorName'),
    signature,
    body: splitSignature(signature).map(type => reader.read(type)),
  };
  return { message, size };
}
