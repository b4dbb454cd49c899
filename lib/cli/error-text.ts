/** One sentence from an error and its causes, joined by ": " as Go does; Node's own system errors in Go's form. */

interface SystemError extends Error {
  readonly code: string;
  readonly syscall: string;
  readonly path?: string;
  readonly dest?: string;
}

function isSystemError(error: Error): error is SystemError {
  return 'syscall' in error && typeof error.syscall === 'string' && 'code' in error && 'errno' in error;
}

/** `ENOENT: no such file or directory, open '/x'` → `open /x: no such file or directory`. */
function sentence(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (isSystemError(error)) {
    const words = /^[A-Z0-9]+: ([^,]+),/.exec(error.message)?.[1];
    // chdir(2) as Node reports it: from path to dest.
    const path = error.dest ?? error.path;
    if (words !== undefined)
      return `${path === undefined ? error.syscall : `${error.syscall} ${path}`}: ${words}`;
  }
  return error.message;
}

/** `container does not exist`, `executable file not found in $PATH` and their like are whole sentences that callers compare. */
const isRefusal = (error: Error): boolean =>
  /^ERR_(CONTAINER_|EXEC_|CWD$|SPEC_NOT_FOUND$)/.test(errorCode(error) ?? '');

export function errorText(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && at !== null; ) {
    const text = sentence(at);
    // A wrapper that adds only data repeats the sentence of what it wraps.
    if (text !== '' && parts.at(-1) !== text) parts.push(text);
    at = at instanceof Error && !isRefusal(at) ? at.cause : undefined;
  }
  return parts.join(': ');
}

/** The hint of the innermost error that has one. */
export function errorHint(error: unknown): string | undefined {
  let hint: string | undefined;
  for (let at: unknown = error; at instanceof Error; at = at.cause)
    if ('hint' in at && typeof at.hint === 'string') hint = at.hint;
  return hint;
}

/** The stable code of a library error. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
