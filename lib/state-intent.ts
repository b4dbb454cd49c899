/**
 * What an operation on a live container is about to do, when it takes more than one system call: written before the first,
 * removed after the last. Who finds one of a process that is gone finishes it or takes it back (container-recover.ts).
 * The intent of a start is the record itself, with pid 0.
 */
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { IntelRdt, Resources } from './config/config.ts';

/** CRIU reads the processes, which stand still meanwhile; `paused`: they did before. Who it is, is in criu.json. */
export interface CheckpointIntent {
  readonly operation: 'checkpoint';
  readonly paused: boolean;
  /** Path of a network that is to be open when the container is gone. */
  readonly opened?: string;
}

export type Intent =
  /** Freezing: until it is removed, the container is not known to be paused. */
  | { readonly operation: 'pause' }
  /** Frozen for a moment, so that a signal reaches every process. */
  | { readonly operation: 'signal'; readonly signal: number }
  /** Killing what runs and removing the cgroups; the record goes when they are gone. */
  | { readonly operation: 'destroy' }
  | CheckpointIntent
  /** Writing limits; the record still has the former ones. */
  | {
      readonly operation: 'set';
      readonly resources: Resources;
      readonly skipDevices: boolean;
      readonly intelRdt?: IntelRdt;
    };

export type OwnedIntent = Intent & { readonly pid: number; readonly start: number };

export const intentPath = (directory: string): string => join(directory, 'intent.json');

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

/** False: another operation has its intent there. Not fsynced: a crash of the machine ends the container as well. */
export function writeIntent(
  directory: string,
  intent: Intent,
  owner: { readonly pid: number; readonly start: number },
): boolean {
  try {
    writeFileSync(intentPath(directory), JSON.stringify({ ...intent, ...owner }), {
      mode: 0o600,
      flag: 'wx',
    });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

export function removeIntent(directory: string): void {
  try {
    unlinkSync(intentPath(directory));
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

const isObject = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null;

/** Whom it names may be looked up and waited for: only what writeIntent can have written counts. */
function isOwned(value: unknown): value is OwnedIntent {
  if (!isObject(value)) return false;
  for (const number of [value.pid, value.start])
    if (!(typeof number === 'number' && Number.isSafeInteger(number) && number > 0)) return false;
  switch (value.operation) {
    case 'pause':
    case 'destroy':
      return true;
    case 'checkpoint':
      return (
        typeof value.paused === 'boolean' && (value.opened === undefined || typeof value.opened === 'string')
      );
    case 'signal':
      return Number.isSafeInteger(value.signal);
    case 'set':
      return isObject(value.resources) && typeof value.skipDevices === 'boolean';
    default:
      return false;
  }
}

/** `'torn'`: its writer was killed in the write, before any effect. */
export function readIntent(directory: string): OwnedIntent | 'torn' | undefined {
  let text: string;
  try {
    text = readFileSync(intentPath(directory), 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
  try {
    const value: unknown = JSON.parse(text);
    return isOwned(value) ? value : 'torn';
  } catch {
    return 'torn';
  }
}
