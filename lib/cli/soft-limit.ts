/**
 * The caller's soft limit of open files. A process whose configuration has no RLIMIT_NOFILE inherits it; but Node raises its
 * own to the hard limit before any JavaScript runs (src/node.cc, PlatformInit) and keeps no note of what it was. So whoever
 * starts nrunc by a file of its own may tell (docs/engines.md); else the hard limit is what the process gets.
 */
import { readFileSync } from 'node:fs';
import type { ProcessConfig } from '../index.ts';

const variable = 'LIBCONTAINER_SOFT_NOFILE';

/** @throws when the variable is no limit */
export function withCallersLimit(rlimits: ProcessConfig['rlimits']): ProcessConfig['rlimits'] {
  const { [variable]: soft = '' } = process.env;
  if (soft === '' || soft === 'unlimited' || rlimits.some(({ type }) => type === 'RLIMIT_NOFILE'))
    return rlimits;
  if (!/^\d{1,19}$/.test(soft)) throw new Error(`${variable} is ${JSON.stringify(soft)}, not a number`);
  const [, , hard = ''] =
    /^Max open files +(\d+|unlimited) +(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ??
    [];
  const most = hard === 'unlimited' ? 18446744073709551615n : BigInt(hard);
  if (BigInt(soft) >= most) return rlimits;
  return [...rlimits, { type: 'RLIMIT_NOFILE', soft, hard: String(most) }];
}
