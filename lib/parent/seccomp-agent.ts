/**
 * The listener of a process's seccomp notifications goes to the agent at linux.seccomp.listenerPath: one connection, one
 * message with the state and the descriptor. runtime.md "Container Process State"; runc's sendContainerProcessState.
 */
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { OciState } from '../state.ts';

export interface AgentMessage {
  readonly listenerPath: string;
  readonly metadata: string | undefined;
  /** Of the process that the listener is of, as this process sees it. */
  readonly pid: number;
  readonly state: OciState;
}

/** The descriptor is borrowed. @throws {LibcontainerError} ERR_SECCOMP_AGENT */
export async function sendToAgent(binding: Binding, fd: number, message: AgentMessage): Promise<void> {
  const { listenerPath, metadata = '', pid, state } = message;
  const text = JSON.stringify({
    ociVersion: state.ociVersion,
    fds: ['seccompFd'],
    pid,
    ...(metadata === '' ? {} : { metadata }),
    state,
  });
  try {
    await binding.sendFd(listenerPath, text, fd);
  } catch (cause) {
    throw new LibcontainerError('ERR_SECCOMP_AGENT', {
      message: `failed to connect with seccomp agent specified in the seccomp profile: ${listenerPath}`,
      cause,
    });
  }
}
