/** linux.netDevices: host devices go into the network namespace of a container that is being started. */
import { LibcontainerError, SyscallError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { SyncPoint } from './parent-process.ts';

/**
 * As in runc they are not moved back: when the namespace ends, the kernel returns physical devices to the initial one and
 * destroys virtual ones (network_namespaces(7)).
 *
 * @throws {LibcontainerError} ERR_NET_DEVICE naming the device; the cause is the refused request.
 */
export async function moveNetDevices(
  binding: Binding,
  { pid, startTime }: SyncPoint,
  devices: readonly (readonly [string, string])[],
): Promise<void> {
  try {
    await binding.moveNetDevices(pid, startTime, devices);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const [name = '', inside = ''] = devices[error.index] ?? [];
    const { syscall, args, errno, code: errnoName } = error;
    throw new LibcontainerError('ERR_NET_DEVICE', {
      detail: inside === name ? name : `${name} as ${inside}`,
      cause: new SyscallError({ syscall, args, errno: Math.abs(errno), errnoName }),
    });
  }
}

interface Refusal extends Error {
  readonly index: number;
  readonly errno: number;
  readonly code: string;
  readonly syscall: string;
  readonly args: string;
}
const isRefusal = (error: unknown): error is Refusal => error instanceof Error && 'index' in error;
