/** `nrunc exec`: a further process in a container. Every failure before it runs is exit code 255 (main.ts). */
import { loadProcess, type ProcessConfig, type ProcessOptions } from '../../index.ts';
import { absolute, checkTerminal, detachedProcess, whileWanted, writePidFile } from '../bundle.ts';
import { exitCode } from '../exit-code.ts';
import { Foreground } from '../foreground.ts';
import { inheritedFds } from '../inherited-fds.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import type { Options } from '../options.ts';
import { withCallersLimit } from '../soft-limit.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { options, log, caller } = invocation;
  const detached = options.flag('detach');
  // Streams and signals of the caller's own.
  if (!detached) caller.decline();
  const pidFile = absolute(caller, options.text('pid-file'));
  const consoleSocket = absolute(caller, options.text('console-socket'));
  const pidfdSocket = absolute(caller, options.text('pidfd-socket'));
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  if (container.config.namespaces.some(({ type }) => type === 'user')) caller.decline();
  const file = absolute(caller, options.text('process'));
  const wanted =
    file === undefined
      ? processOf(container.config.process, invocation.arguments.slice(1), options)
      : await loadProcess(file, { onWarning: message => log.warning(message) });
  checkTerminal(wanted.terminal, detached, consoleSocket);
  const { fds, env } = inheritedFds(caller, options.number('preserve-fds'));
  const processOptions: ProcessOptions = {
    ...wanted,
    env: [...wanted.env, ...env],
    rlimits: withCallersLimit(wanted.rlimits),
    ...(fds.length > 0 ? { preservedFds: fds } : {}),
    ...(consoleSocket === undefined ? {} : { consoleSocket }),
    ...(pidfdSocket === undefined ? {} : { pidfdSocket }),
    ...(options.flag('ignore-paused') ? { ignorePaused: true } : {}),
    ...(options.has('cgroup') ? { subCgroups: subCgroups(options.list('cgroup')) } : {}),
  };
  using foreground = detached ? undefined : new Foreground(processOptions);
  const process = foreground?.process ?? detachedProcess(caller, processOptions);
  await caller.commit();
  await container.start(process, whileWanted(caller));
  try {
    if (pidFile !== undefined && process.pid !== undefined) writePidFile(pidFile, process.pid);
  } catch (error) {
    process.signal('SIGKILL');
    await process.wait();
    throw error;
  }
  caller.leave(process.pid);
  if (foreground === undefined) return 0;
  foreground.started();
  return exitCode(await foreground.ended());
}

/** The container's own process with what the options change; its arguments and terminal are always the caller's. */
export function processOf(
  base: ProcessConfig | undefined,
  words: readonly string[],
  options: Options,
): ProcessConfig {
  if (words.length === 0) throw new Error('process args cannot be empty');
  const { consoleSize: _, ...inherited } = base ?? emptyProcess;
  const profile = options.text('apparmor') ?? '';
  const label = options.text('process-label') ?? '';
  const cwd = options.text('cwd');
  return {
    ...inherited,
    args: words,
    ...(cwd === undefined || cwd === '' ? {} : { cwd }),
    env: [...inherited.env, ...options.list('env')],
    terminal: options.flag('tty'),
    ...(profile === '' ? {} : { apparmorProfile: profile }),
    ...(label === '' ? {} : { selinuxLabel: label }),
    ...(options.has('no-new-privs') ? { noNewPrivileges: options.flag('no-new-privs') } : {}),
    user: userOf(inherited.user, options),
    ...withCapabilities(inherited.capabilities, options.list('cap')),
  };
}

const emptyProcess: ProcessConfig = {
  args: [],
  env: [],
  cwd: '/',
  user: { uid: 0, gid: 0, additionalGids: [] },
  terminal: false,
  rlimits: [],
  noNewPrivileges: false,
};

/** Digits and nothing else: `-u 1000x`, ` 0`, `+0` or `0x0` must never become another user (crun, CVE-2026-30892). */
function idNumber(text: string, what: string): number {
  const number = Number(text);
  if (!/^\d{1,10}$/.test(text) || number > 0xffff_fffe)
    throw new Error(`parsing ${text} as int for ${what} failed: a number from 0 to 4294967294 is needed`);
  return number;
}

function userOf(user: ProcessConfig['user'], options: Options): ProcessConfig['user'] {
  const text = options.text('user') ?? '';
  const [uid = '', gid] = text.includes(':')
    ? [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)]
    : [text, undefined];
  return {
    ...user,
    ...(gid === undefined ? {} : { gid: idNumber(gid, 'gid') }),
    ...(text === '' ? {} : { uid: idNumber(uid, 'uid') }),
    additionalGids: [
      ...user.additionalGids,
      ...options.list('additional-gids').map(group => idNumber(group, 'additional-gids')),
    ],
  };
}

/**
 * Not inheritable (CVE-2022-29162), and ambient only when the container has inheritable ones at all: as runc.
 */
function withCapabilities(
  base: ProcessConfig['capabilities'],
  added: readonly string[],
): Pick<ProcessConfig, 'capabilities'> | undefined {
  if (added.length === 0) return undefined;
  const sets = base ?? { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] };
  return {
    capabilities: {
      bounding: [...sets.bounding, ...added],
      effective: [...sets.effective, ...added],
      permitted: [...sets.permitted, ...added],
      inheritable: sets.inheritable,
      ambient: sets.inheritable.length > 0 ? [...sets.ambient, ...added] : sets.ambient,
    },
  };
}

/** `path`, or `controller[,controller…]:path` any number of times. */
export function subCgroups(words: readonly string[]): { readonly [controller: string]: string } {
  const paths: { [controller: string]: string } = {};
  for (const word of words) {
    const parts = word.split(':');
    const [first = '', path] = parts;
    if (parts.length > 2) throw new Error(`invalid --cgroup argument: ${word}`);
    if (path === undefined) {
      if (words.length !== 1)
        throw new Error(`invalid --cgroup argument: ${word} (missing <controller>: prefix)`);
      paths[''] = first;
    } else for (const controller of first.split(',')) paths[controller] = path;
  }
  return paths;
}
