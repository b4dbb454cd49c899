/** Name and version lines, in the form that callers of `runc --version` parse. */
import { features } from '../index.ts';

// Put in by the bundler; a bundle of single modules (tests) has neither.
declare const NRUNC_VERSION: string | undefined;
declare const NRUNC_COMMIT: string | undefined;

export const version = typeof NRUNC_VERSION === 'string' ? NRUNC_VERSION : '0.0.0-source';
export const commit = typeof NRUNC_COMMIT === 'string' ? NRUNC_COMMIT : 'unknown';

export function versionText(): string {
  const lines = [
    `nrunc version ${version}`,
    `commit: ${commit}`,
    `spec: ${features().ociVersionMax}`,
    `node: ${process.version}`,
  ];
  const libseccomp = features().annotations['io.github.seccomp.libseccomp.version'];
  return `${lines.join('\n')}\nlibseccomp: ${libseccomp}\n`;
}
