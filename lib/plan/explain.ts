/**
 * A plan in words, for container.plan() and `nrunc plan`: numbered steps with the names of their flags, and the same
 * as plain JSON. Nothing here is read back.
 */
import {
  CLONE,
  capabilityNames,
  flagNames,
  IOPRIO_CLASS_SHIFT,
  ioPriorityClasses,
  MOUNT_ATTR,
  MS,
  memoryPolicyFlags,
  memoryPolicyModes,
  nameOf,
  personalities,
  RLIM_INFINITY,
  schedulerFlags,
  schedulerPolicies,
  seccompFilterFlags,
} from './numbers.ts';
import type { StartPlan, Step, StepOf } from './steps.ts';

/** A step as JSON: its index, its name, and its arguments in words. */
export interface ExplainedStep {
  readonly index: number;
  readonly step: Step['kind'];
  readonly arguments: { readonly [name: string]: Explained };
}
export type Explained =
  | string
  | number
  | boolean
  | readonly Explained[]
  | { readonly [name: string]: Explained };

export interface ExplainedPlan {
  /** CLONE_NEW* names that the process is born with. */
  readonly namespaces: readonly string[];
  readonly pidNamespacePath?: string;
  readonly steps: readonly ExplainedStep[];
  readonly warnings: readonly string[];
}

const octal = (mode: number): string => `0${mode.toString(8)}`;
const clone = (flags: number): string => flagNames(CLONE, 'CLONE_', flags);
const mountFlags = (flags: number): string => flagNames(MS, 'MS_', flags);
const limit = (value: bigint): string => (value === RLIM_INFINITY ? 'unlimited' : value.toString());
const named = (value: number, name: string | undefined): string | number => name ?? value;

/** What is off, empty or 0 is not worth a word. */
function present(fields: { readonly [name: string]: Explained | undefined }): { [name: string]: Explained } {
  const kept: { [name: string]: Explained } = {};
  for (const [name, value] of Object.entries(fields)) {
    const empty = value === undefined || value === false || value === '' || value === '0';
    if (!empty && !(Array.isArray(value) && value.length === 0)) kept[name] = value;
  }
  return kept;
}

const mountArguments = (step: StepOf<'mount'>): { [name: string]: Explained } =>
  present({
    target: step.target,
    type: step.type,
    source: step.source,
    flags: mountFlags(step.flags),
    cleared: mountFlags(step.clearedFlags),
    propagation: step.propagation.map(mountFlags),
    data: step.data,
    recursiveSet: flagNames(MOUNT_ATTR, 'MOUNT_ATTR_', step.recursiveSet),
    recursiveClear: flagNames(MOUNT_ATTR, 'MOUNT_ATTR_', step.recursiveClear),
    copyUp: step.copyUp,
    optional: step.optional,
    lateReadonly: step.lateReadonly,
    idmapped: step.treeSlot !== undefined,
    view: step.view,
  });

const hookArguments = (step: StepOf<'hooks'>): { [name: string]: Explained } => ({
  phase: step.phase,
  hooks: step.hooks.map(hook =>
    present({
      path: hook.path,
      args: hook.args,
      env: hook.env,
      inheritEnv: hook.inheritEnv,
      timeoutMs: hook.timeoutMs === 0 ? undefined : hook.timeoutMs,
    }),
  ),
});

/** The set bits of words, the lowest word first: CPUs, NUMA nodes. */
function bitList(words: readonly number[], width = 32): number[] {
  const bits: number[] = [];
  for (const [index, word] of words.entries()) {
    for (let bit = 0; bit < width; bit++) if ((word >>> bit) & 1) bits.push(index * width + bit);
  }
  return bits;
}

function argumentsOf(step: Step): { readonly [name: string]: Explained } {
  switch (step.kind) {
    case 'mount':
      return mountArguments(step);
    case 'hooks':
      return hookArguments(step);
    case 'setns':
      return present({ type: clone(step.type), path: step.path, slot: step.slot });
    case 'unshare':
      return { flags: clone(step.flags) };
    case 'propagation':
      return { path: step.path, flags: mountFlags(step.flags) };
    case 'openRootfs':
      return present({
        path: step.path,
        bind: step.bind,
        parentPropagation: mountFlags(step.parentPropagation),
        view: step.view,
      });
    case 'remountReadonly':
      return present({
        path: step.path,
        flags: mountFlags(step.flags),
        recursive: step.recursive,
        ...(step.mount === undefined ? {} : { mount: step.mount }),
      });
    case 'device': {
      const { path, type, major, minor, mode, uid, gid, bind } = step;
      return present({ path, type, major, minor, mode: octal(mode), uid, gid, bind });
    }
    case 'rlimit':
      return { name: step.name, soft: limit(step.soft), hard: limit(step.hard) };
    case 'scheduler': {
      const { nice, priority, runtime, deadline, period } = step;
      return present({
        policy: named(step.policy, nameOf(schedulerPolicies, step.policy)),
        nice,
        priority,
        flags: flagNames(schedulerFlags, '', step.flags),
        runtime,
        deadline,
        period,
      });
    }
    case 'ioPriority': {
      const name = nameOf(ioPriorityClasses, step.value >> IOPRIO_CLASS_SHIFT);
      return {
        class: named(step.value >> IOPRIO_CLASS_SHIFT, name),
        priority: step.value & ((1 << IOPRIO_CLASS_SHIFT) - 1),
      };
    }
    case 'personality':
      return { domain: named(step.domain, nameOf(personalities, step.domain)) };
    case 'memoryPolicy':
      return present({
        mode: nameOf(memoryPolicyModes, step.mode & 0xfff) ?? step.mode,
        flags: flagNames(memoryPolicyFlags, '', step.mode & ~0xfff),
        nodes: bitList(step.nodeMask),
      });
    case 'seccomp':
      return present({
        instructions: step.program.length / 8,
        flags: flagNames(seccompFilterFlags, 'SECCOMP_FILTER_FLAG_', step.flags),
        notify: step.notify,
        wait: step.wait ?? false,
        ...(step.take === true ? { take: true } : {}),
      });
    case 'landlock':
      return present({ read: step.read, write: step.write, execute: step.execute });
    case 'bounding':
      return { keep: capabilityNames(step.mask) };
    case 'capabilities':
      return {
        effective: capabilityNames(step.effective),
        permitted: capabilityNames(step.permitted),
        inheritable: capabilityNames(step.inheritable),
        ambient: capabilityNames(step.ambient),
      };
    case 'umask':
      return { mask: octal(step.mask) };
    case 'affinity':
      return { cpus: bitList([...step.mask], 8) };
    default: {
      const { kind: _, ...fields } = step;
      return present(fields);
    }
  }
}

/** The plan as JSON-serialisable data. */
export function explainPlan(plan: StartPlan): ExplainedPlan {
  return {
    namespaces: plan.cloneFlags === 0 ? [] : clone(plan.cloneFlags).split('|'),
    ...(plan.pidNamespacePath === undefined ? {} : { pidNamespacePath: plan.pidNamespacePath }),
    steps: plan.steps.map((step, index) => ({ index, step: step.kind, arguments: argumentsOf(step) })),
    warnings: plan.warnings ?? [],
  };
}

function inWords(value: Explained): string {
  if (typeof value === 'string') return /^[\w@%+=:,./|-]+$/.test(value) ? value : JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(inWords).join(' ')}]`;
  if (typeof value !== 'object') return String(value);
  return `{${Object.entries(value)
    .map(([name, part]) => `${name}=${inWords(part)}`)
    .join(' ')}}`;
}

/** One line per step: number, name, arguments. Ends with a newline. */
export function printPlan(plan: StartPlan): string {
  const { namespaces, pidNamespacePath, steps, warnings } = explainPlan(plan);
  const width = Math.max(...steps.map(({ step }) => step.length));
  const lines = [`clone3 ${namespaces.length > 0 ? namespaces.join('|') : 'into no new namespace'}`];
  if (pidNamespacePath !== undefined) lines.push(`in the pid namespace ${pidNamespacePath}`);
  for (const { index, step, arguments: fields } of steps) {
    const words = Object.entries(fields).map(([name, value]) => `${name}=${inWords(value)}`);
    lines.push(`${String(index).padStart(3)}  ${step.padEnd(width)}  ${words.join(' ')}`.trimEnd());
  }
  for (const warning of warnings) lines.push(`warning: ${warning}`);
  return `${lines.join('\n')}\n`;
}
