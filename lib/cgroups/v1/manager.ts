/**
 * cgroup v1, and a hybrid host where the controllers are v1's: one directory per hierarchy. A controller that only the
 * unified hierarchy of a hybrid host has (hugetlb, rdma) is used there when a limit asks for it. With the key '' a unit of
 * systemd is in the unified hierarchy in any case.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { DeviceRule, Resources } from '../../config/config.ts';
import { CgroupError } from '../../errors.ts';
import type { Binding, FileOperation } from '../../native/binding.ts';
import { deviceList, deviceTransition, parseDeviceList, sameDevices } from '../device-rules.ts';
import { isGone, parseFlat, pidsBelow, readCgroupFile, readCgroupFileNow, writeCgroupFile } from '../file.ts';
import { devicesNotEnforced, inUserNamespace, type Layout, pathComponents } from '../layout.ts';
import type { LimitWrite } from '../limits.ts';
import type { CgroupManager, CgroupMountRow, CgroupStart, FreezerState } from '../manager.ts';
import { StartOperations } from '../start.ts';
import type { Stats } from '../stats.ts';
import { backoffWait, removeTree } from '../tree.ts';
import { applyLimits, type FileWrite } from '../update.ts';
import { makeAncestors } from '../v2/controllers.ts';
import { v2Hugetlb, v2Rdma } from '../v2/limits.ts';
import { freezerStateV1, freezeV1, thawV1 } from './freezer.ts';
import { v1Limits } from './limits.ts';
import { readV1Stats } from './stats.ts';

const defaultTimeoutMs = 10_000;
/** Killing goes on without the freezer when this was not enough. */
const killFreezeMs = 1000;
const SIGKILL = 9;

type DeviceWrites = ReturnType<typeof deviceTransition>;
const freshWrites = new WeakMap<readonly DeviceRule[], DeviceWrites>();

/**
 * A new cgroup takes over its parent's list, whatever it is: as if all were allowed, so that it is reset. The same rules
 * come again and again (a frozen Config's), and this is computed from them alone.
 */
function freshDevices(rules: readonly DeviceRule[]): DeviceWrites {
  const known = freshWrites.get(rules);
  if (known !== undefined) return known;
  const writes = deviceTransition({ defaultAllow: true, exceptions: [] }, deviceList(rules));
  if (Object.isFrozen(rules)) freshWrites.set(rules, writes);
  return writes;
}

const knownLimits = new WeakMap<Resources, readonly LimitWrite[]>();

const isConstant = (value: unknown): boolean =>
  Object.isFrozen(value) &&
  (typeof value !== 'object' || value === null || Object.values(value).every(isConstant));

/** As with the device rules. Which files block weights have is the host's affair and can change with its modules. */
function limitWrites(resources: Resources, compute: () => readonly LimitWrite[]): readonly LimitWrite[] {
  const known = knownLimits.get(resources);
  if (known !== undefined) return known;
  const writes = compute();
  if (resources.blockIO === undefined && isConstant(resources)) knownLimits.set(resources, writes);
  return writes;
}

export class V1Manager implements CgroupManager {
  readonly layout: 'v1' | 'hybrid';
  readonly paths: { readonly [controller: string]: string };
  readonly #binding: Binding;
  readonly #host: Layout;
  /** Each directory once, in the order of the mounts; the freezer's last, since a process that joins it may stop there. */
  readonly #directories: readonly string[];
  readonly #mountPoints: ReadonlySet<string>;

  constructor(binding: Binding, host: Layout, paths: { readonly [controller: string]: string }) {
    this.layout = host.v2 === undefined ? 'v1' : 'hybrid';
    this.paths = paths;
    this.#binding = binding;
    this.#host = host;
    this.#mountPoints = new Set(host.v1.map(hierarchy => hierarchy.mountPoint));
    const freezer = paths.freezer;
    const all = [...new Set(Object.values(paths))];
    this.#directories = freezer === undefined ? all : [...all.filter(d => d !== freezer), freezer];
  }

  get mountRows(): readonly CgroupMountRow[] {
    const rows: CgroupMountRow[] = [];
    for (const hierarchy of this.#host.v1) {
      const path = this.paths[hierarchy.controllers[0] ?? ''];
      if (path === undefined) continue;
      const name = basename(hierarchy.mountPoint);
      const [first] = hierarchy.controllers;
      const data = first?.startsWith('name=') ? `none,${first}` : hierarchy.controllers.join(',');
      const links = hierarchy.controllers.length > 1 ? hierarchy.controllers.filter(c => c !== name) : [];
      rows.push({ name, path, type: 'cgroup', data, links });
    }
    return rows;
  }

  async prepareStart(
    resources: Resources,
    options: { readonly adopted?: boolean } = {},
  ): Promise<CgroupStart> {
    const start = new StartOperations();
    const there = new Set<string>();
    for (const directory of this.#directories) {
      const exists = existsSync(directory);
      if (exists) {
        there.add(directory);
        if (options.adopted !== true) await this.#refuseUsed(directory);
      }
      if (this.#isUnified(directory)) this.#makeUnifiedParents(start, directory);
      else if (!exists) this.#makeParents(start, directory);
      start.mkdir(directory, exists ? 'ok' : 'error');
    }
    const { cpuset, devices = '' } = this.paths;
    if (cpuset !== undefined) this.#fillCpuset(start, cpuset, resources, there.has(cpuset));
    for (const write of this.#fileWrites(resources))
      start.write(write.path, write.value, write.field, write.tolerate);
    const deviceWrites = this.#deviceWrites(resources.devices, there.has(devices));
    if (inUserNamespace() && deviceWrites.length > 0) start.warn(devicesNotEnforced);
    else for (const write of deviceWrites) start.write(write.path, write.value, write.field);
    return start.finish(this.#joinFiles(this.#directories));
  }

  async prepareExec(subPaths: { readonly [controller: string]: string }): Promise<CgroupStart> {
    const moved = new Map<string, string>();
    for (const [controller, sub] of Object.entries(subPaths)) {
      const names = pathComponents(sub, `sub-cgroup ${controller}`);
      const wanted = controller === '' ? Object.keys(this.paths).filter(name => name !== '') : [controller];
      for (const name of wanted) {
        const base = this.paths[name];
        if (base === undefined) throw this.#noController(name, 'sub-cgroup');
        const directory = join(base, ...names);
        if (!existsSync(directory))
          throw new CgroupError(
            'ERR_CGROUP',
            { file: directory },
            { detail: `${directory}: no such cgroup` },
          );
        moved.set(base, directory);
      }
    }
    return new StartOperations().finish(this.#joinFiles(this.#directories.map(d => moved.get(d) ?? d)));
  }

  async exists(): Promise<boolean> {
    return this.#directories.some(d => existsSync(d));
  }

  async set(
    resources: Resources,
    former: Resources,
    options: { readonly skipDevices?: boolean } = {},
  ): Promise<void> {
    const rules = options.skipDevices || inUserNamespace() ? undefined : resources.devices;
    if (rules !== undefined) deviceList(rules); // refuses bad rules before the first write
    await applyLimits(this.#fileWrites(resources), async () => {
      if (rules !== undefined) await this.#setDevices(rules, former.devices);
    });
  }

  freeze(): Promise<void> {
    return freezeV1(this.#freezer());
  }

  async thaw(): Promise<void> {
    await thawV1(this.#freezer());
  }

  async freezerState(): Promise<FreezerState> {
    const directory = this.paths.freezer;
    return directory === undefined ? 'thawed' : freezerStateV1(directory);
  }

  /**
   * Frozen first, so that no process can fork while the list is read and no pid in it can be reused; the signal is
   * delivered at the thaw. Killed ones must be thawed even when the caller had paused them: a frozen process does not die.
   */
  async killAll(signal: number): Promise<void> {
    const freezer = this.paths.freezer;
    if (freezer === undefined) {
      await this.#signalAll(signal);
      if (signal === SIGKILL) await this.#killRest();
      return;
    }
    const before = freezerStateV1(freezer);
    let frozen = before === 'frozen';
    try {
      // One that cannot be frozen (a task in a vfork or in D state, endless forks) is still signalled.
      if (!frozen && existsSync(freezer))
        frozen = await freezeV1(freezer, killFreezeMs).then(
          () => true,
          () => false,
        );
      await this.#signalAll(signal);
      if (signal === SIGKILL && !frozen) await this.#killRest();
    } finally {
      if (before === 'thawed' || signal === SIGKILL) await thawV1(freezer);
    }
  }

  /** Without the freezer somebody may have forked behind the list: killed again until nobody is found. */
  async #killRest(): Promise<void> {
    const deadline = Date.now() + defaultTimeoutMs;
    while (Date.now() < deadline && (await this.pids()).length > 0) {
      await this.#signalAll(SIGKILL);
      await delay(1);
    }
  }

  async #signalAll(signal: number): Promise<void> {
    for (const pid of await this.pids()) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
      }
    }
  }

  pids(): Promise<number[]> {
    const directory = this.paths.devices ?? this.paths.freezer ?? this.#directories[0];
    return directory === undefined ? Promise.resolve([]) : pidsBelow(directory);
  }

  stats(): Promise<Stats> {
    return readV1Stats(this.paths, this.#host.v2?.mountPoint);
  }

  async oomKillCount(): Promise<number> {
    // Read at once: an exec asks before its start, and a read on the thread pool is four turns of it.
    const directory = this.paths.memory;
    if (directory === undefined) return 0;
    // The line exists since Linux 4.13.
    return Number(parseFlat(readCgroupFileNow(join(directory, 'memory.oom_control'))).get('oom_kill') ?? 0n);
  }

  get removal(): readonly FileOperation[] {
    return this.#directories.map(path => ({ op: 'rmdir', path }));
  }

  async destroy(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    try {
      // The usual case, all empty, is one job of the native thread.
      await this.#binding.files(this.removal, false);
      return;
    } catch {
      // Something is still in one of them, or below: removeTree finds out and reports.
    }
    const deadline = Date.now() + (options.timeoutMs ?? defaultTimeoutMs);
    const wait = backoffWait();
    for (const directory of this.#directories) await removeTree(directory, deadline, wait);
  }

  #joinFiles(directories: readonly string[]): string[] {
    return directories.map(d => join(d, this.#isUnified(d) ? 'cgroup.procs' : 'tasks'));
  }

  #freezer(): string {
    const directory = this.paths.freezer;
    if (directory === undefined) throw this.#noController('freezer', 'pause');
    return directory;
  }

  #noController(controller: string, field: string): CgroupError {
    const available = Object.keys(this.paths).join(' ');
    const detail = `${field}: wanted ${controller}, available: ${available}`;
    return new CgroupError('ERR_CGROUP_CONTROLLER', { file: field }, { detail });
  }

  /** A cgroup of somebody else's must not get our limits and our kill. */
  async #refuseUsed(directory: string): Promise<void> {
    const pids = await pidsBelow(directory);
    if (pids.length > 0) throw new CgroupError('ERR_CGROUP_NOT_EMPTY', { file: directory, pids });
    if (directory === this.paths.freezer && freezerStateV1(directory) !== 'thawed')
      throw new CgroupError('ERR_CGROUP_FROZEN', { file: directory });
  }

  #isUnified(directory: string): boolean {
    const mount = this.#host.v2?.mountPoint;
    return mount !== undefined && directory.startsWith(`${mount}/`);
  }

  #makeUnifiedParents(start: StartOperations, directory: string): void {
    const controllers = Object.keys(this.paths).filter(c => c !== '' && this.paths[c] === directory);
    const required = new Map(
      controllers.map(c => [c, c === 'hugetlb' ? 'linux.resources.hugepageLimits' : 'linux.resources.rdma']),
    );
    makeAncestors(start, this.#host.v2?.mountPoint ?? '', directory, required, false);
  }

  /** Directories of cgroupsPath above the last one, unless they are there. */
  #makeParents(start: StartOperations, directory: string): void {
    const missing: string[] = [];
    let parent = dirname(directory);
    for (; !this.#mountPoints.has(parent) && !existsSync(parent); parent = dirname(parent))
      missing.unshift(parent);
    for (const path of missing) start.mkdir(path, 'ok');
  }

  /**
   * A new v1 cpuset is empty and takes no process until it has CPUs and memory nodes (cpuset(7)); each level that has none
   * gets those of the next one above that has some. One that is there is given what it has: until the start makes sure of it,
   * another process may have removed it, and then it is a new one.
   */
  #fillCpuset(start: StartOperations, directory: string, resources: Resources, exists: boolean): void {
    const mount = this.#host.v1.find(h => h.controllers.includes('cpuset'))?.mountPoint ?? '/';
    for (const name of ['cpus', 'mems'] as const) {
      const levels: string[] = [];
      let value = '';
      for (let at = directory; value === '' && at.length >= mount.length; at = dirname(at)) {
        if (at !== directory || exists) value = readCgroupFileNow(join(at, `cpuset.${name}`))?.trim() ?? '';
        if (value === '' || at === directory) levels.unshift(at);
      }
      const given = resources.cpu?.[name];
      for (const level of levels) {
        if (level === directory && given !== undefined && given !== '') continue;
        start.write(join(level, `cpuset.${name}`), value, `linux.resources.cpu.${name}`);
      }
    }
  }

  #fileWrites(resources: Resources): FileWrite[] {
    const compute = (): readonly LimitWrite[] =>
      v1Limits(this.#withoutUnified(resources), { blkioWeightPrefix: () => this.#blkioWeightPrefix() });
    // What goes to the unified hierarchy depends on the container's own paths.
    const own =
      this.layout === 'hybrid' && (resources.hugepageLimits ?? resources.rdma) !== undefined
        ? compute()
        : limitWrites(resources, compute);
    const unified = this.layout === 'hybrid' ? this.#unifiedWrites(resources) : [];
    return [...own, ...unified].map(write => {
      const directory = this.paths[write.controller];
      if (directory === undefined) throw this.#noController(write.controller, write.field);
      const { file, value, field } = write;
      const path = join(directory, file);
      return write.tolerate === undefined
        ? { path, value, field }
        : { path, value, field, tolerate: write.tolerate };
    });
  }

  #inUnified(controller: string): boolean {
    return this.#isUnified(this.paths[controller] ?? '');
  }

  #withoutUnified(resources: Resources): Resources {
    const { hugepageLimits, rdma, ...rest } = resources;
    return {
      ...rest,
      ...(hugepageLimits === undefined || this.#inUnified('hugetlb') ? {} : { hugepageLimits }),
      ...(rdma === undefined || this.#inUnified('rdma') ? {} : { rdma }),
    };
  }

  #unifiedWrites(resources: Resources): LimitWrite[] {
    return [
      ...(this.#inUnified('hugetlb') ? v2Hugetlb(resources.hugepageLimits) : []),
      ...(this.#inUnified('rdma') ? v2Rdma(resources.rdma) : []),
    ];
  }

  /** The weight file itself is in no root cgroup, but BFQ's counters are. */
  #blkioWeightPrefix(): 'blkio.bfq.' | 'blkio.' {
    const mount = this.#host.v1.find(h => h.controllers.includes('blkio'))?.mountPoint ?? '';
    return existsSync(join(mount, 'blkio.bfq.io_serviced')) ? 'blkio.bfq.' : 'blkio.';
  }

  #deviceWrites(rules: readonly DeviceRule[] | undefined, exists: boolean): FileWrite[] {
    if (rules === undefined) return [];
    const directory = this.paths.devices;
    const field = 'linux.resources.devices';
    if (directory === undefined) throw this.#noController('devices', field);
    const text = exists ? readCgroupFileNow(join(directory, 'devices.list')) : undefined;
    const writes =
      text === undefined ? freshDevices(rules) : deviceTransition(parseDeviceList(text), deviceList(rules));
    return writes.map(w => ({ path: `${directory}/${w.file}`, value: w.value, field }));
  }

  /** Checked afterwards: v1 ignores some rules without an error. On failure the former rules are put back. */
  async #setDevices(rules: readonly DeviceRule[], former: readonly DeviceRule[] | undefined): Promise<void> {
    const directory = this.paths.devices;
    const write = async (target: readonly DeviceRule[]): Promise<void> => {
      for (const w of this.#deviceWrites(target, true)) await writeCgroupFile(w.path, w.value);
    };
    try {
      await write(rules);
      const after = parseDeviceList((await readCgroupFile(join(directory ?? '', 'devices.list'))) ?? '');
      const file = join(directory ?? '', 'devices.list');
      if (!sameDevices(after, deviceList(rules)))
        throw new CgroupError(
          'ERR_CGROUP',
          { file },
          { detail: `linux.resources.devices: ${file} is not what was asked for` },
        );
    } catch (error) {
      if (former !== undefined && !isGone(error)) await write(former);
      throw error;
    }
  }
}
