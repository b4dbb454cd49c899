/**
 * CRIU as a job of the native spawner, from a start plan like any other: born in the cgroup and the mount namespace that
 * it is to work in, with stdio, our socket as descriptor 3 and what it inherits behind it. Its restored root task is its
 * sibling (CLONE_PARENT) and so a child of this process: docs/adr/0018.
 */
import type {
  Binding,
  FileOperation,
  JobEvent,
  SpawnHandle,
  SpawnJob,
  StateFile,
} from '../native/binding.ts';
import { StartFailure } from '../parent/parent-process.ts';
import { encodePlan } from '../plan/encode.ts';
import type { Step } from '../plan/steps.ts';
import { searchPath } from './program-path.ts';
import { Session } from './rpc.ts';

/** Where CRIU works; default: as this process, in its cgroup and namespaces. */
export interface Placement {
  readonly before: readonly FileOperation[];
  readonly cloneFlags: number;
  readonly cgroup?: string;
  readonly steps: readonly Step[];
  readonly onSync: (pid: number) => Promise<void>;
}

export interface CriuSpawn {
  readonly binding: Binding;
  /** Absolute. */
  readonly program: string;
  /** Default /dev/null. */
  readonly stdio?: readonly [number, number, number];
  /** Descriptors 4, 5, … of it; borrowed. */
  readonly inherited?: readonly number[];
  readonly placement?: Placement;
  readonly stateFile?: StateFile;
}

export interface CriuJob {
  readonly pid: number;
  readonly session: Session;
  /** Resolves when it is reaped. */
  readonly ended: Promise<{ readonly good: boolean; readonly how: string }>;
  kill(): void;
}

/** Descriptor of CRIU's end of the socket. */
export const socketFd = 3;

function environment(): string[] {
  const entries = Object.entries(process.env).filter(([name]) => name === 'HOME' || name.startsWith('CRIU_'));
  return [`PATH=${searchPath()}`, ...entries.map(([name, value]) => `${name}=${value ?? ''}`)];
}

/**
 * Resolves when CRIU executes.
 * @throws {StartFailure} nothing is left of what was made before the clone, but of stages `init` and `died`
 */
export async function startCriu(spawn: CriuSpawn): Promise<CriuJob> {
  const { binding, program, placement, inherited = [] } = spawn;
  const [ours, theirs] = binding.packetPair();
  const session = new Session(binding, ours);
  const null_ = spawn.stdio === undefined ? binding.open('/dev/null', 2, 0) : -1;
  const plan = encodePlan({
    cloneFlags: placement?.cloneFlags ?? 0,
    steps: [
      ...(placement?.steps ?? []),
      { kind: 'ready' },
      { kind: 'findExecutable', name: program, searchPath: '' },
      {
        kind: 'exec',
        args: [program, 'swrk', String(socketFd)],
        env: environment(),
        setHome: false,
        preservedFds: 1 + inherited.length,
      },
    ],
  });
  const job: SpawnJob = {
    before: placement?.before ?? [],
    plan,
    cloneFlags: placement?.cloneFlags ?? 0,
    ...(placement?.cgroup === undefined ? {} : { cgroup: placement.cgroup }),
    stdio: spawn.stdio ?? [null_, null_, null_],
    preserved: [theirs, ...inherited],
    slots: [],
    ...(spawn.stateFile === undefined ? {} : { stateFile: spawn.stateFile }),
    askReady: false,
    faults: false,
  };
  try {
    return await follow(binding, job, session, placement);
  } catch (error) {
    session.close();
    throw error;
  } finally {
    // Ours must not keep the socket open after CRIU has died.
    binding.close(theirs);
    if (null_ >= 0) binding.close(null_);
  }
}

function follow(
  binding: Binding,
  job: SpawnJob,
  session: Session,
  placement: Placement | undefined,
): Promise<CriuJob> {
  return new Promise((resolve, reject) => {
    let failure: StartFailure | undefined;
    let finish: (ending: { good: boolean; how: string }) => void = () => undefined;
    const ended = new Promise<{ good: boolean; how: string }>(done => {
      finish = done;
    });
    const answer = async (handle: SpawnHandle, pid: number): Promise<void> => {
      try {
        await placement?.onSync(pid);
        handle.answer('');
      } catch (error) {
        failure ??= new StartFailure(undefined, error);
        handle.abort();
      }
    };
    const handle = binding.spawn(job, (event: JobEvent) => {
      switch (event.type) {
        case 'sync':
          void answer(handle, event.pid);
          return;
        case 'running':
          resolve({ pid: event.pid, session, ended, kill: () => handle.abort() });
          return;
        case 'failed':
          failure ??= new StartFailure(event);
          // Without a child no exit follows.
          if (event.stage === 'prepare' || event.stage === 'spawn') reject(failure);
          return;
        case 'exit':
          finish({ good: event.kind === 'exited' && event.status === 0, how: endingOf(event) });
          // Changes nothing when it has executed.
          reject(failure ?? new StartFailure(undefined));
          return;
        default:
      }
    });
  });
}

function endingOf(event: Extract<JobEvent, { type: 'exit' }>): string {
  if (event.kind === 'unknown') return 'it has ended';
  return event.kind === 'exited' ? `exit status ${event.status}` : `killed by signal ${event.status}`;
}

/** A plan without a program, done by the init executable. @throws {StartFailure} */
export function runSteps(binding: Binding, cloneFlags: number, steps: readonly Step[]): Promise<void> {
  const null_ = binding.open('/dev/null', 2, 0);
  const done = new Promise<void>((resolve, reject) => {
    let failure: StartFailure | undefined;
    binding.spawn(
      {
        before: [],
        plan: encodePlan({ cloneFlags, steps: [...steps, { kind: 'finish' }] }),
        cloneFlags,
        stdio: [null_, null_, null_],
        preserved: [],
        slots: [],
        askReady: false,
        faults: false,
      },
      event => {
        if (event.type === 'failed') {
          failure = new StartFailure(event);
          if (event.stage === 'prepare' || event.stage === 'spawn') reject(failure);
        } else if (event.type === 'exit') {
          if (failure === undefined) resolve();
          else reject(failure);
        }
      },
    );
  });
  return done.finally(() => binding.close(null_));
}
