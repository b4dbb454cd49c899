/**
 * state.json: the record of a container in `<root>/<id>/`, with runc's keys and ours, written by temporary file and
 * rename. Not fsynced: a crash of the machine ends the container as well, and a record that was torn by it is `corrupt`,
 * which `destroy` with force removes; a crash of processes loses nothing that was written. It exists from before the first effect of a start (`init_process_pid` 0: the intent), so that whoever comes
 * after a crash finds the cgroups. No zod here: `state`, `kill`, `delete` and `list` must start quickly.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { ResctrlRecord } from './cgroups/manager.ts';
import type { Config } from './config/config.ts';
import { ContainerError } from './errors.ts';
import type { Status } from './lifecycle.ts';

/** Grows when a field changes its meaning. */
export const stateVersion = 1;

/** What state.json holds. */
export interface StateRecord extends ResctrlRecord {
  readonly id: string;
  /** 0: a start is under way, or it never came to a process. */
  readonly init_process_pid: number;
  /** Clock ticks since boot, /proc/pid/stat field 22; pid and start time together name a process. */
  readonly init_process_start: number;
  /** RFC 3339. */
  readonly created: string;
  readonly rootless: boolean;
  /** Controller → absolute directory; v2: key ''. */
  readonly cgroup_paths: { readonly [controller: string]: string };
  readonly config: Config;
  /** Ours: `stateVersion`. */
  readonly version: number;
  /** Ours: unique per container, so that one with the same ID that was made later is not mistaken for it. */
  readonly nonce: string;
  /** Ours: uid that made it. */
  readonly owner: number;
  /** Ours: the process that starts it; while it lives and the pid is 0 the status is `creating`. */
  readonly creator: { readonly pid: number; readonly start: number };
  /** Ours: it is removed when its creator has died. */
  readonly lifetime?: 'owner';
}

/** runc's state, as `container.state()` gives it. */
export interface State extends StateRecord {
  /** NEWNET, NEWPID, … → /proc/PID/ns file; empty when there is no process. */
  readonly namespace_paths: { readonly [type: string]: string };
}

/** The state as the runtime-spec has it: hooks' stdin, `nrunc state`. */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: Status;
  /** 0 when stopped. */
  readonly pid: number;
  readonly bundle: string;
  readonly annotations: { readonly [name: string]: string };
}

/** `PID` and `START` in the text of a record that has none yet. */
export interface RecordText {
  /** The record with pid 0: written before the first effect. */
  readonly intent: string;
  /** `text[0] + pid + text[1] + startTime + text[2]` */
  readonly parts: readonly [string, string, string];
}

const configTexts = new WeakMap<Config, string>();

/** The configuration is most of the record and the same for all containers of a Config: it becomes text once. */
function configText(config: Config): string {
  let text = configTexts.get(config);
  if (text === undefined) {
    text = JSON.stringify(config);
    configTexts.set(config, text);
  }
  return text;
}

export function recordText(record: Omit<StateRecord, 'init_process_pid' | 'init_process_start'>): RecordText {
  const { config, id, nonce, ...rest } = record;
  const parts = [
    `${recordStart(id, nonce)}"init_process_pid":`,
    ',"init_process_start":',
    `,${JSON.stringify(rest).slice(1, -1)},"config":${configText(config)}}\n`,
  ] as const;
  return { intent: `${parts[0]}0${parts[1]}0${parts[2]}`, parts: [parts[0], parts[1], parts[2]] };
}

/** The first bytes of a record: who it is of can be told without reading the rest. */
export const recordStart = (id: string, nonce: string): string =>
  `{"id":${JSON.stringify(id)},"nonce":"${nonce}",`;

export const statePath = (directory: string): string => join(directory, 'state.json');
export const fifoPath = (directory: string): string => join(directory, 'exec.fifo');
/** flock(2) on the state directory itself serialises the operations of all processes: there is no file to leave behind. */
export const lockPath = (directory: string): string => `${directory}/`;

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

/**
 * The record decides whom a privileged process kills and what it removes: a link, a fifo or a file of somebody else
 * (a state root in /tmp that another user has made) is none.
 */
function readOwn(directory: string): string {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const fd = openSync(statePath(directory), flags);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.uid !== process.geteuid?.() || !lstatSync(directory).isDirectory())
      throw new Error('state.json is not a file of ours in a directory of its own');
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/** @throws {ContainerError} ERR_CONTAINER_NOT_EXIST, ERR_STATE_CORRUPT */
export function readRecord(id: string, directory: string): StateRecord {
  let text: string;
  try {
    text = readOwn(directory);
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR')
      throw new ContainerError('ERR_CONTAINER_NOT_EXIST', id, { cause });
    throw new ContainerError('ERR_STATE_CORRUPT', id, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ContainerError('ERR_STATE_CORRUPT', id, { cause });
  }
  const wrong = firstWrongField(value, id);
  if (wrong !== undefined) throw new ContainerError('ERR_STATE_CORRUPT', id, { detail: wrong });
  return value as StateRecord;
}

/**
 * Whether the record on disk is still this one, by its first bytes.
 * @throws {ContainerError} ERR_CONTAINER_NOT_EXIST
 */
export function isSameRecord(id: string, nonce: string, directory: string): boolean {
  const expected = Buffer.from(recordStart(id, nonce));
  const found = Buffer.alloc(expected.length);
  let fd: number;
  try {
    fd = openSync(statePath(directory), 'r');
  } catch (cause) {
    throw new ContainerError('ERR_CONTAINER_NOT_EXIST', id, { cause });
  }
  try {
    return readSync(fd, found) === expected.length && found.equals(expected);
  } finally {
    closeSync(fd);
  }
}

const isObject = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value: unknown): boolean =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/**
 * The file is ours alone (mode 0600 in a directory of ours), so this looks for damage, not for malice: what decides
 * which process is signalled and which directories are removed must be of the right shape.
 */
function firstWrongField(value: unknown, id: string): string | undefined {
  if (!isObject(value)) return 'not an object';
  if (value.version !== stateVersion) return `version ${String(value.version)}, not ${stateVersion}`;
  if (value.id !== id) return 'id is of another container';
  for (const name of ['init_process_pid', 'init_process_start', 'owner'])
    if (!isCount(value[name])) return name;
  for (const name of ['created', 'nonce']) if (typeof value[name] !== 'string') return name;
  if (typeof value.rootless !== 'boolean') return 'rootless';
  const creator = value.creator;
  if (!isObject(creator) || !isCount(creator.pid) || !isCount(creator.start)) return 'creator';
  const paths = value.cgroup_paths;
  if (
    !isObject(paths) ||
    Object.values(paths).some(path => typeof path !== 'string' || !path.startsWith('/'))
  )
    return 'cgroup_paths';
  const config = value.config;
  if (!isObject(config) || typeof config.bundle !== 'string' || !Array.isArray(config.namespaces))
    return 'config';
  return undefined;
}

/** runc's keys. */
const namespaceKeys = {
  NEWIPC: 'ipc',
  NEWNET: 'net',
  NEWNS: 'mnt',
  NEWPID: 'pid',
  NEWUSER: 'user',
  NEWUTS: 'uts',
  NEWCGROUP: 'cgroup',
} as const;

export function namespacePaths(pid: number): { readonly [type: string]: string } {
  if (pid === 0) return {};
  return Object.fromEntries(
    Object.entries(namespaceKeys).map(([key, file]) => [key, `/proc/${pid}/ns/${file}`]),
  );
}

export function ociState(
  record: { readonly id: string; readonly config: Config },
  status: Status,
  pid: number,
): OciState {
  const { config } = record;
  return {
    ociVersion: config.ociVersion,
    id: record.id,
    status,
    pid: status === 'stopped' ? 0 : pid,
    bundle: config.bundle,
    annotations: config.annotations,
  };
}
