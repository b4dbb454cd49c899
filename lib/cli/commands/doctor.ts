/** `nrunc doctor`: whether containers can be run here. Exit code 0: yes; 1: no; 2: yes, but something is missing. */
import type { Finding } from '../../doctor/doctor.ts';
import type { Invocation } from '../invocation.ts';

export async function run({ options, caller }: Invocation): Promise<number> {
  const { doctor } = await import('../../doctor/doctor.ts');
  const diagnosis = await doctor();
  if (options.flag('json')) caller.print(`${JSON.stringify(diagnosis, null, 2)}\n`);
  else caller.print(table(diagnosis.findings));
  if (!diagnosis.ok) return 1;
  return diagnosis.findings.some(({ verdict }) => verdict === 'warn') ? 2 : 0;
}

/** Exported for its test. */
export function table(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const rows = findings.map(({ name, verdict, detail, fix }) => {
    const line = `${verdict.padEnd(4)}  ${name.padEnd(width)}  ${detail}\n`;
    return fix === undefined ? line : `${line}${' '.repeat(width + 8)}fix: ${fix}\n`;
  });
  return rows.join('');
}
