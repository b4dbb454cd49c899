/**
 * libcontainer/doctor: can containers be run here, by this user, and what is missing? Each answer is an attempt, not a
 * guess from versions; nothing is left of the attempts.
 */
import { LibcontainerError } from '../errors.ts';
import { binding } from '../index.ts';
import { sandbox } from '../sandbox/sandbox.ts';
import { type Finding, fail, ok, reason } from './finding.ts';
import {
  cgroupFindings,
  criuFinding,
  featureFinding,
  idFindings,
  nodeFinding,
  prepareHostFindings,
  seccompFinding,
  securityModules,
  stateRootFinding,
  systemdFinding,
} from './host.ts';
import { kernelFinding, mountFindings, namespaceFindings, systemCalls } from './kernel.ts';

export type { Finding, Verdict } from './finding.ts';

export interface Diagnosis {
  /** No finding is a `fail`: containers can be run. */
  readonly ok: boolean;
  /** The effective user id that was asked for. */
  readonly uid: number;
  readonly findings: readonly Finding[];
}

/** Asks the kernel and the host. Takes some 100 ms. Never rejects because of what it finds. */
export async function doctor(): Promise<Diagnosis> {
  const findings = [kernelFinding(), nodeFinding()];
  try {
    binding();
    findings.push(featureFinding());
  } catch (error) {
    const hint = error instanceof LibcontainerError ? error.hint : 'reinstall the package';
    findings.push(fail('addon', reason(error), hint));
    return diagnosis(findings);
  }
  await prepareHostFindings();
  findings.push(...systemCalls(), ...(await namespaceFindings()));
  findings.push(...(await mountFindings()), seccompFinding(), ...cgroupFindings(), ...idFindings());
  findings.push(securityModules(), await systemdFinding(), await criuFinding(), stateRootFinding());
  findings.push(await wholeSandbox());
  return diagnosis(findings);
}

const diagnosis = (findings: readonly Finding[]): Diagnosis => ({
  ok: findings.every(({ verdict }) => verdict !== 'fail'),
  uid: process.geteuid?.() ?? -1,
  findings,
});

/** The last word: all of it together. */
async function wholeSandbox(): Promise<Finding> {
  try {
    const { exitCode, durationMs } = await sandbox(['/bin/sh', '-c', 'exit 7'], { timeoutMs: 30_000 });
    if (exitCode === 7) return ok('sandbox', `a program ran and was removed (${durationMs.toFixed(1)} ms)`);
    return fail('sandbox', `/bin/sh ended with ${exitCode}, not 7`, 'look at the findings above');
  } catch (error) {
    const hint = error instanceof LibcontainerError ? error.hint : 'look at the findings above';
    return fail('sandbox', reason(error), hint);
  }
}
