/** What a process in the container must see of a random document (random-spec.ts), and what it has seen. */
import { readFileSync, readlinkSync } from 'node:fs';
import { getPriority } from 'node:os';
import { capabilityNumber } from '../harness/capabilities.ts';
import { missing } from '../harness/requirements.ts';
import { cgroupFiles, type Drawn, flags, has } from './random-spec.ts';

const isV2 = missing('cgroup-v2') === undefined;
const hasCpu = missing('controller:cpu') === undefined;

const mask = (names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(capabilityNumber(name))), 0n)
    .toString(16)
    .padStart(16, '0');

const kinds = ['cgroup', 'ipc', 'network', 'pid', 'time', 'uts'];
const linkOf = (kind: string): string => (kind === 'network' ? 'net' : kind);
const masked = ['/proc/kcore', '/proc/keys', '/sys/firmware', '/proc/scsi'];
const readonly_ = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'];
const drawnMounts = (document: Drawn) =>
  document.mounts.filter(({ destination }) => destination.startsWith('/mnt/'));

/** What the configuration says, in the words of `observed`. */
export function expected(document: Drawn): { [fact: string]: unknown } {
  const { process, linux } = document;
  const { uid = 0, gid = 0, umask = 0o022, additionalGids = [] } = process.user;
  const { bounding = [], permitted = [], inheritable = [], ambient = [] } = process.capabilities;
  const noNewPrivileges = process.noNewPrivileges ?? false;
  // capabilities(7), "Transformation of capabilities during execve": root gets what the bounding set lets it have, but
  // with no_new_privs no more than it had (security/commoncap.c).
  const may = [...new Set([...bounding, ...inheritable])];
  const root = noNewPrivileges ? may.filter(name => permitted.includes(name)) : may;
  const gained = uid === 0 ? root : ambient;
  const { memory, pids, cpu } = linux.resources;
  const [nofile, core] = process.rlimits;
  const facts: { [fact: string]: unknown } = {
    uid,
    gid,
    groups: [...additionalGids].sort((a, b) => a - b),
    umask,
    CapBnd: mask(bounding),
    CapInh: mask(inheritable),
    CapAmb: mask(ambient),
    CapPrm: mask(gained),
    CapEff: mask(gained),
    noNewPrivileges,
    cwd: process.cwd === '/home/app/../web' ? '/home/web' : process.cwd,
    env: Object.fromEntries(
      (process.env ?? []).map(entry => [
        entry.slice(0, entry.indexOf('=')),
        entry.slice(entry.indexOf('=') + 1),
      ]),
    ),
    namespaces: kinds.filter(kind => has(document, kind)),
    nofile: [nofile?.soft, nofile?.hard].map(String),
    core: [core?.soft, core?.hard].map(String),
    pids: String(pids.limit),
    seccomp: linux.seccomp === undefined ? '0' : '2',
    scheduler: process.scheduler?.policy === 'SCHED_BATCH' ? 3 : 0,
    nice: process.scheduler === undefined ? getPriority() : (process.scheduler.nice ?? 0),
    personality: linux.personality?.domain === 'LINUX32' ? 8 : 0,
  };
  if (process.oomScoreAdj !== undefined) facts.oomScoreAdj = process.oomScoreAdj;
  if (process.ioPriority !== undefined)
    facts.ioPriority =
      ((process.ioPriority.class === 'IOPRIO_CLASS_BE' ? 2 : 3) << 13) | process.ioPriority.priority;
  if (memory?.limit !== undefined) facts.memory = String(memory.limit);
  if (hasCpu && cpu?.shares !== undefined && !isV2) facts.shares = String(cpu.shares);
  if (hasCpu && cpu?.quota !== undefined) facts.quota = String(cpu.quota);
  if (hasCpu && cpu?.period !== undefined) facts.period = String(cpu.period);
  if (document.hostname !== undefined) facts.hostname = document.hostname;
  if (document.domainname !== undefined) facts.domainname = document.domainname;
  for (const [name, value] of Object.entries(linux.sysctl ?? {})) facts[name] = value;
  for (const [name, { secs, nanosecs }] of Object.entries(linux.timeOffsets ?? {}))
    facts[`clock ${name}`] = `${secs} ${nanosecs}`;
  // Of several on one place the last counts.
  for (const { destination, options = [] } of drawnMounts(document)) facts[destination] = [...options].sort();
  for (const { path, minor = 3, fileMode = 0o666, uid: owner = 0, gid: group = 0 } of linux.devices ?? [])
    facts[path] = {
      type: 'c',
      mode: fileMode.toString(8).padStart(4, '0'),
      uid: owner,
      gid: group,
      device: `1:${minor}`,
    };
  for (const path of masked) facts[`masked ${path}`] = linux.maskedPaths.includes(path) && hostHas(path);
  for (const path of readonly_)
    facts[`read-only ${path}`] = linux.readonlyPaths.includes(path) && hostHas(path);
  return facts;
}

const present = new Map<string, boolean>();
function hostHas(path: string): boolean {
  let known = present.get(path);
  if (known === undefined) {
    try {
      readFileSync(path, { flag: 'r' }).byteLength;
      known = true;
    } catch (error) {
      known = (error as NodeJS.ErrnoException).code !== 'ENOENT';
    }
    present.set(path, known);
  }
  return known;
}

function filesOf(output: string): Map<string, string> {
  return new Map(
    output
      .split('\n')
      .map(line => /^file (\S+) (.*)$/.exec(line))
      .map(match => [match?.[1] ?? '', match?.[2] ?? ''] as const),
  );
}

/** The same facts as a process in the container saw them. */
export function observed(output: string, document: Drawn): { [fact: string]: unknown } {
  const start = output.indexOf('{"');
  const seen = JSON.parse(output.slice(start));
  const files = filesOf(output.slice(0, start));
  const file = (names: readonly string[]) =>
    names.map(name => files.get(name)).find(value => value !== undefined);
  const rows: string[][] = seen.mountinfo.map((line: string) => line.split(' '));
  const optionsOf = (path: string): string[] | undefined =>
    rows.findLast(row => row[4] === path)?.[5]?.split(',');
  const { process, linux } = document;
  const names = new Set(
    [...(process.env ?? [])].map(entry => entry.slice(0, entry.indexOf('='))).filter(name => name !== ''),
  );
  const env: [string, string][] = seen.env.map((entry: string) => [
    entry.slice(0, entry.indexOf('=')),
    entry.slice(entry.indexOf('=') + 1),
  ]);
  const facts: { [fact: string]: unknown } = {
    uid: seen.uid[0],
    gid: seen.gid[0],
    groups: [...seen.groups].sort((a, b) => a - b),
    umask: Number.parseInt(seen.status.Umask, 8),
    ...Object.fromEntries(
      ['CapBnd', 'CapInh', 'CapAmb', 'CapPrm', 'CapEff'].map(name => [name, seen.status[name]]),
    ),
    noNewPrivileges: seen.status.NoNewPrivs === '1',
    cwd: seen.cwd,
    env: Object.fromEntries(env.filter(([name]) => names.has(name))),
    namespaces: kinds.filter(
      kind => seen.namespaces[linkOf(kind)] !== readlinkSync(`/proc/self/ns/${linkOf(kind)}`),
    ),
    nofile: seen.limits[7],
    core: seen.limits[4],
    pids: file(cgroupFiles.pids),
    seccomp: seen.status.Seccomp,
    scheduler: seen.scheduler.policy,
    nice: seen.scheduler.nice,
    personality: seen.personality,
  };
  if (process.oomScoreAdj !== undefined) facts.oomScoreAdj = seen.oomScoreAdj;
  if (process.ioPriority !== undefined) facts.ioPriority = seen.ioprio;
  const { memory, cpu } = linux.resources;
  if (memory?.limit !== undefined) facts.memory = file(cgroupFiles.memory);
  if (hasCpu && cpu?.shares !== undefined && !isV2) facts.shares = file(cgroupFiles.shares);
  if (hasCpu && cpu?.quota !== undefined) facts.quota = file(cgroupFiles.quota)?.split(' ')[0];
  if (hasCpu && cpu?.period !== undefined) facts.period = file(cgroupFiles.period)?.split(' ').at(-1);
  if (document.hostname !== undefined) facts.hostname = seen.hostname;
  if (document.domainname !== undefined) facts.domainname = seen.domainname;
  for (const name of Object.keys(linux.sysctl ?? {}))
    facts[name] = files.get(`/proc/sys/${name.replaceAll('.', '/')}`);
  const clocks = files.get('/proc/self/timens_offsets') ?? '';
  for (const name of Object.keys(linux.timeOffsets ?? {}))
    facts[`clock ${name}`] = new RegExp(`${name}\\s+(\\d+)\\s+(\\d+)`).exec(clocks)?.slice(1).join(' ');
  for (const { destination } of drawnMounts(document))
    facts[destination] = (optionsOf(destination) ?? []).filter(name => flags.includes(name)).sort();
  for (const { path } of linux.devices ?? []) facts[path] = seen.dev[path.slice('/dev/'.length)];
  for (const path of masked) facts[`masked ${path}`] = optionsOf(path) !== undefined;
  for (const path of readonly_) facts[`read-only ${path}`] = optionsOf(path)?.includes('ro') ?? false;
  return facts;
}
