/** runc's `--pidfd-socket`: whoever listens gets a pidfd of the process, and needs neither its number nor our state. */
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';

export interface PidfdReceiver {
  readonly path: string;
  /** The data of the message: whether it is a container's first process or a further one. */
  readonly name: 'standard' | 'setns';
}

export const pidfdReceiver = (
  options: { readonly pidfdSocket?: string },
  name: PidfdReceiver['name'],
): PidfdReceiver | undefined =>
  options.pidfdSocket === undefined ? undefined : { path: options.pidfdSocket, name };

/**
 * Takes the descriptor over.
 * @throws {LibcontainerError} ERR_PIDFD_SOCKET
 */
export async function handPidfd(
  binding: Binding,
  { path, name }: PidfdReceiver,
  pidfd: number,
): Promise<void> {
  try {
    await binding.sendFd(path, name, pidfd);
  } catch (cause) {
    throw new LibcontainerError('ERR_PIDFD_SOCKET', { detail: path, cause });
  } finally {
    if (pidfd >= 0) binding.close(pidfd);
  }
}
