/** The first process of a container as its object sees it: started (ParentProcess) or restored (RestoredProcess). */
import type { ExitStatus, StartedProcess } from '../process.ts';

export interface ContainerInit extends StartedProcess {
  /** Clock ticks. */
  readonly startTime: bigint;
  /** Undefined while it lives. */
  readonly exitStatus: ExitStatus | undefined;
  /** Called once, in the turn in which the exit is known. */
  onExit: (status: ExitStatus) => void;
  /** Resolves when its program executes; rejects with the error for the caller. */
  executed(): Promise<void>;
  exited(): Promise<ExitStatus>;
  /** A duplicate of the pidfd (the caller's); -1 when it is gone. */
  pidfd(): number;
}
