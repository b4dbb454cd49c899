/** Exit codes of the command line: the process's own or 128 + signal; main.ts has those of failures. */
import { type ExitStatus, signalNumber } from '../index.ts';

export function exitCode(status: ExitStatus): number {
  // Whoever asks must not take it for success.
  if (status.kind === 'unknown') return 255;
  return status.kind === 'exited' ? status.code : 128 + signalNumber(status.signal);
}
