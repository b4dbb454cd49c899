/** A plan that only does something and ends (step `finish`): no container, no program. */
import { SyscallError } from '../errors.ts';
import type { Binding, JobEvent, SpawnJob } from '../native/binding.ts';
import { encodePlan } from '../plan/encode.ts';
import type { StartPlan } from '../plan/steps.ts';
import { errnoName } from './failure.ts';

/** Resolves when init has done it all. @throws {SyscallError} what was refused */
export async function runPlan(
  binding: Binding,
  plan: StartPlan,
  slots: SpawnJob['slots'] = [],
  job: Pick<SpawnJob, 'userNamespace'> = {},
): Promise<void> {
  const null_ = binding.open('/dev/null', 2, 0);
  try {
    await done(binding, {
      ...job,
      before: [],
      plan: encodePlan(plan),
      cloneFlags: plan.cloneFlags,
      stdio: [null_, null_, null_],
      preserved: [],
      slots,
      askReady: false,
      faults: false,
    });
  } finally {
    binding.close(null_);
  }
}

function done(binding: Binding, job: SpawnJob): Promise<void> {
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
    binding.spawn(job, receive);
  });
}
