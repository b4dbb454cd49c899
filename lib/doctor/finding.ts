/** One answer of the doctor. */
export type Verdict = 'ok' | 'warn' | 'fail';

export interface Finding {
  /** Stable, for programs: `namespace.pid`, `cgroup.controllers`. */
  readonly name: string;
  /** `fail`: containers cannot be run as this user; `warn`: something that some containers need is missing. */
  readonly verdict: Verdict;
  /** What was seen. */
  readonly detail: string;
  /** What to do about it; with every `warn` and `fail`. */
  readonly fix?: string;
}

export const ok = (name: string, detail: string): Finding => ({ name, verdict: 'ok', detail });
export const warn = (name: string, detail: string, fix: string): Finding => ({
  name,
  verdict: 'warn',
  detail,
  fix,
});
export const fail = (name: string, detail: string, fix: string): Finding => ({
  name,
  verdict: 'fail',
  detail,
  fix,
});

/** An error and its causes in one line. */
export function reason(error: unknown): string {
  const parts: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) parts.push(at.message.split('\n')[0] ?? '');
  return parts.join(': ') || String(error);
}
