/** Descriptors that the caller of nrunc left open for the container: LISTEN_FDS (sd_listen_fds(3)) and --preserve-fds. */
import { readlinkSync } from 'node:fs';
import type { Caller } from './caller.ts';

const firstFd = 3;

export interface InheritedFds {
  readonly fds: readonly number[];
  /** For the container's process: it is PID 1 to itself. */
  readonly env: readonly string[];
}

/** @param preserve Count of --preserve-fds, after those of LISTEN_FDS. @throws when one is not there. */
export function inheritedFds(caller: Caller, preserve: number): InheritedFds {
  // The front does not send them.
  if (preserve !== 0 || caller.env.LISTEN_FDS !== undefined) caller.decline();
  if (preserve < 0) throw new Error(`--preserve-fds ${preserve} is negative`);
  const listening = listenFds(caller);
  const first = firstFd + listening;
  for (let fd = firstFd; fd < first + preserve; fd++)
    if (!isInherited(fd))
      throw new Error(
        fd < first
          ? `LISTEN_FDS is ${listening}, but descriptor ${fd} is not open`
          : `please check that preserved-fd ${fd - first} (of ${preserve}) is present`,
      );
  return {
    fds: Array.from({ length: listening + preserve }, (_, index) => firstFd + index),
    env: listening > 0 ? [`LISTEN_FDS=${listening}`, 'LISTEN_PID=1'] : [],
  };
}

/** They are for this process only when LISTEN_PID says so. */
function listenFds({ env }: Caller): number {
  const { LISTEN_FDS: count = '', LISTEN_PID: pid = '' } = env;
  return /^\d+$/.test(count) && Number(pid) === process.pid ? Number(count) : 0;
}

/**
 * Node marks every descriptor CLOEXEC when it starts, so that flag tells nothing; but its own begin with an epoll in the
 * first free number, and nobody passes an epoll to a container.
 */
function isInherited(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) !== 'anon_inode:[eventpoll]';
  } catch {
    return false;
  }
}
