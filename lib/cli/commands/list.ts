/** `nrunc list`: all containers of the state root. A broken entry is named on stderr and hides nothing. */
import { readFileSync } from 'node:fs';
import type { ContainerSummary } from '../../index.ts';
import { errorText } from '../error-text.ts';
import { goJson, goMap } from '../go-json.ts';
import { type Invocation, openFactory } from '../invocation.ts';
import { print, printError } from '../output.ts';
import { table } from '../tabular.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options } = invocation;
  const format = options.text('format') ?? 'table';
  const rows: ContainerSummary[] = [];
  for (const row of await openFactory(invocation).list()) {
    if (row.status === 'corrupt') printError(`load container ${row.id}: ${errorText(row.error)}\n`);
    else rows.push(row);
  }
  if (options.flag('quiet')) {
    print(rows.map(({ id }) => `${id}\n`).join(''));
    return 0;
  }
  if (format === 'table') print(tableOf(rows));
  // An empty Go slice: null, not [].
  else if (format === 'json') print(`${rows.length === 0 ? 'null' : goJson(rows.map(jsonRow))}\n`);
  else throw new Error('invalid format option');
  return 0;
}

function tableOf(rows: readonly ContainerSummary[]): string {
  const lines = rows.map(row => [
    row.id,
    String(row.pid),
    row.status,
    row.bundle,
    row.created,
    userName(row.owner),
  ]);
  return table([['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'], ...lines]);
}

const jsonRow = ({ ociVersion, id, pid, status, bundle, rootfs, created, ...row }: ContainerSummary) => ({
  ociVersion,
  id,
  pid,
  status,
  bundle,
  rootfs,
  created,
  annotations: goMap(row.annotations),
  owner: userName(row.owner),
});

let names: Map<number, string> | undefined;

/** The name in /etc/passwd; a uid without one is shown as `#uid`, as runc does. */
function userName(uid: number): string {
  if (names === undefined) {
    names = new Map();
    for (const line of passwd().split('\n')) {
      const [name, , number] = line.split(':');
      const id = Number(number);
      if (name !== undefined && number !== undefined && !names.has(id)) names.set(id, name);
    }
  }
  return names.get(uid) ?? `#${uid}`;
}

function passwd(): string {
  try {
    return readFileSync('/etc/passwd', 'utf8');
  } catch {
    // A host without the file has no names.
    return '';
  }
}
