/**
 * StartPlan → bytes of proto/init.proto. The only user of protobufjs in the library. Field names of steps.ts and
 * init.proto are the same, so a step is its own message, but for 64-bit numbers.
 */
import { libcontainer } from '../generated/init.js';
import type { StartPlan, Step } from './steps.ts';

/** A fault for the test build of init (docs/start-sequence.md "Faults"). */
export interface Fault {
  readonly step: string;
  readonly mode: 'error' | 'exit' | 'killParent' | 'stop';
  /** The n-th step of that name, from 0. */
  readonly occurrence: number;
}

/** What protobufjs takes for a 64-bit number without the `long` package. */
interface Wide {
  readonly low: number;
  readonly high: number;
  readonly unsigned: true;
}
type Message = Parameters<typeof libcontainer.Step.encode>[0];

const wide = (value: bigint): Wide => ({
  low: Number(value & 0xffff_ffffn) | 0,
  high: Number((value >> 32n) & 0xffff_ffffn) | 0,
  unsigned: true,
});

/** The values of a step as protobufjs wants them; the `kind` beside them is no field and is left out by the encoder. */
function values(step: Step): object {
  switch (step.kind) {
    case 'rlimit':
      return { ...step, soft: wide(step.soft), hard: wide(step.hard) };
    case 'bounding':
      return { mask: wide(step.mask) };
    case 'capabilities':
      return {
        effective: wide(step.effective),
        permitted: wide(step.permitted),
        inheritable: wide(step.inheritable),
        ambient: wide(step.ambient),
      };
    default:
      return step;
  }
}

const encoded = new WeakMap<StartPlan, Uint8Array>();

/** The encoded plan; kept with the plan, so that the same object is encoded once. A fault makes bytes of their own. */
export function encodePlan(plan: StartPlan, fault?: Fault): Uint8Array {
  const known = fault === undefined ? encoded.get(plan) : undefined;
  if (known !== undefined) return known;
  const steps: Message[] = plan.steps.map(step => ({ [step.kind]: values(step) }));
  const bytes = libcontainer.Plan.encode(fault === undefined ? { steps } : { steps, failAt: fault }).finish();
  if (fault === undefined) encoded.set(plan, bytes);
  return bytes;
}
