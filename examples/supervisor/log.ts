/**
 * The output of a service: a file that the container itself writes to, so that it has somewhere to write while no daemon is
 * there, and the last lines of it in memory, read as they come.
 */
import { type FSWatcher, watch } from 'node:fs';
import { copyFile, type FileHandle, open, truncate } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';

const keptLines = 500;
const longestLine = 4096;
/** Then it begins anew, and what was there is in `<file>.1`. */
const maxBytes = 8 << 20;
/** What of an existing file is read at first. */
const tailBytes = 64 << 10;

export class Log {
  /** The last of them, oldest first. */
  readonly lines: string[] = [];
  readonly #path: string;
  readonly #writer: FileHandle;
  readonly #reader: FileHandle;
  readonly #watcher: FSWatcher;
  readonly #heard: (line: string) => void;
  readonly #buffer = Buffer.alloc(64 << 10);
  readonly #decoder = new StringDecoder();
  #offset: number;
  #rest = '';
  #isNew = false;
  #reading: Promise<void> | undefined;

  private constructor(
    path: string,
    handles: readonly [FileHandle, FileHandle],
    offset: number,
    heard: (line: string) => void,
  ) {
    this.#path = path;
    [this.#writer, this.#reader] = handles;
    this.#offset = offset;
    this.#heard = heard;
    this.#watcher = watch(path, { persistent: false }, () => this.#wake());
  }

  /** @param heard Of each line that is written from now on. */
  static async open(path: string, heard: (line: string) => void): Promise<Log> {
    const writer = await open(path, 'a', 0o600);
    const reader = await open(path, 'r');
    const { size } = await reader.stat();
    let isOld = true;
    const tell = (line: string): void => {
      if (!isOld) heard(line);
    };
    const log = new Log(path, [writer, reader], Math.max(0, size - tailBytes), tell);
    log.#wake();
    await log.#reading;
    isOld = false;
    return log;
  }

  /** For stdout and stderr: opened to append, so that writers do not overwrite each other, nor a file that was truncated. */
  get fd(): number {
    return this.#writer.fd;
  }

  async close(): Promise<void> {
    this.#watcher.close();
    this.#wake();
    await this.#reading;
    await Promise.all([this.#writer.close(), this.#reader.close()]);
  }

  #wake(): void {
    this.#isNew = true;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
  }

  async #read(): Promise<void> {
    while (this.#isNew) {
      this.#isNew = false;
      for (;;) {
        const { bytesRead } = await this.#reader.read(this.#buffer, 0, this.#buffer.length, this.#offset);
        if (bytesRead === 0) break;
        this.#offset += bytesRead;
        this.#take(this.#decoder.write(this.#buffer.subarray(0, bytesRead)));
      }
      if (this.#offset > maxBytes) await this.#startAnew();
    }
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    // A program that never ends its line must not fill our memory.
    if (this.#rest.length > longestLine) {
      lines.push(this.#rest);
      this.#rest = '';
    }
    for (const line of lines) {
      const short = line.slice(0, longestLine);
      this.lines.push(short);
      this.#heard(short);
    }
    this.lines.splice(0, Math.max(0, this.lines.length - keptLines));
  }

  /** The container keeps its descriptor, so the file stays and is emptied; lines of that very moment may be lost. */
  async #startAnew(): Promise<void> {
    await copyFile(this.#path, `${this.#path}.1`);
    await truncate(this.#path);
    this.#offset = 0;
  }
}
