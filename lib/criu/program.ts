/** Which CRIU there is, how old it is, and what it can do on this kernel. */
import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import { CriuError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { startCriu } from './job.ts';
import { type Request, RequestType, type Response } from './rpc.ts';

export interface Program {
  /** Absolute. */
  readonly path: string;
  /** major * 10000 + minor * 100 + sublevel, as runc counts: 31701 is 3.17.1. */
  readonly version: number;
}

/** The RPC that asks for the version came with 3.0. */
const oldest = 30000;

export const versionText = (version: number): string =>
  [Math.trunc(version / 10000), Math.trunc(version / 100) % 100, version % 100].join('.');

/** Absolute directories only: this runs as root, and its working directory may be anybody's (CVE-2026-84042). */
export function findCriu(directories: readonly string[]): string {
  for (const directory of directories) {
    if (!directory.startsWith('/')) continue;
    const path = join(directory, 'criu');
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not here: the next directory of PATH.
    }
  }
  throw new CriuError('ERR_CRIU_MISSING', { operation: 'check' }, { detail: 'no criu in PATH' });
}

const known = new Map<string, Program>();

/** @param wanted As in `Program.version`; `what` needs it. @throws {CriuError} ERR_CRIU_MISSING, ERR_CRIU_VERSION, ERR_CRIU_UNABLE */
export async function requireCriu(binding: Binding): Promise<Program> {
  const { PATH = '' } = process.env;
  const path = findCriu([...PATH.split(':'), '/usr/sbin', '/sbin']);
  const stat = statSync(path);
  // A daemon lives longer than a package.
  const key = `${path}\n${stat.dev}\n${stat.ino}\n${stat.mtimeMs}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const response = await ask(binding, path, { type: RequestType.VERSION });
  const { majorNumber = 0, minorNumber = 0, sublevel = 0 } = response?.version ?? {};
  const program = { path, version: majorNumber * 10000 + minorNumber * 100 + (sublevel ?? 0) };
  requireVersion(program, oldest, 'checkpoint and restore');
  known.set(key, program);
  return program;
}

/** @throws {CriuError} ERR_CRIU_VERSION */
export function requireVersion({ path, version }: Program, wanted: number, what: string): void {
  if (version >= wanted) return;
  const found = version === 0 ? 'which does not tell its version' : versionText(version);
  throw new CriuError(
    'ERR_CRIU_VERSION',
    { operation: 'check' },
    { detail: `${what} needs ${versionText(wanted)}, ${path} is ${found}` },
  );
}

/** A request that is answered by one message. Undefined: none came. */
async function ask(binding: Binding, path: string, request: Request): Promise<Response | undefined> {
  const job = await startCriu({ binding, program: path });
  try {
    job.session.send(request);
    const answer = await job.session.next();
    for (const fd of answer?.fds ?? []) binding.close(fd);
    return answer?.response;
  } finally {
    job.session.close();
    await job.ended;
  }
}

/** @throws {CriuError} ERR_CRIU_UNABLE, with the words of CRIU's own check */
export async function requireFeature(
  binding: Binding,
  { path }: Program,
  feature: 'memTrack' | 'lazyPages',
): Promise<void> {
  const response = await ask(binding, path, {
    type: RequestType.FEATURE_CHECK,
    features: { [feature]: true },
  });
  if (response?.success === true && response.features?.[feature] === true) return;
  throw await unable(path, feature === 'memTrack' ? 'mem_dirty_track' : 'uffd-noncoop');
}

/** What `criu check` says. @param feature Of its --feature list; undefined: all that it cannot do without. */
export async function unable(path: string, feature?: string): Promise<CriuError> {
  const words = await checkWords(path, feature);
  const what = feature === undefined ? 'criu check' : `criu check --feature ${feature}`;
  return new CriuError(
    'ERR_CRIU_UNABLE',
    { operation: 'check', reasons: words },
    { detail: `${what}: ${words.join('; ') || 'no reason given'}` },
  );
}

const checkMs = 60_000;

/** Its complaints, line by line; empty: it has none. */
export function checkWords(path: string, feature?: string): Promise<string[]> {
  const words = feature === undefined ? ['check'] : ['check', '--feature', feature];
  return new Promise(resolve => {
    execFile(path, words, { timeout: checkMs, cwd: '/' }, (error, stdout, stderr) => {
      const lines = `${stderr}\n${stdout}`.split('\n').map(line => line.trim());
      resolve(error === null ? [] : lines.filter(line => line !== '').slice(0, 8));
    });
  });
}
