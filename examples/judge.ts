/**
 * A judge of programs that nobody trusts, as of a programming contest: source and input go in, a verdict comes out. Each case
 * runs in a sandbox of its own, so that one case can neither see nor hinder another.
 *
 * In a program of yours the import is from 'libcontainer/sandbox'.
 */
import { type SandboxResult, sandbox } from '../lib/sandbox/sandbox.ts';

export type Verdict =
  | 'accepted'
  | 'wrong answer'
  | 'time limit'
  | 'memory limit'
  | 'output limit'
  | 'runtime error';

export interface Case {
  readonly input: string;
  readonly output: string;
}

export interface Judged {
  readonly verdict: Verdict;
  readonly cpuMs: number | undefined;
  readonly peakMemoryBytes: number | undefined;
}

/** Of one case: a wall clock beside the processor's, since a program that sleeps uses none. */
const limits = {
  timeoutMs: 2000,
  memoryBytes: 64 << 20,
  pids: 16,
  maxOutputBytes: 64 << 10,
  tmpBytes: 1 << 20,
};

function verdictOf(result: SandboxResult, expected: string): Verdict {
  if (result.oomKilled) return 'memory limit';
  if (result.outputExceeded) return 'output limit';
  if (result.timedOut) return 'time limit';
  if (result.exitCode !== 0) return 'runtime error';
  return result.stdout.trimEnd() === expected.trimEnd() ? 'accepted' : 'wrong answer';
}

/** @param argv Interpreter and its arguments; the source is its last one. */
export async function judge(
  argv: readonly string[],
  source: string,
  cases: readonly Case[],
): Promise<Judged[]> {
  return Promise.all(
    cases.map(async ({ input, output }) => {
      const result = await sandbox([...argv, source], { input, ...limits });
      const { cpuMs, peakMemoryBytes } = result.resourceUsage ?? {};
      return { verdict: verdictOf(result, output), cpuMs, peakMemoryBytes };
    }),
  );
}
