/** A plan that only does something and ends (step `finish`): no container, no program. */
import { SyscallError } from '../errors.ts';
import type { Binding, JobEvent, SpawnJob } from '../native/binding.ts';
import { encodePlan } from '../plan/encode.ts';
import type { StartPlan } from '../plan/steps.ts';
import { errnoName } from './failure.ts';

interface ShortPlanOptions extends Pick<SpawnJob, 'userNamespace'> {
  /** What the parent does at a `sync` step, with the process that waits for it. */
  readonly onSync?: (pid: number) => Promise<void>;
}

/** Resolves when init has done it all. @throws {SyscallError} what was refused; what `onSync` has thrown */
export async function runPlan(
  binding: Binding,
  plan: StartPlan,
  slots: SpawnJob['slots'] = [],
  { onSync = async () => undefined, ...job }: ShortPlanOptions = {},
): Promise<void> {
  const null_ = binding.open('/dev/null', 2, 0);
  try {
    const whole: SpawnJob = {
      ...job,
      before: [],
      plan: encodePlan(plan),
      cloneFlags: plan.cloneFlags,
      stdio: [null_, null_, null_],
      preserved: [],
      slots,
      askReady: false,
      faults: false,
    };
    await done(binding, whole, onSync);
  } finally {
    binding.close(null_);
  }
}

function done(binding: Binding, job: SpawnJob, onSync: (pid: number) => Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: unknown;
    const receive = (event: JobEvent): void => {
      if (event.type === 'sync') {
        onSync(event.pid).then(
          () => handle.answer(''),
          error => {
            failure = error;
            handle.abort();
          },
        );
      } else if (event.type === 'failed') {
        const { syscall, args, errno, stage } = event;
        failure ??= new SyscallError({ syscall, args, errno, errnoName: errnoName(errno) });
        if (stage === 'prepare' || stage === 'spawn') reject(failure);
      } else if (event.type === 'exit') {
        if (failure === undefined) resolve();
        else reject(failure);
      }
    };
    const handle = binding.spawn(job, receive);
  });
}
