/**
 * The form of a case of the command line's conformance suite (cli-conformance.test.ts): a command and what every runtime
 * with runc's command line answers to it. What holds for nrunc is tried with runc too.
 */
export interface Case {
  readonly name: string;
  /** `@id`, `@bundle`, `@root` and `@dir` (a scratch directory of the case) are put in. */
  readonly words: readonly string[];
  readonly code: number;
  /** The whole output, or a pattern in it. Default: nothing. */
  readonly stdout?: string | RegExp;
  /** The message of the last error, or a pattern in it. Default: stderr is empty. */
  readonly error?: string | RegExp;
  /** The content of stdin. */
  readonly input?: string;
  /** Looked at afterwards: what is wrong, or undefined. */
  readonly look?: (seen: Seen) => string | undefined;
  /** Words 2 to `share.end` go into one command with those of the other cases of this name; each by itself if that fails. */
  readonly share?: { readonly name: string; readonly end: number };
  /** Why runc 1.1 does not answer so: it is not asked. */
  readonly notRunc?: string;
}

export interface Seen {
  readonly directory: string;
  readonly stdout: string;
  readonly stderr: string;
  /** File of the container's cgroup, by controller. */
  cgroupFile(controller: string, file: string): string;
}

export const since12 = 'runc has it since 1.2';
export const since13 = 'runc has it since 1.3';
export const later = 'runc has it since 1.4 or later';
export const own = 'a command of our own';

/** A pattern that matches this text as it is. */
export const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
