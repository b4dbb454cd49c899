/** `nrunc list`: all containers of the state root. A broken entry is named on stderr and hides nothing. */
import { readFileSync } from 'node:fs';
import type { ContainerSummary } from '../../index.ts';
import { errorText } from '../error-text.ts';
import { goJson, goMap } from '../go-json.ts';
import { type Invocation, openFactory } from '../invocation.ts';
import { table } from '../tabular.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options, caller } = invocation;
  const format = options.text('format') ?? 'table';
  const rows: ContainerSummary[] = [];
  for (const row of await openFactory(invocation).list()) {
    if (row.status === 'corrupt') caller.printError(`load container ${row.id}: ${errorText(row.error)}\n`);
    else rows.push(row);
  }
  if (options.flag('quiet')) {
    caller.print(rows.map(({ id }) => `${id}\n`).join(''));
    return 0;
  }
  if (format === 'table') caller.print(tableOf(rows, userNames()));
  // An empty Go slice: null, not [].
  else if (format === 'json')
    caller.print(`${rows.length === 0 ? 'null' : goJson(rows.map(jsonRow(userNames())))}\n`);
  else throw new Error('invalid format option');
  return 0;
}

function tableOf(rows: readonly ContainerSummary[], userName: UserNames): string {
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

const jsonRow =
  (userName: UserNames) =>
  ({ ociVersion, id, pid, status, bundle, rootfs, created, ...row }: ContainerSummary) => ({
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

type UserNames = (uid: number) => string;

/** The name in /etc/passwd; a uid without one is shown as `#uid`, as runc does. Read for each list that has a row. */
function userNames(): UserNames {
  let names: Map<number, string> | undefined;
  return uid => {
    names ??= readNames();
    return names.get(uid) ?? `#${uid}`;
  };
}

function readNames(): Map<number, string> {
  const names = new Map<number, string>();
  for (const line of passwd().split('\n')) {
    const [name, , number] = line.split(':');
    const id = Number(number);
    if (name !== undefined && number !== undefined && !names.has(id)) names.set(id, name);
  }
  return names;
}

function passwd(): string {
  try {
    return readFileSync('/etc/passwd', 'utf8');
  } catch {
    // A host without the file has no names.
    return '';
  }
}
