/** What a process of a container is, told twice in the same words: by itself (/bin/probe), and by the host's /proc. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import type { Container } from '../../lib/index.ts';
import { capabilityNumber } from '../harness/capabilities.ts';
import { text, within } from '../harness/deadline.ts';
import type { Fixture } from './fixture.ts';

export type ExecOptions = Parameters<Fixture['process']>[0];

export interface Facts {
  /** Real, effective, saved. */
  readonly uid: readonly number[];
  readonly gid: readonly number[];
  readonly groups: readonly number[];
  readonly capabilities: { readonly [set in 'Inh' | 'Prm' | 'Eff' | 'Bnd' | 'Amb']: string };
  readonly noNewPrivileges: boolean;
  readonly umask: string;
  readonly cpus: string;
  readonly cwd: string;
  /** Sorted. */
  readonly env: readonly string[];
  /** Soft and hard, by the number of the resource; 2^64-1 is none. */
  readonly limits: readonly (readonly string[])[];
  readonly policy: number;
  readonly priority: number;
  readonly nice: number;
  readonly oomScoreAdj: number;
}

export const mask = (...names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(capabilityNumber(name))), 0n)
    .toString(16)
    .padStart(16, '0');

/** `Name: value` rows of proc_pid_status(5). */
export function statusOf(pid: number | undefined): (name: string) => string {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return name => new RegExp(`^${name}:[\\t ]*(.*?) *$`, 'm').exec(status)?.[1] ?? assert.fail(`no ${name}`);
}

/** Fields of proc_pid_stat(5) by their number there, from 3 on. */
export function statOf(pid: number | undefined): (field: number) => number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return field => Number(fields[field - 3]);
}

export const capabilitiesOf = (value: (name: string) => string): Facts['capabilities'] => ({
  Inh: value('CapInh'),
  Prm: value('CapPrm'),
  Eff: value('CapEff'),
  Bnd: value('CapBnd'),
  Amb: value('CapAmb'),
});

const numbers = (list: string): number[] => (list === '' ? [] : list.split(/\s+/).map(Number));

/** Rows of /proc/PID/limits are in the order of the resources' numbers. */
export const limitsOf = (pid: number | 'self' | undefined): string[][] =>
  readFileSync(`/proc/${pid}/limits`, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map(row => {
      const [, soft = '', hard = ''] = /^.{26}(\S+)\s+(\S+)/.exec(row) ?? [];
      return [soft, hard].map(value => (value === 'unlimited' ? String(2n ** 64n - 1n) : value));
    });

export function fromOutside(pid: number | undefined): Facts {
  const status = statusOf(pid);
  const stat = statOf(pid);
  const file = (name: string): string => readFileSync(`/proc/${pid}/${name}`, 'utf8');
  const [uid, gid] = [numbers(status('Uid')), numbers(status('Gid'))];
  // The fourth is that of the file system, which nobody sets by itself.
  assert.deepEqual([uid.pop(), gid.pop()], [uid[1], gid[1]]);
  return {
    uid,
    gid,
    groups: numbers(status('Groups')),
    capabilities: capabilitiesOf(status),
    noNewPrivileges: status('NoNewPrivs') === '1',
    umask: status('Umask'),
    cpus: status('Cpus_allowed_list'),
    cwd: readlinkSync(`/proc/${pid}/cwd`),
    env: file('environ').split('\0').slice(0, -1).sort(),
    limits: limitsOf(pid),
    policy: stat(41),
    priority: stat(40),
    nice: stat(19),
    oomScoreAdj: Number(file('oom_score_adj')),
  };
}

/** SCHED_RESET_ON_FORK, which sched_getscheduler(2) adds to the policy. */
const resetOnFork = 0x40000000;

function fromInside(output: string): { facts: Facts; ioPriority: number; resetOnFork: boolean } {
  const seen = JSON.parse(output);
  const { uid, gid, groups, status, cwd, env, limits, oomScoreAdj } = seen;
  const { policy, priority, nice } = seen.scheduler;
  const facts: Facts = {
    uid,
    gid,
    groups,
    capabilities: capabilitiesOf(name => status[name]),
    noNewPrivileges: status.NoNewPrivs === '1',
    umask: status.Umask,
    cpus: status.Cpus_allowed_list,
    cwd,
    env: [...env].sort(),
    limits,
    policy: policy & ~resetOnFork,
    priority,
    nice,
    oomScoreAdj,
  };
  return { facts, ioPriority: seen.ioprio, resetOnFork: (policy & resetOnFork) !== 0 };
}

const sections = ['ids', 'status', 'limits', 'env', 'scheduling'];

/** Two processes with these options at once: one tells of itself, one waits to be looked at. */
export async function look(on: Fixture, container: Container, options: ExecOptions = {}) {
  const told = on.process({ ...options, args: ['/bin/probe', 'json', ...sections], stdout: 'pipe' });
  const seen = on.process({ ...options, args: ['/bin/probe', 'echo'], stdin: 'pipe', stdout: 'pipe' });
  await Promise.all([container.start(told), container.start(seen)]);
  // The kernel closes the init pipe a moment before the new environment can be read.
  const echoed = once(seen.stdout ?? assert.fail(), 'data');
  seen.stdin?.write('x\n');
  await within(echoed, 'echo');
  const outside = fromOutside(seen.pid);
  seen.stdin?.end();
  const inside = fromInside(await text(told.stdout ?? assert.fail()));
  for (const process of [told, seen])
    assert.deepEqual(await within(process.wait(), 'exit'), { kind: 'exited', code: 0 });
  return { ...inside, inside: inside.facts, outside };
}
