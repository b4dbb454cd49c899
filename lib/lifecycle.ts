/**
 * Which operation may run in which status: one table, as runc has it (container_linux.go, state_linux.go, start.go).
 * `signal` has its own rule: a container whose processes share a pid namespace may be signalled as long as one lives.
 */
import { ContainerError, type Reason } from './errors.ts';

/**
 * runc's statuses. `creating`: a start is under way; `created`: init waits on exec.fifo; `paused`: frozen; `stopped`: init
 * is gone, a zombie, or its pid belongs to another process now. A container that was never started is `stopped` too.
 */
export type Status = 'creating' | 'created' | 'running' | 'paused' | 'stopped';

export type Operation =
  | 'start'
  | 'join'
  | 'exec'
  | 'signal'
  | 'pause'
  | 'resume'
  | 'set'
  | 'stats'
  | 'checkpoint'
  | 'processes'
  | 'destroy';

/** `start`: a first process; `join`: a further process; `exec`: release of a created init. */
export const allowed = {
  start: [],
  join: ['created', 'running'],
  exec: ['created'],
  signal: ['created', 'running', 'paused'],
  pause: ['created', 'running'],
  resume: ['paused'],
  set: ['created', 'running', 'paused'],
  stats: ['created', 'running', 'paused'],
  checkpoint: ['running', 'paused'],
  processes: ['creating', 'created', 'running', 'paused', 'stopped'],
  destroy: ['created', 'stopped'],
} as const satisfies Record<Operation, readonly Status[]>;

type Refusal = readonly [code: Reason, message?: string];

/** The reason of a refusal, most specific first; the sentences are runc's. */
const refusals: {
  readonly [O in Operation]: { readonly [S in Status]?: Refusal } & { readonly other: Refusal };
} = {
  start: { stopped: ['ERR_CONTAINER_STOPPED'], other: ['ERR_CONTAINER_STARTED'] },
  join: {
    paused: ['ERR_CONTAINER_PAUSED', 'cannot exec in a paused container (use --ignore-paused to override)'],
    stopped: ['ERR_CONTAINER_NOT_RUNNING', 'cannot exec in a stopped container'],
    other: ['ERR_CONTAINER_NOT_RUNNING'],
  },
  exec: {
    stopped: ['ERR_CONTAINER_STOPPED'],
    paused: ['ERR_CONTAINER_PAUSED', 'cannot start a paused container'],
    other: ['ERR_CONTAINER_STARTED'],
  },
  signal: { other: ['ERR_CONTAINER_NOT_RUNNING'] },
  pause: {
    stopped: ['ERR_CONTAINER_NOT_RUNNING'],
    paused: ['ERR_CONTAINER_PAUSED'],
    other: ['ERR_CONTAINER_NOT_RUNNING'],
  },
  resume: { stopped: ['ERR_CONTAINER_NOT_RUNNING'], other: ['ERR_CONTAINER_NOT_PAUSED'] },
  set: { other: ['ERR_CONTAINER_NOT_RUNNING'] },
  stats: { other: ['ERR_CONTAINER_NOT_RUNNING'] },
  checkpoint: {
    created: ['ERR_CONTAINER_NOT_RUNNING', 'Container cannot be checkpointed in created state'],
    stopped: ['ERR_CONTAINER_NOT_RUNNING', 'Container cannot be checkpointed in stopped state'],
    creating: ['ERR_CONTAINER_BUSY'],
    other: ['ERR_CONTAINER_NOT_RUNNING'],
  },
  processes: { other: ['ERR_CONTAINER_NOT_RUNNING'] },
  destroy: {
    paused: ['ERR_CONTAINER_PAUSED'],
    creating: ['ERR_CONTAINER_BUSY'],
    other: ['ERR_CONTAINER_RUNNING'],
  },
};

/** @throws {ContainerError} when the table forbids `operation` in this status. */
export function assertAllowed(operation: Operation, id: string, status: Status): void {
  if ((allowed[operation] as readonly Status[]).includes(status)) return;
  const row = refusals[operation];
  const [code, message] = row[status] ?? row.other;
  throw new ContainerError(code, id, message === undefined ? { status } : { status, message });
}
