/** What run and create have in common: the bundle's Config, the first process, the pid file. */
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type Config, type Container, loadConfig, Process, type ProcessOptions } from '../index.ts';
import type { Caller } from './caller.ts';
import { inheritedFds } from './inherited-fds.ts';
import { containerIdOf, type Invocation, openFactory } from './invocation.ts';
import { withCallersLimit } from './soft-limit.ts';

export interface Prepared {
  readonly container: Container;
  readonly config: Config;
  readonly options: ProcessOptions;
  /** Absolute. */
  readonly pidFile: string | undefined;
}

export function configOptions({ options, globals, log }: Invocation) {
  const rootless = globals.text('rootless');
  return {
    ...(rootless === 'true' || rootless === 'false' ? { rootlessCgroups: rootless === 'true' } : {}),
    noPivotRoot: options.flag('no-pivot'),
    noNewKeyring: options.flag('no-new-keyring'),
    systemdCgroup: globals.flag('systemd-cgroup'),
    onWarning: (message: string) => log.warning(message),
  };
}

/** @param detached The command returns while the container lives on. */
export async function prepare(invocation: Invocation, detached: boolean): Promise<Prepared> {
  const { options, caller } = invocation;
  const pidFile = absolute(caller, options.text('pid-file'));
  const consoleSocket = absolute(caller, options.text('console-socket'));
  const pidfdSocket = absolute(caller, options.text('pidfd-socket'));
  const notify = notifyOptions(caller);
  const config = await loadConfig(enterBundle(invocation), configOptions(invocation));
  if (!canBeServed(config, notify)) caller.decline();
  if (config.process === undefined) throw new Error('process property must not be empty');
  checkTerminal(config.process.terminal, detached, consoleSocket);
  const { fds, env } = inheritedFds(caller, options.number('preserve-fds'));
  const id = containerIdOf(invocation);
  if (id === '') throw new Error('container id cannot be empty');
  await caller.commit();
  const container = await openFactory(invocation).create(id, config, notify);
  return {
    container,
    config,
    pidFile,
    options: {
      ...config.process,
      env: [...config.process.env, ...env],
      rlimits: withCallersLimit(config.process.rlimits),
      ...(fds.length > 0 ? { preservedFds: fds } : {}),
      ...(consoleSocket === undefined ? {} : { consoleSocket }),
      ...(pidfdSocket === undefined ? {} : { pidfdSocket }),
    },
  };
}

/** runc works in the bundle: relative paths of the command line were made absolute before. A server has a directory of its own. */
function enterBundle({ options, caller }: Invocation): string {
  const bundle = options.text('bundle') ?? '';
  if (caller.front === undefined) {
    if (bundle !== '') process.chdir(bundle);
    return '.';
  }
  const directory = resolve(caller.cwd, bundle);
  // Why it is not there is told with the words of who has tried to go there.
  if (!existsSync(join(directory, 'config.json'))) caller.decline();
  return directory;
}

/**
 * A hook is the caller's to run, in its cgroup, and so are the programs that write the maps of ids (newuidmap(1)). Who waits
 * for READY=1 watches the caller's process.
 */
const canBeServed = ({ hooks, namespaces }: Config, { notifySocket }: { readonly notifySocket?: string }) =>
  notifySocket === undefined &&
  [hooks.prestart, hooks.createRuntime, hooks.poststart].every(list => list.length === 0) &&
  !namespaces.some(({ type }) => type === 'user');

/** sd_notify(3): what starts nrunc as a service of Type=notify waits for the container's READY=1. */
export function notifyOptions({ env }: Caller): { readonly notifySocket?: string } {
  const { NOTIFY_SOCKET: notifySocket = '' } = env;
  return notifySocket === '' ? {} : { notifySocket };
}

export const absolute = (caller: Caller, path: string | undefined): string | undefined =>
  path === undefined || path === '' ? undefined : resolve(caller.cwd, path);

/** runc's rules and words: a terminal needs somebody who holds its other end. */
export function checkTerminal(terminal: boolean, detached: boolean, consoleSocket: string | undefined): void {
  if (detached && terminal && consoleSocket === undefined)
    throw new Error('cannot allocate tty if nrunc will detach without setting console socket');
  if ((!detached || !terminal) && consoleSocket !== undefined)
    throw new Error('cannot use console socket if nrunc will not detach or allocate tty');
}

/** The descriptors of nrunc itself, for a process that outlives it or needs no terminal. */
export function detachedProcess({ stdio, front }: Caller, options: ProcessOptions): Process {
  // Whoever waits for it is the parent of nrunc: its status must be there even when it ends before nrunc does.
  const detached = { ...options, unreaped: true, ...(front === undefined ? {} : { front }) };
  if (options.terminal === true) return new Process(detached);
  const [stdin, stdout, stderr] = stdio === 'inherit' ? (['inherit', 'inherit', 'inherit'] as const) : stdio;
  return new Process({ ...detached, stdin, stdout, stderr });
}

/** For a start that nobody waits for any more when the front is gone. */
export const whileWanted = ({ signal }: Caller): { readonly signal?: AbortSignal } =>
  signal === undefined ? {} : { signal };

/** A reader never sees half a number: temporary file beside it, then rename. */
export function writePidFile(file: string, pid: number): void {
  const temporary = join(dirname(file), `.${basename(file)}`);
  try {
    writeFileSync(temporary, String(pid), { flag: 'wx', mode: 0o666 });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
