/**
 * Start plans of configurations: made once per Config object and process, since a daemon starts the same configuration
 * again and again. What a plan depends on beside them is in the key.
 */
import { existsSync } from 'node:fs';
import type { CgroupManager, CgroupMountRow, CgroupStart } from '../cgroups/manager.ts';
import type { Config, ProcessConfig, Seccomp } from '../config/config.ts';
import { notifies, sendsListener } from '../config/seccomp.ts';
import { ConfigError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import { hasNamespace } from '../plan/namespaces.ts';
import type { SeccompProgram } from '../plan/process-steps.ts';
import { planSetnsInit } from '../plan/setns-init.ts';
import { planStandardInit, sessionKeyring } from '../plan/standard-init.ts';
import type { MountStep, StartPlan, Step } from '../plan/steps.ts';

export interface StandardPlanRequest {
  readonly binding: Binding;
  readonly containerId: string;
  readonly config: Config;
  readonly process: ProcessConfig;
  readonly manager: CgroupManager;
  readonly cgroup: CgroupStart;
  /** init waits on the exec fifo in slot 0. */
  readonly wait: boolean;
  readonly preservedFds: number;
}

interface Entry {
  readonly request: Omit<StandardPlanRequest, 'binding' | 'manager' | 'cgroup' | 'config'>;
  readonly joinFiles: string;
  readonly rows: readonly CgroupMountRow[];
  readonly plan: StartPlan;
}

/** Per configuration the last plans; a container is seldom run in more ways than this. */
const entriesPerConfig = 4;
const plans = new WeakMap<Config, Entry[]>();

/** The very same, or a list of the same: the arguments of a command are often written where it is started. */
function same(a: unknown, b: unknown): boolean {
  if (a === b || !Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((item, at) => item === b[at]);
}

/** Same fields, each the same: what comes from one `config.process` by spreading. */
function sameProcess(a: ProcessConfig, b: ProcessConfig): boolean {
  const left = a as unknown as { readonly [name: string]: unknown };
  const right = b as unknown as { readonly [name: string]: unknown };
  const names = Object.keys(left);
  return names.length === Object.keys(right).length && names.every(name => same(left[name], right[name]));
}

export function standardPlan(request: StandardPlanRequest): StartPlan {
  const { config, process, containerId, wait, preservedFds, cgroup } = request;
  const joinFiles = `${cgroup.cloneInto ?? ''}\n${cgroup.joinFiles.join('\n')}`;
  const entries = plans.get(config) ?? [];
  const keep = (plan: StartPlan): StartPlan => {
    const made = { containerId, process, wait, preservedFds };
    entries.unshift({ request: made, joinFiles, rows: request.manager.mountRows, plan });
    entries.length = Math.min(entries.length, entriesPerConfig);
    plans.set(config, entries);
    return plan;
  };
  const alike = entries.filter(
    ({ request: made }) =>
      made.wait === wait && made.preservedFds === preservedFds && sameProcess(made.process, process),
  );
  const same = alike.find(
    entry => entry.request.containerId === containerId && entry.joinFiles === joinFiles,
  );
  if (same !== undefined) return same.plan;
  const ofLength = alike.find(entry => entry.joinFiles.length === joinFiles.length);
  const like = ofLength ?? alike[0];
  const moved = like === undefined ? undefined : forContainer(like.plan, like.rows, config, request);
  // The first of its length is kept for the next ones: the encoding can be taken over from a plan of the same length.
  if (moved !== undefined) return ofLength === undefined ? keep(moved) : moved;
  requireLandlock(request.binding, config);
  const plan = planStandardInit(config, process, {
    containerId,
    cgroup,
    cgroupMounts: { layout: request.manager.layout, rows: request.manager.mountRows },
    lastCapability: lastCapability(request.binding),
    hostHasKcore: hostHasKcore(),
    preservedFds,
    ...(wait ? { fifoSlot: 0 } : {}),
    ...seccompOf(request.binding, config.seccomp),
  });
  return keep(plan);
}

/**
 * The same plan for another container: only the steps that name its cgroups or its ID are new, so that the others, and
 * their encoding, are shared. Undefined when more depends on the container: with CLONE_INTO_CGROUP the way in may differ.
 */
function forContainer(
  plan: StartPlan,
  rows: readonly CgroupMountRow[],
  config: Config,
  { cgroup, containerId, manager }: StandardPlanRequest,
): StartPlan | undefined {
  const sources = movedSources(config, rows, manager);
  const joins = plan.steps.filter(step => step.kind === 'joinCgroup').length;
  // Born in its cgroup it has none to join: then the clone flags are the same too.
  if (
    sources === undefined ||
    plan.steps.some(({ kind }) => kind === 'hostView') ||
    joins !== cgroup.joinFiles.length ||
    (joins === 0 && cgroup.place === undefined) !== (cgroup.cloneInto !== undefined)
  )
    return undefined;
  let index = 0;
  const steps = plan.steps.map((step): Step => {
    if (step.kind === 'joinCgroup') return { ...step, file: cgroup.joinFiles[index++] ?? step.file };
    if (step.kind === 'sessionKeyring') return { ...step, name: sessionKeyring(containerId) };
    const source = step.kind === 'mount' && step.type === 'bind' ? sources.get(step.source) : undefined;
    return source === undefined ? step : { ...(step as MountStep), source };
  });
  const moved = { ...plan, steps };
  templates.set(moved, plan);
  return moved;
}

const templates = new WeakMap<StartPlan, StartPlan>();
/** The plan of another container that this one was made from; its encoding can serve. */
export const templateOf = (plan: StartPlan): StartPlan | undefined => templates.get(plan);

/** Without a cgroup namespace `cgroup` mounts are binds of the container's cgroups: the other's path → this one's. */
function movedSources(
  config: Config,
  rows: readonly CgroupMountRow[],
  manager: CgroupManager,
): ReadonlyMap<string, string> | undefined {
  const sources = new Map<string, string>();
  if (hasNamespace(config, 'cgroup') || !config.mounts.some(mount => mount.type === 'cgroup')) return sources;
  const own = manager.mountRows;
  for (const [at, { name, path }] of rows.entries()) {
    const row = own[at];
    if (row === undefined || row.name !== name) return undefined;
    sources.set(path, row.path);
  }
  // A mount of the configuration itself stays what it is.
  if (own.length !== rows.length || config.mounts.some(mount => sources.has(mount.source))) return undefined;
  return sources;
}

export interface SetnsPlanRequest {
  readonly binding: Binding;
  readonly containerId: string;
  readonly config: Config;
  readonly process: ProcessConfig;
  readonly cgroup: CgroupStart;
  readonly waitForRelease: boolean;
  readonly preservedFds: number;
}

interface SetnsEntry {
  readonly request: SetnsPlanRequest;
  readonly plan: StartPlan;
}
const setnsPlans = new WeakMap<Config, SetnsEntry[]>();

/** The same command again and again in one container: a health check. */
export function setnsPlan(request: SetnsPlanRequest): StartPlan {
  const { binding, containerId, config, process, cgroup, waitForRelease, preservedFds } = request;
  const entries = setnsPlans.get(config) ?? [];
  for (const { request: made, plan } of entries)
    if (
      made.containerId === containerId &&
      made.waitForRelease === waitForRelease &&
      made.preservedFds === preservedFds &&
      made.cgroup.cloneInto === cgroup.cloneInto &&
      (made.cgroup.place === undefined) === (cgroup.place === undefined) &&
      made.cgroup.joinFiles.join('\n') === cgroup.joinFiles.join('\n') &&
      sameProcess(made.process, process)
    )
      return plan;
  requireLandlock(binding, config);
  const plan = planSetnsInit(config, process, {
    containerId,
    cgroup,
    lastCapability: lastCapability(binding),
    pidfdSlot: 0,
    preservedFds,
    waitForRelease,
    ...seccompOf(binding, config.seccomp),
  });
  entries.unshift({ request, plan });
  entries.length = Math.min(entries.length, entriesPerConfig);
  setnsPlans.set(config, entries);
  return plan;
}

let knownLastCapability: number | undefined;
function lastCapability(binding: Binding): number {
  knownLastCapability ??= binding.lastCapability();
  return knownLastCapability;
}

let knownKcore: boolean | undefined;
function hostHasKcore(): boolean {
  knownKcore ??= existsSync('/proc/kcore');
  return knownKcore;
}

function requireLandlock(binding: Binding, { landlock }: Config): void {
  if (landlock !== undefined && binding.landlockAbi() === 0)
    throw new ConfigError('ERR_UNSUPPORTED', {
      issues: [{ path: 'landlock', message: 'this kernel has none, or it is switched off' }],
    });
}

const programs = new WeakMap<Seccomp, SeccompProgram>();
/** A profile of Docker's size takes some 20 ms to compile; every bundle of an engine carries the same text. */
const programsByText = new Map<string, SeccompProgram>();
const mostPrograms = 32;

function seccompOf(binding: Binding, section: Seccomp | undefined): { readonly seccomp?: SeccompProgram } {
  if (section === undefined) return {};
  let program = programs.get(section);
  if (program === undefined) {
    program = byText(binding, section);
    programs.set(section, program);
  }
  return { seccomp: program };
}

function byText(
  binding: Binding,
  { listenerPath = '', listenerMetadata: _, ...profile }: Seccomp,
): SeccompProgram {
  const notify = notifies(profile);
  const wait = notify && listenerPath !== '';
  const text = `${wait}${JSON.stringify(profile)}`;
  let program = programsByText.get(text);
  if (program === undefined) {
    const take = notify && !sendsListener(profile);
    const more = { ...(wait ? { wait } : {}), ...(take ? { take } : {}) };
    program = { ...compiled(binding, profile), notify, ...more };
    if (programsByText.size === mostPrograms)
      for (const oldest of programsByText.keys()) {
        programsByText.delete(oldest);
        break;
      }
    programsByText.set(text, program);
  }
  return program;
}

/** The names were checked before: what is refused now is what this libseccomp or this processor cannot do. */
function compiled(binding: Binding, section: Seccomp): ReturnType<Binding['seccompCompile']> {
  try {
    return binding.seccompCompile(JSON.stringify(section));
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    const [, place, message = text] = /^([\w.[\]]+): (.*)$/s.exec(text) ?? [];
    const path = place === undefined ? 'linux.seccomp' : `linux.seccomp.${place}`;
    throw new ConfigError('ERR_UNSUPPORTED', { issues: [{ path, message }], cause });
  }
}
