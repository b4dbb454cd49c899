/**
 * One connection to a D-Bus server on a UNIX socket: a bus, or systemd's private socket, which speaks the same without a
 * bus in between. D-Bus Specification, "Authentication Protocol"; dbus-daemon(1).
 */
import { connect, type Socket } from 'node:net';
import { decodeMessage, encodeMessage, type Message, type Value, WireError } from './wire.ts';

/** An error reply. */
export class BusError extends Error {
  /** `org.freedesktop.systemd1.NoSuchUnit` */
  readonly errorName: string;
  constructor(errorName: string, message: string) {
    super(message === '' ? errorName : message);
    this.errorName = errorName;
  }
}
/** The connection could not be made, has ended, or does not answer. */
export class BusLost extends Error {}

export interface BusCall {
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly destination: string;
  readonly signature?: string;
  readonly body?: readonly Value[];
}

/** As libdbus: 25 s. */
const callTimeoutMs = 25_000;
const connectTimeoutMs = 10_000;
/** An answer in the authentication is a line of some dozen bytes. */
const maxLineBytes = 16 * 1024;

interface Pending {
  readonly resolve: (body: readonly Value[]) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class Connection {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #onSignal: (message: Message) => void;
  readonly #onEnd: (error: BusLost) => void;
  #received: Buffer = Buffer.alloc(0);
  #serial = 0;
  #ended: BusLost | undefined;

  private constructor(socket: Socket, listener: ConnectionListener) {
    this.#socket = socket;
    this.#onSignal = listener.onSignal;
    this.#onEnd = listener.onEnd;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', error => this.#end(new BusLost(error.message, { cause: error })));
    socket.on('close', () => this.#end(new BusLost('the connection was closed')));
  }

  /** @param path Of the socket; a leading NUL is an abstract one (unix(7)). @throws {BusLost} */
  static async open(path: string, listener: ConnectionListener): Promise<Connection> {
    const socket = connect({ path });
    try {
      await authenticate(socket);
    } catch (error) {
      socket.destroy();
      throw error instanceof BusLost ? error : new BusLost(errorText(error), { cause: error });
    }
    return new Connection(socket, listener);
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** Only while it is used does the connection keep the event loop alive. */
  hold(held: boolean): void {
    if (held) this.#socket.ref();
    else this.#socket.unref();
  }

  /** @throws {BusError} {BusLost} */
  call(call: BusCall): Promise<readonly Value[]> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      this.#serial += 1;
      const serial = this.#serial;
      const bytes = encodeMessage({ type: 1, serial, signature: '', body: [], ...call });
      const timer = setTimeout(() => {
        this.#pending.delete(serial);
        reject(new BusLost(`no answer to ${call.member} within ${callTimeoutMs} ms`));
      }, callTimeoutMs);
      this.#pending.set(serial, { resolve, reject, timer });
      this.#socket.write(bytes);
    });
  }

  close(): void {
    this.#end(new BusLost('the connection was closed'));
  }

  #receive(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    try {
      for (;;) {
        const next = decodeMessage(this.#received);
        if (next === undefined) return;
        this.#received = this.#received.subarray(next.size);
        this.#dispatch(next.message);
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#end(new BusLost(error.message, { cause: error }));
    }
  }

  #dispatch(message: Message): void {
    if (message.type === 4) {
      this.#onSignal(message);
      return;
    }
    const pending = this.#pending.get(message.replySerial ?? -1);
    if (pending === undefined) return;
    this.#pending.delete(message.replySerial ?? -1);
    clearTimeout(pending.timer);
    const [text] = message.body;
    if (message.type === 2) pending.resolve(message.body);
    else pending.reject(new BusError(message.errorName ?? '', typeof text === 'string' ? text : ''));
  }

  #end(error: BusLost): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#socket.destroy();
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
    this.#onEnd(error);
  }
}

export interface ConnectionListener {
  readonly onSignal: (message: Message) => void;
  readonly onEnd: (error: BusLost) => void;
}

const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * EXTERNAL: the server takes who we are from the socket (SO_PEERCRED). No uid is sent, since inside a user namespace we
 * do not know the one that the server sees; a server that wants one gets ours.
 */
async function authenticate(socket: Socket): Promise<void> {
  const lines = new Lines(socket);
  try {
    // The first byte is NUL, on which other systems hang credentials.
    let answer = await lines.ask('\0AUTH EXTERNAL');
    if (answer.startsWith('DATA')) answer = await lines.ask('DATA');
    if (answer.startsWith('REJECTED')) {
      const uid = Buffer.from(String(process.geteuid?.() ?? 0)).toString('hex');
      answer = await lines.ask(`AUTH EXTERNAL ${uid}`);
    }
    if (!answer.startsWith('OK')) throw new BusLost(`the server refuses us: ${answer}`);
    socket.write('BEGIN\r\n');
  } finally {
    lines.close();
  }
}

class Lines {
  readonly #socket: Socket;
  #text = '';
  #settle: { readonly line: (text: string) => void; readonly fail: (error: Error) => void } | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #onData = (chunk: Buffer): void => {
    this.#text += chunk.toString('latin1');
    const end = this.#text.indexOf('\r\n');
    if (end < 0 && this.#text.length > maxLineBytes)
      this.#fail(new BusLost('the server does not speak D-Bus'));
    if (end < 0) return;
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 2);
    this.#settle?.line(line);
  };
  readonly #onError = (error: Error): void => this.#fail(error);
  readonly #onClose = (): void => this.#fail(new BusLost('the server closed the connection'));

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#fail(new BusLost('the server does not answer')), connectTimeoutMs);
    socket.on('data', this.#onData);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
  }

  #fail(error: Error): void {
    this.#settle?.fail(error);
  }
  ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#settle = { line: resolve, fail: reject };
      this.#socket.write(`${line}\r\n`);
    });
  }
  close(): void {
    clearTimeout(this.#timer);
    this.#socket.off('data', this.#onData);
    this.#socket.off('error', this.#onError);
    this.#socket.off('close', this.#onClose);
    // A late error of a socket that is given up has no other listener.
    this.#socket.on('error', () => undefined);
  }
}
