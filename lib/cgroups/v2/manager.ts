/** cgroup v2: one directory, controllers enabled from the top, devices by an eBPF program. kernel cgroup-v2.rst. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DeviceRule, Resources } from '../../config/config.ts';
import { CgroupError } from '../../errors.ts';
import type { Binding, FileOperation } from '../../native/binding.ts';
import { deviceList } from '../device-rules.ts';
import {
  errnoName,
  isGone,
  parseFlat,
  parseSingle,
  pidsBelow,
  readCgroupFile,
  readCgroupFileNow,
  writeCgroupFile,
} from '../file.ts';
import {
  devicesNotEnforced,
  inUserNamespace,
  type Layout,
  parseOwnCgroups,
  pathComponents,
} from '../layout.ts';
import type { LimitWrite } from '../limits.ts';
import type { CgroupManager, CgroupMountRow, CgroupStart, FreezerState } from '../manager.ts';
import { StartOperations } from '../start.ts';
import type { Stats } from '../stats.ts';
import { removeTree } from '../tree.ts';
import { applyLimits, type FileWrite } from '../update.ts';
import { makeAncestors, noController } from './controllers.ts';
import { delegation } from './delegation.ts';
import { deviceProgram } from './device-program.ts';
import { waitForCgroupEvent } from './events.ts';
import { v2Limits } from './limits.ts';
import { readV2Stats } from './stats.ts';

const defaultTimeoutMs = 10_000;
const freezeTimeoutMs = 10_000;
const SIGKILL = 9;

const programs = new WeakMap<readonly DeviceRule[], Uint8Array>();

/** Compiled once for the rules of a frozen Config, which come again with every start. */
function programOf(rules: readonly DeviceRule[]): Uint8Array {
  const known = programs.get(rules);
  if (known !== undefined) return known;
  const program = deviceProgram(deviceList(rules));
  if (Object.isFrozen(rules)) programs.set(rules, program);
  return program;
}

export class V2Manager implements CgroupManager {
  readonly layout = 'v2';
  readonly paths: { readonly [controller: string]: string };
  readonly #binding: Binding;
  readonly #mountPoint: string;
  readonly #directory: string;
  readonly #owner: number | undefined;

  /** @param owner Host uid that gets the cgroup, when it is not ours. */
  constructor(binding: Binding, host: Layout, directory: string, owner?: number) {
    this.#owner = owner;
    this.paths = { '': directory };
    this.#binding = binding;
    this.#mountPoint = host.v2?.mountPoint ?? '/sys/fs/cgroup';
    this.#directory = directory;
  }

  get mountRows(): readonly CgroupMountRow[] {
    return [{ name: '', path: this.#directory, type: 'cgroup2', data: '', links: [] }];
  }

  async prepareStart(
    resources: Resources,
    options: { readonly adopted?: boolean } = {},
  ): Promise<CgroupStart> {
    const directory = this.#directory;
    const writes = this.#fileWrites(resources);
    const exists = existsSync(directory);
    const adopted = options.adopted === true;
    if (adopted) this.#refuseUndelegated(writes);
    else if (exists) await this.#refuseUsed();
    else this.#refuseType(dirname(directory));
    const start = new StartOperations();
    // Above a unit systemd decides; it has no property for some controllers (hugetlb, rdma, misc).
    makeAncestors(start, this.#mountPoint, directory, this.#required(writes), !adopted);
    start.mkdir(directory, exists ? 'ok' : 'error');
    for (const { path, value, field, tolerate } of writes) start.write(path, value, field, tolerate);
    if (resources.devices !== undefined) this.#startDevices(start, resources.devices);
    if (this.#owner !== undefined) start.append(delegation(directory, this.#owner), 'linux.cgroupsPath');
    return start.finish([], directory);
  }

  #startDevices(start: StartOperations, rules: readonly DeviceRule[]): void {
    const program = programOf(rules);
    if (!inUserNamespace()) start.deviceProgram(this.#directory, program);
    else start.warn(devicesNotEnforced);
  }

  async prepareExec(
    subPaths: { readonly [controller: string]: string },
    options: { readonly initPid?: number } = {},
  ): Promise<CgroupStart> {
    const start = new StartOperations();
    const named = Object.keys(subPaths).find(key => key !== '');
    if (named !== undefined)
      throw new CgroupError(
        'ERR_UNSUPPORTED',
        { file: 'sub-cgroup' },
        { detail: `sub-cgroup of controller ${named}: cgroup v2 has one hierarchy` },
      );
    const sub = subPaths[''];
    const directory =
      sub === undefined
        ? this.#execDirectory(options.initPid)
        : join(this.#directory, ...pathComponents(sub, 'sub-cgroup'));
    if (!existsSync(directory))
      throw new CgroupError('ERR_CGROUP', { file: directory }, { detail: `${directory}: no such cgroup` });
    return start.finish([], directory);
  }

  /** A cgroup with controllers for its children holds no processes itself: the kernel would answer EBUSY to the clone. */
  #execDirectory(initPid: number | undefined): string {
    const control = readCgroupFileNow(join(this.#directory, 'cgroup.subtree_control'))?.trim() ?? '';
    if (control === '' || initPid === undefined) return this.#directory;
    try {
      const own = parseOwnCgroups(readFileSync(`/proc/${initPid}/cgroup`, 'utf8')).get('');
      const path = own === undefined ? this.#directory : join(this.#mountPoint, own);
      // Only below the container's cgroup: init's word is not taken for anything else.
      return path.startsWith(`${this.#directory}/`) && !path.includes('/../') ? path : this.#directory;
    } catch (error) {
      if (isGone(error)) return this.#directory;
      throw error;
    }
  }

  async exists(): Promise<boolean> {
    return existsSync(this.#directory);
  }

  async set(
    resources: Resources,
    former: Resources,
    options: { readonly skipDevices?: boolean } = {},
  ): Promise<void> {
    const program = options.skipDevices ? undefined : this.#changedProgram(resources, former);
    const writes = this.#fileWrites(resources);
    const enabled = (readCgroupFileNow(join(this.#directory, 'cgroup.controllers')) ?? '').trim().split(' ');
    const required = this.#required(writes);
    const lacking = [...required.keys()].filter(c => !enabled.includes(c));
    if (lacking.length > 0) throw noController(lacking, required, enabled);
    await this.#checkMemoryUsage(resources.memory);
    await applyLimits(writes, async () => {
      if (program !== undefined)
        await this.#binding.files([{ op: 'deviceProgram', path: this.#directory, program }], true);
    });
  }

  #changedProgram(resources: Resources, former: Resources): Uint8Array | undefined {
    if (resources.devices === undefined) return undefined;
    const program = deviceProgram(deviceList(resources.devices));
    if (inUserNamespace()) return undefined;
    const same =
      former.devices !== undefined && Buffer.from(program).equals(deviceProgram(deviceList(former.devices)));
    return same ? undefined : program;
  }

  /** v1 refuses a limit below the usage; v2 takes it and kills, unless the caller asked to look first. */
  async #checkMemoryUsage(memory: Resources['memory']): Promise<void> {
    if (memory?.checkBeforeUpdate !== true) return;
    const file = join(this.#directory, 'memory.current');
    const usage = parseSingle(await readCgroupFile(file));
    for (const [field, value] of [
      ['swap', memory.swap ?? 0],
      ['limit', memory.limit ?? 0],
    ] as const) {
      if (value <= 0 || BigInt(value) > usage) continue;
      const detail = `linux.resources.memory.${field}: rejecting memory${field === 'swap' ? '+swap' : ''} limit ${value} <= usage ${usage}`;
      throw new CgroupError('ERR_CGROUP', { file, value: String(value) }, { detail });
    }
  }

  async freeze(): Promise<void> {
    const file = join(this.#directory, 'cgroup.freeze');
    await writeCgroupFile(file, '1');
    const frozen = await waitForCgroupEvent(this.#binding, this.#directory, 'frozen', 1n, freezeTimeoutMs);
    if (frozen) return;
    await this.thaw();
    throw new CgroupError(
      'ERR_CGROUP',
      { file, value: '1' },
      { hint: 'a process in it cannot be stopped; see its wchan' },
    );
  }

  async thaw(): Promise<void> {
    try {
      await writeCgroupFile(join(this.#directory, 'cgroup.freeze'), '0');
    } catch (error) {
      if (!(error instanceof CgroupError && isGone(error.cause))) throw error;
    }
  }

  async freezerState(): Promise<FreezerState> {
    if (readCgroupFileNow(join(this.#directory, 'cgroup.freeze'))?.trim() !== '1') return 'thawed';
    const events = parseFlat(readCgroupFileNow(join(this.#directory, 'cgroup.events')));
    return events.get('frozen') === 1n ? 'frozen' : 'freezing';
  }

  async killAll(signal: number): Promise<void> {
    if (!existsSync(this.#directory)) return;
    const before = await this.freezerState();
    if (signal === SIGKILL && (await this.#cgroupKill())) {
      // Nobody is left to be kept frozen; who joins later must run, as on v1.
      if (before !== 'thawed') await this.thaw();
      return;
    }
    try {
      // Frozen, so that nobody forks while the list is read and no pid in it is reused; best effort, as in runc.
      if (before !== 'frozen') await this.freeze().catch(() => undefined);
      for (const pid of await this.pids()) {
        try {
          process.kill(pid, signal);
        } catch (error) {
          if (errnoName(error) !== 'ESRCH') throw error;
        }
      }
    } finally {
      if (before === 'thawed' || signal === SIGKILL) await this.thaw();
    }
  }

  /** cgroup.kill (Linux 5.14) reaches frozen processes and all cgroups below. */
  async #cgroupKill(): Promise<boolean> {
    try {
      await writeCgroupFile(join(this.#directory, 'cgroup.kill'), '1');
      return true;
    } catch (error) {
      if (error instanceof CgroupError && errnoName(error.cause) === 'ENODEV') return true;
      if (error instanceof CgroupError && isGone(error.cause)) return !existsSync(this.#directory);
      // A sandbox around us: what the freezer and signals cannot do either, they say.
      if (error instanceof CgroupError && ['EACCES', 'EPERM'].includes(errnoName(error.cause))) return false;
      throw error;
    }
  }

  pids(): Promise<number[]> {
    return pidsBelow(this.#directory);
  }

  stats(): Promise<Stats> {
    return readV2Stats(this.#directory);
  }

  async oomKillCount(): Promise<number> {
    // Read at once: an exec asks before its start, and a read on the thread pool is four turns of it.
    return Number(parseFlat(readCgroupFileNow(join(this.#directory, 'memory.events'))).get('oom_kill') ?? 0n);
  }

  get removal(): readonly FileOperation[] {
    return [{ op: 'rmdir', path: this.#directory }];
  }

  async destroy(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    try {
      await this.#binding.files(this.removal, false);
      return;
    } catch {
      // Processes or cgroups are still in it: the loop below waits, removes and reports.
    }
    const deadline = Date.now() + (options.timeoutMs ?? defaultTimeoutMs);
    await removeTree(this.#directory, deadline, async (directory, ms) => {
      await waitForCgroupEvent(this.#binding, directory, 'populated', 0n, ms);
    });
  }

  /** Who cannot write above the unit has only what systemd delegates to it. */
  #refuseUndelegated(writes: readonly LimitWrite[]): void {
    if (process.geteuid?.() === 0) return;
    const words = (file: string): string[] =>
      (readCgroupFileNow(file) ?? '').split(/\s+/).filter(word => word !== '');
    const delegated = words(join(this.#directory, 'cgroup.controllers'));
    const required = this.#required(writes);
    const lacking = [...required.keys()].filter(c => !delegated.includes(c));
    if (lacking.length === 0) return;
    const available = words(join(this.#mountPoint, 'cgroup.controllers'));
    throw noController(lacking, required, available, delegated);
  }

  async #refuseUsed(): Promise<void> {
    const directory = this.#directory;
    const pids = await pidsBelow(directory);
    if (pids.length > 0) throw new CgroupError('ERR_CGROUP_NOT_EMPTY', { file: directory, pids });
    if ((await this.freezerState()) !== 'thawed')
      throw new CgroupError('ERR_CGROUP_FROZEN', { file: directory });
    this.#refuseType(directory);
  }

  /** Processes cannot live in a domain below a threaded one: the clone would fail with EOPNOTSUPP (cgroup-v2.rst "Threads"). */
  #refuseType(cgroup: string): void {
    const type = readCgroupFileNow(join(cgroup, 'cgroup.type'))?.trim();
    if (type === undefined) {
      // The root has no such file. A parent that is still to be made will be what its own parent makes of it.
      if (cgroup.length > this.#mountPoint.length && !existsSync(cgroup)) this.#refuseType(dirname(cgroup));
      return;
    }
    if (type === 'domain') return;
    throw new CgroupError(
      'ERR_CGROUP_TYPE',
      { file: join(cgroup, 'cgroup.type') },
      { detail: `${cgroup} is ${type}` },
    );
  }

  /** Controllers that the limits need, with the first property that needs each; cgroup.* files are always there. */
  #required(limits: readonly LimitWrite[]): Map<string, string> {
    const required = new Map<string, string>();
    for (const { controller, field, tolerate } of limits) {
      if (controller === 'cgroup' || required.has(controller) || tolerate?.includes('ENOENT')) continue;
      required.set(controller, field);
    }
    return required;
  }

  #fileWrites(resources: Resources): (LimitWrite & FileWrite)[] {
    const limits = v2Limits(resources, { hasBfqWeight: () => this.#hasBfqWeight() });
    return limits.map(limit => ({ ...limit, path: join(this.#directory, limit.file) }));
  }

  /** The file is in no root cgroup: before ours is made, a disk tells that the kernel has BFQ (elevator, block/queue-sysfs.rst). */
  #hasBfqWeight(): boolean {
    if (existsSync(this.#directory)) return existsSync(join(this.#directory, 'io.bfq.weight'));
    const disks = existsSync('/sys/block') ? readdirSync('/sys/block') : [];
    return disks.some(name => /\bbfq\b/.test(readCgroupFileNow(`/sys/block/${name}/queue/scheduler`) ?? ''));
  }
}
