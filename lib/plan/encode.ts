/**
 * StartPlan → bytes of proto/init.proto. The only user of protobufjs in the library. Field names of steps.ts and
 * init.proto are the same, so a step is its own message, but for 64-bit numbers.
 */
import { Writer } from 'protobufjs/minimal.js';
import { libcontainer as pb } from '../generated/init.js';
import type { StartPlan, Step, StepKind } from './steps.ts';

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

/**
 * The message of each kind. Plan.encode and Step.encode would do, but the latter asks each step for all 44 fields, which
 * is most of the time that a plan takes.
 */
const messages = {
  joinCgroup: pb.JoinCgroup,
  oomScoreAdj: pb.OomScoreAdj,
  setns: pb.Setns,
  unshare: pb.Unshare,
  sessionKeyring: pb.SessionKeyring,
  loopback: pb.Empty,
  propagation: pb.Propagation,
  openRootfs: pb.OpenRootfs,
  mount: pb.Mount,
  device: pb.Device,
  symlink: pb.Symlink,
  sync: pb.Sync,
  hooks: pb.Hooks,
  pivotRoot: pb.Empty,
  moveRoot: pb.Empty,
  chroot: pb.Empty,
  reopenNull: pb.Empty,
  makeCwd: pb.MakeCwd,
  console: pb.Console,
  remountReadonly: pb.RemountReadonly,
  hostname: pb.Hostname,
  domainname: pb.Hostname,
  sysctl: pb.Sysctl,
  readonlyPath: pb.Path,
  maskPath: pb.Path,
  apparmor: pb.Label,
  selinux: pb.Label,
  noNewPrivileges: pb.Empty,
  scheduler: pb.Scheduler,
  ioPriority: pb.IoPriority,
  personality: pb.Personality,
  memoryPolicy: pb.MemoryPolicy,
  rlimit: pb.Rlimit,
  ready: pb.Empty,
  seccomp: pb.Seccomp,
  bounding: pb.Bounding,
  user: pb.User,
  umask: pb.Umask,
  cwd: pb.Cwd,
  capabilities: pb.Capabilities,
  findExecutable: pb.FindExecutable,
  waitStart: pb.WaitStart,
  exec: pb.Exec,
  affinity: pb.Affinity,
} satisfies Record<StepKind, { encode(message: object, writer?: Writer): Writer }>;

/** The tag of a step's field in the oneof: the first bytes of a Step with an empty message, without its length 0. */
const tags = new Map<StepKind, number>();
function tagOf(kind: StepKind): number {
  let tag = tags.get(kind);
  if (tag === undefined) {
    const bytes = pb.Step.encode({ [kind]: {} }).finish();
    tag = 0;
    for (const [index, byte] of bytes.subarray(0, -1).entries()) tag |= (byte & 0x7f) << (7 * index);
    tags.set(kind, tag);
  }
  return tag;
}

/** Field 1, length-delimited: `repeated Step steps = 1`. */
const stepsTag = (1 << 3) | 2;

const encoded = new WeakMap<StartPlan, Uint8Array>();
const encodedSteps = new WeakMap<Step, Uint8Array>();

/** A plan of this step alone: the fields of a message may be concatenated (protobuf.dev "Encoding", merging). */
function encodeStep(step: Step): Uint8Array {
  let bytes = encodedSteps.get(step);
  if (bytes === undefined) {
    const writer = Writer.create().uint32(stepsTag).fork().uint32(tagOf(step.kind)).fork();
    bytes = messages[step.kind].encode(values(step), writer).ldelim().ldelim().finish();
    encodedSteps.set(step, bytes);
  }
  return bytes;
}

/**
 * The encoded plan; kept with the plan and with its steps, since plans of one configuration for several containers share
 * most of them (parent/plans.ts). A fault makes bytes of their own.
 */
export function encodePlan(plan: StartPlan, fault?: Fault): Uint8Array {
  if (fault !== undefined) {
    return Buffer.concat([...plan.steps.map(encodeStep), pb.Plan.encode({ failAt: fault }).finish()]);
  }
  let bytes = encoded.get(plan);
  if (bytes === undefined) {
    bytes = Buffer.concat(plan.steps.map(encodeStep));
    encoded.set(plan, bytes);
  }
  return bytes;
}
