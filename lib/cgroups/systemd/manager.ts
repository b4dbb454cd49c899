/**
 * Cgroups whose unit systemd makes and removes: a transient scope (or slice). Everything in them is done by the file
 * system driver of the layout. Small, since `state` and `kill` load it; what talks to systemd comes with the first call
 * that needs it (driver.ts).
 */
import { basename, join } from 'node:path';
import type { Config, Resources } from '../../config/config.ts';
import { CgroupError } from '../../errors.ts';
import type { Binding } from '../../native/binding.ts';
import { devicesNotEnforced, inUserNamespace } from '../layout.ts';
import type { CgroupManager, CgroupMountRow, CgroupStart, FreezerState } from '../manager.ts';
import type { Stats } from '../stats.ts';
import type { Property, Unit } from './driver.ts';

export interface SystemdPlace {
  readonly binding: Binding;
  /** Of the layout, on the unit's cgroups. */
  readonly files: CgroupManager;
  /** The systemd of this process's user instead of the system's. */
  readonly user: boolean;
  readonly config: Pick<Config, 'annotations'>;
  /** For a start; who is loaded has the name of its cgroup. */
  readonly unit?: Unit;
}

const driver = () => import('./driver.ts');

export class SystemdManager implements CgroupManager {
  readonly #place: SystemdPlace;
  readonly #files: CgroupManager;
  readonly #unit: string;
  /** A unit that is being made: a removal must come after it. */
  #making: Promise<void> | undefined;
  /** The unit turned out to be somebody else's: it must not be stopped. */
  #foreign = false;

  /** @throws {CgroupError} ERR_CGROUP: the paths name no unit */
  constructor(place: SystemdPlace) {
    this.#place = place;
    this.#files = place.files;
    this.#unit = basename(place.files.paths[''] ?? Object.values(place.files.paths)[0] ?? '');
    if (!/^[^/]+\.(scope|slice)$/.test(this.#unit))
      throw new CgroupError('ERR_CGROUP', { file: 'cgroup_paths', value: this.#unit });
  }

  get layout(): CgroupManager['layout'] {
    return this.#files.layout;
  }
  get paths(): CgroupManager['paths'] {
    return this.#files.paths;
  }
  get mountRows(): readonly CgroupMountRow[] {
    return this.#files.mountRows;
  }
  /** Never beside systemd: a unit whose cgroup is gone stays until systemd looks. */
  get removal(): undefined {
    return undefined;
  }
  get #unified(): boolean {
    return this.layout === 'v2';
  }

  async prepareStart(resources: Resources): Promise<CgroupStart> {
    const { annotationProperties, systemdOf, unitInUse, unitLimits } = await driver();
    const systemd = systemdOf(this.#place.user);
    const limits = unitLimits(this.#granted(resources), this.#unified, await systemd.version());
    const annotations = annotationProperties(this.#place.config.annotations);
    // Before anything is on disk that would let a later removal stop it.
    const state = await systemd.unitState(this.#unit);
    if (state === 'failed' || state === 'inactive') await systemd.resetFailed(this.#unit);
    else if (state !== undefined) throw unitInUse(this.#unit, state);
    const properties = [...this.#ownProperties(), ...limits.properties, ...annotations];
    // On v1 systemd moves init in the hierarchies that it uses itself, and a slice takes no process from it.
    const joined = this.#unified ? this.#sliceFiles() : (await this.#files.prepareExec({})).joinFiles;
    const place = (pid: number): Promise<void> => {
      this.#making = this.#make(pid, properties, limits.resources);
      return this.#making;
    };
    const failure = (_: number, cause: unknown): CgroupError =>
      new CgroupError('ERR_CGROUP', { file: this.#unit }, { cause });
    const unenforced = resources.devices !== undefined && (this.#place.user || inUserNamespace());
    const warnings = unenforced ? { warnings: [devicesNotEnforced] } : {};
    return { operations: [], joinFiles: joined, place, failure, ...warnings };
  }

  get #isSlice(): boolean {
    return this.#unit.endsWith('.slice');
  }
  #sliceFiles(): string[] {
    return this.#isSlice ? [join(this.paths[''] ?? '', 'cgroup.procs')] : [];
  }

  /** runc's, in its order. */
  #ownProperties(): Property[] {
    const { unit } = this.#place;
    const text = (name: string, value: string): Property => [name, { signature: 's', value }];
    const flag = (name: string, value: boolean): Property => [name, { signature: 'b', value }];
    return [
      text('Description', `libcontainer container ${unit?.container ?? ''}`),
      ...(this.#isSlice
        ? [['Wants', { signature: 'as', value: [unit?.slice ?? ''] }] as const]
        : [text('Slice', unit?.slice ?? ''), flag('Delegate', true)]),
      // Always, as the file system driver counts everything.
      flag('MemoryAccounting', true),
      flag('CPUAccounting', true),
      flag(this.#unified ? 'IOAccounting' : 'BlockIOAccounting', true),
      flag('TasksAccounting', true),
      // It must not be stopped with the rest at shutdown, before the engine that watches it.
      flag('DefaultDependencies', false),
    ];
  }

  async #make(pid: number, properties: readonly Property[], resources: Resources): Promise<void> {
    const { systemdOf } = await driver();
    const all = this.#isSlice
      ? properties
      : [...properties, ['PIDs', { signature: 'au', value: [pid] }] as const];
    try {
      await systemdOf(this.#place.user).startTransient(this.#unit, all);
    } catch (error) {
      this.#foreign = error instanceof CgroupError && error.code === 'ERR_CGROUP_NOT_EMPTY';
      throw error;
    }
    const start = await this.#files.prepareStart(resources, { adopted: true });
    try {
      await this.#place.binding.files(start.operations, false);
    } catch (error) {
      const index = error instanceof Error && 'index' in error ? Number(error.index) : 0;
      throw start.failure(index, error);
    }
  }

  async prepareExec(
    subPaths: { readonly [controller: string]: string },
    options: { readonly initPid?: number } = {},
  ): Promise<CgroupStart> {
    const start = await this.#files.prepareExec(subPaths, options);
    const { cloneInto, ...rest } = start;
    if (!this.#place.user || cloneInto === undefined) return start;
    // From a session into a unit: the cgroup above both is root's, so the kernel lets only systemd move it
    // (cgroup-v2.rst "Delegation Containment").
    const below = cloneInto.slice((this.paths[''] ?? '').length);
    const place = async (pid: number): Promise<void> => {
      const { systemdOf } = await driver();
      await systemdOf(true).attach(this.#unit, below, pid);
    };
    return { ...rest, place };
  }

  exists(): Promise<boolean> {
    return this.#files.exists();
  }

  /** Who is not root may load no device program; its devices are bind mounts of what it may use anyway. */
  #granted(resources: Resources): Resources {
    if (!this.#place.user) return resources;
    const { devices: _, ...rest } = resources;
    return rest;
  }

  async set(
    given: Resources,
    givenFormer: Resources,
    options: { readonly skipDevices?: boolean } = {},
  ): Promise<void> {
    const { systemdOf, unitLimits } = await driver();
    const systemd = systemdOf(this.#place.user);
    const [resources, former] = [this.#granted(given), this.#granted(givenFormer)];
    const sameDevices = JSON.stringify(resources.devices) === JSON.stringify(former.devices);
    const skipDevices = options.skipDevices === true || sameDevices;
    const limits = unitLimits(resources, this.#unified, await systemd.version(), { skipDevices });
    // v1: systemd denies all before it allows some, and a program would see the moment between.
    const hold = !this.#unified && !skipDevices && (await this.freezerState()) === 'thawed';
    if (hold) await this.freeze();
    try {
      // The files first: the kernel refuses more than systemd, and takes all back then.
      await this.#files.set(limits.resources, former, options);
      try {
        await systemd.setProperties(this.#unit, limits.properties);
      } catch (error) {
        await this.#files.set(former, limits.resources, options);
        throw error;
      }
      // Once more, since systemd writes defaults for what it was not told.
      await this.#files.set(limits.resources, limits.resources, options);
    } finally {
      if (hold) await this.thaw();
    }
  }

  freeze(): Promise<void> {
    return this.#files.freeze();
  }
  thaw(): Promise<void> {
    return this.#files.thaw();
  }
  freezerState(): Promise<FreezerState> {
    return this.#files.freezerState();
  }
  killAll(signal: number): Promise<void> {
    return this.#files.killAll(signal);
  }
  pids(): Promise<number[]> {
    return this.#files.pids();
  }
  stats(): Promise<Stats> {
    return this.#files.stats();
  }
  oomKillCount(): Promise<number> {
    return this.#files.oomKillCount();
  }

  get oomCounter(): string | undefined {
    const { memory, '': unified } = this.paths;
    if (memory !== undefined) return join(memory, 'memory.oom_control');
    // Of a hybrid host the unified hierarchy has no memory controller.
    return unified === undefined || !this.#unified ? undefined : join(unified, 'memory.events');
  }

  async destroy(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    // Aborted while the unit is made: it is there all the same a moment later.
    await this.#making?.catch(() => undefined);
    if (this.#foreign) return;
    const { systemdOf } = await driver();
    const systemd = systemdOf(this.#place.user);
    await systemd.stop(this.#unit);
    // One whose processes were killed for lack of memory has failed, and would be listed for ever.
    await systemd.resetFailed(this.#unit);
    // Hierarchies that systemd does not use, and cgroups that the container has made.
    await this.#files.destroy(options);
  }
}
