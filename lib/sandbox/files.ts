/**
 * Files of a sandbox. They are read and written by processes inside of it, as its user: whatever a hostile program makes of
 * its paths (links, mounts, a FIFO), nothing outside of the sandbox can be reached.
 */
import { LibcontainerError } from '../index.ts';
import type { RunOptions, SandboxResult } from './run.ts';

export type Runner = (argv: readonly string[], options: RunOptions) => Promise<SandboxResult<Buffer>>;

const defaultMaxBytes = 64 << 20;
const defaultTimeoutMs = 60_000;

export class SandboxFiles {
  readonly #run: Runner;

  /** @internal */
  constructor(run: Runner) {
    this.#run = run;
  }

  /**
   * Contents of a file.
   * @param path Absolute, inside.
   * @param options `maxBytes`: a larger file is an error. Default 64 MiB.
   * @throws {LibcontainerError} ERR_SANDBOX_FILE with what `cat` said, or when it is larger
   */
  async read(
    path: string,
    options: { readonly maxBytes?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Buffer> {
    const { maxBytes = defaultMaxBytes } = options;
    const result = await this.#do(['cat', '--', absolute(path)], path, {
      ...options,
      maxOutputBytes: maxBytes,
    });
    return result.stdout;
  }

  /** `read()` as UTF-8. */
  async readText(
    path: string,
    options: { readonly maxBytes?: number; readonly signal?: AbortSignal } = {},
  ): Promise<string> {
    return (await this.read(path, options)).toString('utf8');
  }

  /**
   * Writes a file, and makes the directories above it.
   * @param path Absolute, inside: below /tmp, the home directory or a writable mount.
   * @param options `mode` of the file, for example 0o755. Default 0644.
   * @throws {LibcontainerError} ERR_SANDBOX_FILE
   */
  async write(
    path: string,
    data: string | Uint8Array,
    options: { readonly mode?: number; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const mode = (options.mode ?? 0o644).toString(8);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's own
    const script = 'mkdir -p -- "${1%/*}/" && cat >"$1" && chmod -- "$2" "$1"';
    const { signal } = options;
    await this.#do(['sh', '-c', script, 'sh', absolute(path), mode], path, {
      input: data,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Removes a file, or a directory with what is in it; one that is not there is no error. @throws {LibcontainerError} ERR_SANDBOX_FILE */
  async remove(path: string, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#do(['rm', '-rf', '--', absolute(path)], path, options);
  }

  async #do(argv: readonly string[], path: string, options: RunOptions): Promise<SandboxResult<Buffer>> {
    const result = await this.#run(argv, { timeoutMs: defaultTimeoutMs, ...options });
    if (result.exitCode === 0 && !result.outputExceeded) return result;
    const said = result.stderr.toString('utf8').trim();
    const why = result.outputExceeded ? 'larger than maxBytes' : result.timedOut ? 'no answer in time' : said;
    throw new LibcontainerError('ERR_SANDBOX_FILE', { detail: `${path}: ${why}` });
  }
}

function absolute(path: string): string {
  if (path.startsWith('/') && !path.includes('\0')) return path;
  throw new LibcontainerError('ERR_ARGUMENT', { detail: `${JSON.stringify(path)} is no absolute path` });
}
