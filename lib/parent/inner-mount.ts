/**
 * A mount in the mount namespace of a running container, done by the init executable: Node itself never changes its
 * namespace, and no program of the container is run for it.
 */
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { newFileSystem } from '../plan/new-file-system.ts';
import { MS, namespaceFlags } from '../plan/numbers.ts';
import type { StartPlan } from '../plan/steps.ts';
import { runPlan } from './short-plan.ts';

export interface InnerMount {
  /** File system type; never a bind mount. */
  readonly type: string;
  /** Default: the type. */
  readonly source?: string;
  /** Absolute path in the container; made when absent. */
  readonly target: string;
  /** MS_* of mount(2). Default MS_NOSUID | MS_NODEV. */
  readonly flags?: number;
  /** Options of the file system, comma separated. */
  readonly data?: string;
}

const refused = MS.BIND | MS.REMOUNT | MS.PRIVATE | MS.SLAVE | MS.SHARED | MS.UNBINDABLE;

/** @param namespace Descriptor of the mount namespace (borrowed). @throws {SyscallError} {LibcontainerError} ERR_ARGUMENT */
export async function mountInside(binding: Binding, namespace: number, mount: InnerMount): Promise<void> {
  const { type, source = type, target, flags = MS.NOSUID | MS.NODEV, data = '' } = mount;
  if ((flags & refused) !== 0 || type === '' || type === 'bind')
    throw new LibcontainerError('ERR_ARGUMENT', { detail: 'only a new file system can be mounted' });
  if (!target.startsWith('/'))
    throw new LibcontainerError('ERR_ARGUMENT', { detail: `${target} is not an absolute path` });
  const plan: StartPlan = {
    cloneFlags: 0,
    steps: [
      { kind: 'setns', type: namespaceFlags.mount, slot: 0 },
      newFileSystem(type, target, data, { source, flags }),
      { kind: 'finish' },
    ],
  };
  await runPlan(binding, plan, [namespace]);
}
