/** What a start did, step by step, and what each step took. Kept in a file, so that a daemon after this one can show it. */
import { readFile } from 'node:fs/promises';
import type { explainPlan } from '../../lib/index.ts';

type ExplainedStep = ReturnType<typeof explainPlan>['steps'][number];

export interface StartReport {
  /** Of `container.run()`, seen from here: the clone, the steps in init, the execve. */
  readonly durationMs: number;
  readonly steps: readonly (ExplainedStep & { readonly durationNs: number })[];
}

export async function readReport(path: string): Promise<StartReport | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as StartReport;
  } catch {
    // The daemon before us was killed between the start and its report.
    return undefined;
  }
}
