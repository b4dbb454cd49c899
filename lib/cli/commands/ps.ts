/** `nrunc ps`: the container's processes as the host's ps shows them, or their numbers as JSON. */
import { execFileSync } from 'node:child_process';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { print } from '../output.ts';

export async function run(invocation: Invocation): Promise<number> {
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  const pids = (await container.processes()).sort((a, b) => a - b);
  const format = invocation.options.text('format') ?? 'table';
  if (format === 'json') print(`${pids.length === 0 ? 'null' : JSON.stringify(pids)}\n`);
  else if (format === 'table') print(selectRows(hostProcesses(invocation.arguments.slice(1)), pids));
  else throw new Error('invalid format option');
  return 0;
}

function hostProcesses(given: readonly string[]): string {
  try {
    return execFileSync('ps', given.length === 0 ? ['-ef'] : [...given], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    if (!(error instanceof Error) || !('status' in error) || typeof error.status !== 'number') throw error;
    const output = ['stdout', 'stderr'].map(name => String(Reflect.get(error, name) ?? '')).join('');
    throw new Error(`exit status ${error.status}: ${output}`);
  }
}

/** The heading and the lines whose PID column names one of `pids`. */
export function selectRows(output: string, pids: readonly number[]): string {
  const [heading = '', ...lines] = output.split('\n');
  const column = heading.trim().split(/\s+/).indexOf('PID');
  if (column < 0) throw new Error("couldn't find PID field in ps output");
  const wanted = new Set(pids);
  const kept = lines.filter(line => {
    if (line === '') return false;
    const field = line.trim().split(/\s+/)[column] ?? '';
    if (!/^\d+$/.test(field)) throw new Error(`unable to parse pid: ${JSON.stringify(field)}`);
    return wanted.has(Number(field));
  });
  return [heading, ...kept].map(line => `${line}\n`).join('');
}
