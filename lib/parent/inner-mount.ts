/**
 * A mount in the mount namespace of a running container, done by the init executable: Node itself never changes its
 * namespace, and no program of the container is run for it.
 */
import { LibcontainerError, SyscallError } from '../errors.ts';
import type { Binding, JobEvent } from '../native/binding.ts';
import { encodePlan } from '../plan/encode.ts';
import { MS, namespaceFlags } from '../plan/numbers.ts';
import type { StartPlan } from '../plan/steps.ts';
import { errnoName } from './failure.ts';

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
      {
        kind: 'mount',
        type,
        source,
        target,
        flags,
        clearedFlags: 0,
        propagation: [],
        data,
        recursiveSet: 0,
        recursiveClear: 0,
        copyUp: false,
        optional: false,
        lateReadonly: false,
      },
      { kind: 'finish' },
    ],
  };
  const null_ = binding.open('/dev/null', 2, 0);
  try {
    await done(binding, encodePlan(plan), namespace, null_);
  } finally {
    binding.close(null_);
  }
}

function done(binding: Binding, plan: Uint8Array, namespace: number, null_: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: SyscallError | undefined;
    const receive = (event: JobEvent): void => {
      if (event.type === 'failed') {
        const { syscall, args, errno, stage } = event;
        failure = new SyscallError({ syscall, args, errno, errnoName: errnoName(errno) });
        if (stage === 'prepare' || stage === 'spawn') reject(failure);
      } else if (event.type === 'exit') {
        if (failure === undefined) resolve();
        else reject(failure);
      }
    };
    binding.spawn(
      {
        before: [],
        plan,
        cloneFlags: 0,
        stdio: [null_, null_, null_],
        preserved: [],
        slots: [namespace],
        askReady: false,
        faults: false,
      },
      receive,
    );
  });
}
