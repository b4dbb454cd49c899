/**
 * NOTIFY_SOCKET of a container, sd_notify(3): the container gets a socket of its own, bound from the state directory;
 * what its processes say on it is forwarded to the host's socket, with the main pid as the host sees it. runc's
 * notify_socket.go.
 */
import { readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Config, Mount, ProcessConfig } from '../config/config.ts';
import type { Binding } from '../native/binding.ts';
import { MS } from '../plan/numbers.ts';

export interface NotifyPlan {
  readonly config: Config;
  readonly processConfig: ProcessConfig;
}

const insideDirectory = '/run/notify';
const socketName = 'notify.sock';

export const notifyDirectory = (directory: string): string => join(directory, 'notify');
export const notifyPath = (directory: string): string => join(notifyDirectory(directory), socketName);

/** The configuration with the bind mount and the variable; the same objects when there is no socket to forward to. */
export function withNotify(
  socket: string | undefined,
  directory: string,
  config: Config,
  processConfig: ProcessConfig,
): NotifyPlan {
  if (socket === undefined) return { config, processConfig };
  const mount: Mount = {
    destination: insideDirectory,
    source: notifyDirectory(directory),
    type: 'bind',
    flags: MS.BIND | MS.NOSUID | MS.NOEXEC | MS.NODEV | MS.RDONLY,
    clearedFlags: 0,
    propagation: [],
    data: '',
    recursiveSet: 0,
    recursiveClear: 0,
    copyUp: false,
  };
  const env = processConfig.env.filter(entry => !entry.startsWith('NOTIFY_SOCKET='));
  return {
    config: { ...config, mounts: [...config.mounts, mount] },
    processConfig: { ...processConfig, env: [...env, `NOTIFY_SOCKET=${insideDirectory}/${socketName}`] },
  };
}

export interface NotifyForwarder {
  /** READY=1 has been forwarded. */
  readonly ready: Promise<void>;
  close(): void;
}

/** Larger messages do not exist: systemd's own limit (NOTIFY_BUFFER_MAX). */
const messageBytes = 4096;
const epollIn = 1;

/** Listens in the state directory and forwards until closed. The pid of init is asked for when it is known. */
export function forwardNotify(
  binding: Binding,
  directory: string,
  hostSocket: string,
  mainPid: () => number,
): NotifyForwarder {
  const path = notifyPath(directory);
  // A socket file that the creator of the container left when it ended.
  rmSync(path, { force: true });
  const fd = binding.datagramListen(path, 0o777);
  let ready = (): void => undefined;
  const isReady = new Promise<void>(resolve => {
    ready = resolve;
  });
  const buffer = Buffer.alloc(messageBytes);
  const watch = binding.watch(fd, epollIn, () => {
    for (;;) {
      let bytes = 0;
      try {
        // read(2) drops descriptors that come with a message: a BARRIER's pipe is closed, which is its answer.
        bytes = readSync(fd, buffer);
      } catch {
        return;
      }
      const lines = translate(buffer.toString('utf8', 0, bytes), mainPid());
      if (lines === '') continue;
      try {
        binding.datagramSend(hostSocket, lines);
      } catch {
        // Nobody listens on the host any more, or its queue is full: sd_notify(3) has no promise of delivery.
        continue;
      }
      if (lines.includes('READY=1')) ready();
    }
  });
  watch.unref();
  let open = true;
  return {
    ready: isReady,
    close: () => {
      if (!open) return;
      open = false;
      watch.close();
      binding.close(fd);
    },
  };
}

/**
 * What a program may say of its own state, sd_notify(3). Everything else is about the service on the host and not for a
 * container to say: NOTIFYACCESS=all would open the host's socket to others, MAINPID is ours to tell, descriptors
 * cannot come along.
 */
const aboutItself =
  /^(READY=1|RELOADING=1|STOPPING=1|STATUS=.*|ERRNO=\d+|WATCHDOG=1|EXTEND_TIMEOUT_USEC=\d+)$/;

function translate(message: string, pid: number): string {
  const lines = message.split('\n').filter(line => aboutItself.test(line));
  if (lines.includes('READY=1')) lines.push(`MAINPID=${pid}`);
  return lines.join('\n');
}
