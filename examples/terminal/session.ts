/**
 * A shell in a container of its own, joined to a WebSocket: binary messages are what is typed and printed, text messages are
 * new sizes of the window as JSON. The container ends with the connection, and with this process however that ends.
 */
import { finished } from 'node:stream/promises';
import type { RawData, WebSocket } from 'ws';
import { type Config, type Container, type ExitStatus, type LinuxFactory, Process } from '../../lib/index.ts';

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** So much may be on its way to a browser before the shell's output waits. */
const mostUnsentBytes = 256 << 10;
/** Of a close of the connection; 1000 to 1015 are the protocol's, RFC 6455 section 7.4. */
const endedCode = 4000;
const failedCode = 4001;

export async function openSession(
  factory: LinuxFactory,
  config: Config,
  id: string,
  socket: WebSocket,
  size: Size,
): Promise<void> {
  const ended = new AbortController();
  socket.once('close', () => ended.abort());
  socket.on('error', () => socket.terminate());
  // What is typed before the shell runs is not lost: nothing is read from the socket until then.
  socket.pause();
  const process = new Process({
    args: ['/bin/sh', '-l'],
    terminal: true,
    consoleSize: { width: size.columns, height: size.rows },
  });
  let container: Container | undefined;
  try {
    container = await factory.create(id, config, { lifetime: 'owner' });
    await container.run(process, { signal: ended.signal });
    const { signal } = ended;
    const [{ status }] = await Promise.all([container.wait({ signal }), join(process, socket, signal)]);
    socket.close(endedCode, howItEnded(status));
  } catch (error) {
    // The browser is gone: that is how most sessions end.
    if (!ended.signal.aborted) socket.close(failedCode, String(error).slice(0, 100));
  } finally {
    await container?.destroy({ force: true });
  }
}

function howItEnded(status: ExitStatus): string {
  if (status.kind === 'exited') return `status ${status.code}`;
  return status.kind === 'signaled' ? `signal ${status.signal}` : 'nobody knows how';
}

/** Resolves when everything that was printed is on its way. */
async function join(process: Process, socket: WebSocket, signal: AbortSignal): Promise<void> {
  const { terminal } = process;
  if (terminal === undefined) return;
  const end = finished(terminal, { writable: false, signal });
  terminal.on('data', (chunk: Buffer) => {
    socket.send(chunk, () => {
      if (socket.bufferedAmount < mostUnsentBytes) terminal.resume();
    });
    if (socket.bufferedAmount >= mostUnsentBytes) terminal.pause();
  });
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (!isBinary) {
      const size = readSize(String(data));
      if (size !== undefined) process.resize(size);
    } else if (!terminal.write(data)) {
      socket.pause();
      terminal.once('drain', () => socket.resume());
    }
  });
  socket.resume();
  await end;
}

const isSide = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 1000;

/** Undefined: not a size. */
export function readSize(text: string): Size | undefined {
  try {
    const { columns, rows } = JSON.parse(text) as { columns?: unknown; rows?: unknown };
    return isSide(columns) && isSide(rows) ? { columns, rows } : undefined;
  } catch {
    return undefined;
  }
}
