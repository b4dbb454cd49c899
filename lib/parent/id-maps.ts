/**
 * Ranges of ids for the user namespace of a caller without privileges: newuidmap(1) and newgidmap(1), set-user-ID programs
 * that look into /etc/subuid and /etc/subgid.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import type { Config, IdMapping } from '../config/config.ts';
import { LibcontainerError } from '../errors.ts';

const run = promisify(execFile);
const timeoutMs = 10_000;

/** Only absolute directories of PATH: a program of the working directory must not be taken for it (CVE-2026-84042). */
function find(program: string): string {
  for (const directory of (process.env.PATH ?? '').split(':').filter(isAbsolute)) {
    try {
      const path = join(directory, program);
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here: the next directory of PATH.
    }
  }
  throw new LibcontainerError('ERR_ID_MAP', {
    detail: `${program} is not in PATH`,
    hint: 'install the package uidmap, or map a single id: your own',
  });
}

/** A map may be read back in another order when it is long (user_namespaces(7)). */
const rowsOf = (text: string): string =>
  text
    .trim()
    .split('\n')
    .map(row => row.trim().replaceAll(/\s+/g, ' '))
    .sort()
    .join('\n');

async function map(
  program: string,
  file: string,
  pid: number,
  mappings: readonly IdMapping[],
): Promise<void> {
  const rows = mappings.map(({ containerID, hostID, size }) => [containerID, hostID, size].map(String));
  try {
    await run(find(program), [String(pid), ...rows.flat()], { env: {}, cwd: '/', timeout: timeoutMs });
  } catch (cause) {
    if (cause instanceof LibcontainerError) throw cause;
    const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause);
    throw new LibcontainerError('ERR_ID_MAP', { detail: `${program}: ${said}`, cause });
  }
  // What a program says it has done is looked at: the container's root must be who the configuration says.
  if (
    rowsOf(readFileSync(`/proc/${pid}/${file}`, 'utf8')) !== rowsOf(rows.map(row => row.join(' ')).join('\n'))
  )
    throw new LibcontainerError('ERR_ID_MAP', { detail: `${file} is not what ${program} was asked for` });
}

/** @throws {LibcontainerError} ERR_ID_MAP */
export async function mapIds(config: Config, pid: number, oomScoreAdj: number | undefined): Promise<void> {
  if (oomScoreAdj !== undefined) {
    try {
      writeFileSync(`/proc/${pid}/oom_score_adj`, String(oomScoreAdj));
    } catch (cause) {
      throw new LibcontainerError('ERR_PRIVILEGE', { detail: 'process.oomScoreAdj', cause });
    }
  }
  await map('newuidmap', 'uid_map', pid, config.uidMappings ?? []);
  await map('newgidmap', 'gid_map', pid, config.gidMappings ?? []);
}
