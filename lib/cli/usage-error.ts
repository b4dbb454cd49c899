/** A command line that cannot be understood: help is printed with it, and the exit code is 1. */
export class UsageError extends Error {
  /** Whether the complaint stands in the "Incorrect Usage" line too (an option), or only in the log (a count). */
  readonly inline: boolean;
  constructor(message: string, inline = true) {
    super(message);
    this.name = 'UsageError';
    this.inline = inline;
  }
}
