/**
 * StartPlan → bytes of proto/init.proto. The only user of protobufjs in the library. Field names of steps.ts and
 * init.proto are the same, so a step is its own message, but for 64-bit numbers.
 */
import { Writer } from 'protobufjs/minimal.js';
import { libcontainer as pb } from '../generated/init.js';
import { resolveEnv } from './process-steps.ts';
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
  landlock: pb.Landlock,
  finish: pb.Empty,
  idle: pb.Empty,
  waitCommand: pb.Empty,
  bounding: pb.Bounding,
  user: pb.User,
  umask: pb.Umask,
  cwd: pb.Cwd,
  capabilities: pb.Capabilities,
  findExecutable: pb.FindExecutable,
  waitStart: pb.WaitStart,
  exec: pb.Exec,
  affinity: pb.Affinity,
  userNamespace: pb.UserNamespace,
  hostView: pb.HostView,
  overlay: pb.Overlay,
  timeNamespace: pb.TimeNamespace,
  forkInto: pb.Empty,
  firstInside: pb.Empty,
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

/** What the release of a first process with program `late` brings: a Command. */
export function encodeCommand(args: readonly string[], env: readonly string[]): Buffer {
  const resolved = resolveEnv(env);
  const find = { name: args[0] ?? '', searchPath: resolved.searchPath };
  const exec = { args: [...args], env: resolved.env, setHome: resolved.setHome };
  return Buffer.from(pb.Command.encode({ find, exec }).finish());
}

const encoded = new WeakMap<StartPlan, Uint8Array>();
const encodedSteps = new WeakMap<Step, Uint8Array>();

/** The fields of a message may be concatenated (protobuf.dev "Encoding", merging), so each step is a plan of its own. */
function writeStep(writer: Writer, step: Step): void {
  writer.uint32(stepsTag).fork().uint32(tagOf(step.kind)).fork();
  messages[step.kind].encode(values(step), writer).ldelim().ldelim();
}

/**
 * The steps one behind the other. What a plan shares with others of its configuration is taken as it is; the few steps
 * of one container go through one writer, since each writer of protobufjs brings buffers of its own.
 */
function encodeSteps(steps: readonly Step[]): Uint8Array[] {
  const parts: (Uint8Array | undefined)[] = steps.map(step => encodedSteps.get(step));
  const first = parts.every(part => part === undefined);
  const writer = Writer.create();
  const ends = steps.map((step, index) => {
    if (parts[index] === undefined) writeStep(writer, step);
    return writer.len;
  });
  const bytes = writer.finish();
  return steps.map((step, index) => {
    const known = parts[index];
    if (known !== undefined) return known;
    const part = bytes.subarray(ends[index - 1] ?? 0, ends[index]);
    // The first plan of its kind: the next ones share its steps.
    if (first) encodedSteps.set(step, part);
    return part;
  });
}

/** Bytes of a template's encoding where a text of a step stands that differs from container to container. */
interface Gap {
  readonly index: number;
  readonly at: number;
  readonly size: number;
}
interface Template {
  readonly bytes: Uint8Array;
  readonly gaps: readonly Gap[];
}
const templates = new WeakMap<StartPlan, Template>();
const ascii = /^[ -~]*$/;

/** The text that parent/plans.ts changes in a step when it makes the plan of another container. */
function textOf(step: Step | undefined): string | undefined {
  switch (step?.kind) {
    case 'joinCgroup':
      return step.file;
    case 'sessionKeyring':
      return step.name;
    case 'mount':
      return step.source;
    default:
      return undefined;
  }
}

function makeTemplate(template: StartPlan): Template {
  const known = templates.get(template);
  if (known !== undefined) return known;
  const parts = encodeSteps(template.steps).map(part => Buffer.from(part));
  const gaps: Gap[] = [];
  let start = 0;
  for (const [index, part] of parts.entries()) {
    const text = textOf(template.steps[index]);
    // The first occurrence may be another field: then this step is encoded anew each time.
    if (
      text !== undefined &&
      text !== '' &&
      ascii.test(text) &&
      part.indexOf(text) === part.lastIndexOf(text)
    )
      gaps.push({ index, at: start + part.indexOf(text), size: text.length });
    start += part.length;
  }
  const made = { bytes: Buffer.concat(parts), gaps };
  templates.set(template, made);
  return made;
}

/** Undefined when more differs than texts of the same length. */
function fillTemplate(plan: StartPlan, template: StartPlan): Uint8Array | undefined {
  const { bytes, gaps } = makeTemplate(template);
  const filled = Buffer.from(bytes);
  let next = 0;
  for (let index = 0; index < plan.steps.length; index++) {
    const step = plan.steps[index];
    const gap = gaps[next]?.index === index ? gaps[next++] : undefined;
    if (step === undefined || step === template.steps[index]) continue;
    const text = textOf(step);
    if (gap === undefined || text?.length !== gap.size || !ascii.test(text)) return undefined;
    filled.write(text, gap.at, gap.size, 'latin1');
  }
  return filled;
}

/**
 * The encoded plan; kept with the plan and with its steps, since plans of one configuration for several containers share
 * most of them (parent/plans.ts). A fault makes bytes of their own.
 *
 * @param template The plan that this one was made from for another container. IDs are mostly of one length, and then
 *   the bytes differ in some texts alone.
 */
export function encodePlan(plan: StartPlan, fault?: Fault, template?: StartPlan): Uint8Array {
  if (fault !== undefined) {
    return Buffer.concat([...encodeSteps(plan.steps), pb.Plan.encode({ failAt: fault }).finish()]);
  }
  let bytes = encoded.get(plan);
  if (bytes === undefined) {
    bytes =
      (template === undefined ? undefined : fillTemplate(plan, template)) ??
      Buffer.concat(encodeSteps(plan.steps));
    encoded.set(plan, bytes);
  }
  return bytes;
}
