/** Where the listener of a process's seccomp filter goes: to the agent of the profile, or to handlers in this process. */
import { requireHandlers } from './config/seccomp-handled.ts';
import type { Handle } from './container-handle.ts';
import type { Status } from './lifecycle.ts';
import { sendToAgent } from './parent/seccomp-agent.ts';
import { ociState } from './state.ts';

/** What takes the listener over. True: init waits for the answer. */
export type TakeListener = (fd: number, pid: number) => Promise<boolean>;

/**
 * @param status Of the container meanwhile; `initPid` undefined: the process is its init.
 * @returns undefined when the profile does not notify. @throws {ConfigError} nobody would answer
 */
export function listenerOf(
  handle: Handle,
  status: Status,
  initPid: number | undefined,
): TakeListener | undefined {
  const { config, seccompHandler } = handle;
  if (config.seccomp === undefined) return undefined;
  requireHandlers(config, seccompHandler === undefined ? undefined : Object.keys(seccompHandler.syscalls));
  return (fd, pid) => take(handle, fd, { status, pid, initPid: initPid ?? pid });
}

async function take(
  handle: Handle,
  fd: number,
  { status, pid, initPid }: { readonly status: Status; readonly pid: number; readonly initPid: number },
): Promise<boolean> {
  const { binding, config, seccompHandler } = handle;
  const { listenerPath = '', listenerMetadata: metadata } = config.seccomp ?? {};
  if (listenerPath !== '') {
    try {
      const state = ociState(handle, status, initPid);
      await sendToAgent(binding, fd, { listenerPath, metadata, pid, state });
    } finally {
      binding.close(fd);
    }
    return true;
  }
  if (seccompHandler === undefined) {
    binding.close(fd);
    throw new Error('init sent a listener that nobody asked for');
  }
  // Loaded for who has handlers only.
  const { SyscallListener } = await import('./parent/syscall-listener.ts');
  const listener = new SyscallListener(binding, fd, seccompHandler, {
    error: event => handle.emitter.emit('syscallError', event),
    close: () => handle.closers.delete(close),
  });
  const close = (): void => listener.close();
  handle.closers.add(close);
  return false;
}
