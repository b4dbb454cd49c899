/** `nrunc ps`: the container's processes as the host's ps shows them, or their numbers as JSON. */
import { execFile } from 'node:child_process';
import type { Caller } from '../caller.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { caller } = invocation;
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  const pids = (await container.processes()).sort((a, b) => a - b);
  const format = invocation.options.text('format') ?? 'table';
  if (format === 'json') caller.print(`${pids.length === 0 ? 'null' : JSON.stringify(pids)}\n`);
  else if (format === 'table') {
    const output = await hostProcesses(caller, invocation.arguments.slice(1));
    caller.print(selectRows(output, pids));
  } else throw new Error('invalid format option');
  return 0;
}

function hostProcesses(caller: Caller, given: readonly string[]): Promise<string> {
  const words = given.length === 0 ? ['-ef'] : [...given];
  const options = { cwd: caller.cwd, env: caller.env, maxBuffer: 1 << 28 };
  return new Promise((resolve, reject) => {
    const ps = execFile('ps', words, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (typeof error.code !== 'number') reject(error);
      else reject(new Error(`exit status ${error.code}: ${stdout}${stderr}`));
    });
    ps.stdin?.end();
  });
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
