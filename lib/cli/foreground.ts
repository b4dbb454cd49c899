/**
 * A process that nrunc stays with: streams, terminal in raw mode, window size, signals. tty_ioctl(4), termios(3).
 */
import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { isatty, ReadStream, WriteStream } from 'node:tty';
import { type ExitStatus, Process, type ProcessOptions } from '../index.ts';

/**
 * What a process cannot catch, what is about ourselves (children, a closed stream, faults of this program), and SIGWINCH,
 * which has a meaning of its own here.
 */
const notForwarded = new Set([
  'SIGKILL',
  'SIGSTOP',
  'SIGCHLD',
  'SIGPIPE',
  'SIGURG',
  'SIGWINCH',
  'SIGSEGV',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGPROF',
  'SIGVTALRM',
]);

export class Foreground implements Disposable {
  readonly process: Process;
  readonly #terminal: HostTerminal | undefined;
  readonly #signals: string[] = [];
  #running = false;
  readonly #listeners = new Map<NodeJS.Signals, () => void>();
  readonly #outputs: Promise<void>[] = [];

  /** Signals are caught from now on, so that none that arrives during the start is lost. */
  constructor(options: ProcessOptions) {
    this.#terminal = options.terminal === true ? new HostTerminal() : undefined;
    // A terminal of the host's must not be in the container: TIOCSTI types into it (CVE-2017-5226). Pipes instead.
    this.process = new Process(
      options.terminal === true
        ? borrowed(options, this.#terminal)
        : {
            ...options,
            stdin: isatty(0) ? 'pipe' : 'inherit',
            stdout: isatty(1) ? 'pipe' : 'inherit',
            stderr: isatty(2) ? 'pipe' : 'inherit',
          },
    );
    for (const name of new Set(Object.keys(constants.signals) as NodeJS.Signals[])) {
      if (notForwarded.has(name)) continue;
      this.#listen(name, () => this.#forward(name));
    }
  }

  /** The process executes: its streams exist, and signals that waited are delivered. */
  started(): void {
    this.#running = true;
    for (const name of this.#signals.splice(0)) this.#forward(name);
    const { stdin, stdout, stderr, terminal } = this.process;
    if (terminal !== undefined && this.#terminal !== undefined) {
      this.#terminal.attach();
      process.stdin.pipe(terminal);
      this.#outputs.push(copied(terminal, process.stdout));
      this.#listen('SIGWINCH', () => this.#resize());
      this.#resize();
    }
    if (stdin !== null && stdin !== undefined) {
      // A program that ends without reading its input is no error of ours.
      stdin.on('error', () => undefined);
      process.stdin.pipe(stdin);
    }
    if (stdout !== undefined) this.#outputs.push(copied(stdout, process.stdout));
    if (stderr !== undefined) this.#outputs.push(copied(stderr, process.stderr));
  }

  /** Its status, when all that it wrote is written. */
  async ended(): Promise<ExitStatus> {
    const status = await this.process.wait();
    await Promise.all(this.#outputs);
    return status;
  }

  /** The terminal is as it was before. */
  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) process.removeListener(name, listener);
    this.#listeners.clear();
    this.#terminal?.restore();
  }

  #listen(name: NodeJS.Signals, listener: () => void): void {
    try {
      process.on(name, listener);
      this.#listeners.set(name, listener);
    } catch {
      // libuv cannot catch this one; it then does to us what it does by default.
    }
  }

  #forward(name: string): void {
    if (!this.#running) {
      this.#signals.push(name);
      return;
    }
    try {
      this.process.signal(name);
    } catch {
      // It has just ended: nobody is left to be told.
    }
  }

  #resize(): void {
    const size = this.#terminal?.size();
    if (size === undefined) return;
    try {
      this.process.resize(size);
    } catch {
      // As above.
    }
  }
}

/** Of the size of ours, which makes the \r of a new line itself. */
function borrowed(options: ProcessOptions, terminal: HostTerminal | undefined): ProcessOptions {
  const size = terminal?.size();
  return {
    ...options,
    plainNewlines: true,
    ...(size === undefined || options.consoleSize !== undefined
      ? {}
      : { consoleSize: { width: size.columns, height: size.rows } }),
  };
}

function copied(from: NodeJS.ReadableStream, to: NodeJS.WritableStream): Promise<void> {
  return new Promise(resolve => {
    from.on('data', (chunk: Buffer) => {
      if (!to.write(chunk)) {
        from.pause();
        to.once('drain', () => from.resume());
      }
    });
    from.once('end', () => resolve());
    from.once('close', () => resolve());
    from.once('error', () => resolve());
    // Nobody reads any more: the program finds out when it writes to us no longer.
    to.once('error', () => resolve());
  });
}

/** The terminal that nrunc runs in: one of its streams, else the controlling terminal. */
class HostTerminal {
  readonly #fd: number;
  readonly #opened: boolean;
  #input: ReadStream | undefined;

  /** @throws the system's error when there is none. */
  constructor() {
    const own = [2, 1, 0].find(fd => isatty(fd));
    this.#opened = own === undefined;
    this.#fd = own ?? openSync('/dev/tty', 'r+');
  }

  /** Asks the kernel each time: Node follows the size of process.stdout only. */
  size(): { readonly columns: number; readonly rows: number } | undefined {
    const probe = new WriteStream(this.#fd);
    const [columns, rows] = probe.getWindowSize();
    probe.destroy();
    return columns > 0 ? { columns, rows } : undefined;
  }

  attach(): void {
    this.#input =
      this.#fd === 0 && process.stdin instanceof ReadStream ? process.stdin : new ReadStream(this.#fd);
    this.#input.setRawMode(true);
  }

  restore(): void {
    this.#input?.setRawMode(false);
    if (this.#opened) closeSync(this.#fd);
  }
}
