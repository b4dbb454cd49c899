/**
 * Intel RDT: a container's group in the resctrl file system (cache allocation, memory bandwidth, their monitoring).
 * Kernel Documentation/filesystems/resctrl.rst; runtime-spec config-linux.md "IntelRdt"; runc libcontainer/intelrdt.
 */
import { existsSync, readFileSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { IntelRdt } from '../config/config.ts';
import { CgroupError } from '../errors.ts';
import type { FileOperation } from '../native/binding.ts';
import { errnoName, isGone, readCgroupFileNow, writeCgroupFile } from './file.ts';
import type { ResctrlRecord } from './manager.ts';
import { schemaConflict, schemataOf } from './resctrl-schema.ts';
import { readResctrlStats } from './resctrl-stats.ts';
import type { IntelRdtStats } from './stats.ts';

/** The kernel's own names in the root of the file system: no group can be called so. */
const reserved = new Set(['info', 'mon_groups', 'mon_data', '.', '..']);

const refuse = (property: string, why: string, hint?: string): never => {
  const file = `linux.intelRdt${property}`;
  throw new CgroupError(
    'ERR_UNSUPPORTED',
    { file },
    { detail: `${file}: ${why}`, ...(hint === undefined ? {} : { hint }) },
  );
};

/** Where resctrl is mounted; undefined: nowhere. Not remembered: an administrator mounts it when a container asks. */
export function resctrlRoot(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string | undefined {
  const line = mountinfo.split('\n').find(row => / - resctrl /.test(row));
  return line?.split(' ')[4];
}

/** What the kernel offers there, by the directories below `info`. */
export function resctrlFeatures(root: string): {
  readonly cache: boolean;
  readonly bandwidth: boolean;
  readonly monitors: readonly string[];
} {
  const info = (name: string): boolean => existsSync(join(root, 'info', name));
  const monitors = readCgroupFileNow(join(root, 'info/L3_MON/mon_features')) ?? '';
  return {
    // With code and data apart (cdp), L3 is called by these two names.
    cache: info('L3') || (info('L3CODE') && info('L3DATA')),
    bandwidth: info('MB'),
    monitors: monitors.split('\n').filter(name => name !== ''),
  };
}

export interface ResctrlStart {
  readonly operations: readonly FileOperation[];
  /** init writes "0": itself (rdtgroup_tasks_write of the kernel). The monitoring group needs the other one first. */
  readonly joinFiles: readonly string[];
  failure(index: number, cause: unknown): CgroupError;
}

export class ResctrlGroup {
  readonly path: string;
  readonly monPath: string | undefined;
  readonly #root: string;
  readonly #config: IntelRdt;
  #made: boolean;

  /**
   * @param made From the state file: the group is this container's and goes with it. Undefined: to be found out.
   * @throws {CgroupError} ERR_UNSUPPORTED for what this machine cannot do
   */
  constructor(root: string, id: string, config: IntelRdt, made?: boolean) {
    const name = config.closID ?? id;
    if (reserved.has(name))
      refuse(config.closID === undefined ? '' : '.closID', `no group can be called ${name}`);
    this.#root = root;
    this.#config = config;
    this.path = name === '/' ? root : join(root, name);
    const monitored = config.enableMonitoring === true;
    this.monPath = monitored ? join(this.path, 'mon_groups', id) : undefined;
    this.#made = made ?? false;
  }

  /** For state.json, before the first effect of a start. A group of another's making stays when the container goes. */
  record(): ResctrlRecord {
    this.#made = this.#config.closID === undefined || !existsSync(this.path);
    return {
      intel_rdt_path: this.path,
      ...(this.monPath === undefined ? {} : { intel_rdt_mon_path: this.monPath }),
      intel_rdt_made: this.#made,
    };
  }

  /** The group, its schemata, and who joins. @throws {CgroupError} */
  prepareStart(): ResctrlStart {
    const { path, monPath } = this;
    this.#refuseMissing();
    const schemata = schemataOf(this.#config);
    const exists = existsSync(path);
    if (!exists && this.#config.closID !== undefined && schemata === undefined)
      refuse('.closID', `${path} does not exist, and no schema says how to make it`);
    if (exists) this.#refuseOther(schemata);
    const operations: FileOperation[] = [];
    if (!exists) operations.push({ op: 'mkdir', path, mode: 0o755, existing: 'error' });
    // One that is there has these values already, or is the empty one that a crash has left.
    if (schemata !== undefined && (!exists || this.#config.closID === undefined))
      operations.push({ op: 'write', path: join(path, 'schemata'), data: schemata });
    if (monPath !== undefined) operations.push({ op: 'mkdir', path: monPath, mode: 0o755, existing: 'ok' });
    return {
      operations,
      joinFiles: this.joinFiles,
      failure: (index, cause) => this.#failure(operations[index], cause),
    };
  }

  get joinFiles(): string[] {
    const directories = this.monPath === undefined ? [this.path] : [this.path, this.monPath];
    return directories.map(directory => join(directory, 'tasks'));
  }

  /** config-linux.md: an existing group must be what the schemas say; another container's or its owner's is not changed. */
  #refuseOther(schemata: string | undefined): void {
    const { closID } = this.#config;
    if (closID === undefined) {
      const pids = (readCgroupFileNow(join(this.path, 'tasks')) ?? '')
        .split('\n')
        .map(Number)
        .filter(p => p > 0);
      if (pids.length > 0) throw new CgroupError('ERR_CGROUP_NOT_EMPTY', { file: this.path, pids });
      return;
    }
    if (schemata === undefined) return;
    const file = join(this.path, 'schemata');
    const conflict = schemaConflict(schemata, readCgroupFileNow(file) ?? '');
    if (conflict === undefined) return;
    throw new CgroupError(
      'ERR_CGROUP',
      { file, value: conflict },
      {
        detail: `linux.intelRdt: ${file} exists and differs from ${conflict}`,
        hint: 'use another closID, or leave the schemas out to use the group as it is',
      },
    );
  }

  #refuseMissing(config = this.#config): void {
    const { cache, bandwidth, monitors } = resctrlFeatures(this.#root);
    const available = `available in ${join(this.#root, 'info')}: ${
      [cache ? 'L3' : '', bandwidth ? 'MB' : '', ...monitors].filter(word => word !== '').join(' ') ||
      'nothing'
    }`;
    if ((config.l3CacheSchema ?? '').trim() !== '' && !cache)
      refuse('.l3CacheSchema', 'Intel RDT/CAT is not enabled', available);
    if ((config.memBwSchema ?? '').trim() !== '' && !bandwidth)
      refuse('.memBwSchema', 'Intel RDT/MBA is not enabled', available);
    if (config.enableMonitoring === true && monitors.length === 0)
      refuse('.enableMonitoring', 'this machine has no RDT monitoring', available);
    if (config.enableCMT === true && !monitors.includes('llc_occupancy'))
      refuse('.enableCMT', 'Intel RDT/CMT is not enabled', available);
    if (config.enableMBM === true && !monitors.some(name => name.startsWith('mbm_')))
      refuse('.enableMBM', 'Intel RDT/MBM is not enabled', available);
  }

  stats(): Promise<IntelRdtStats> {
    return readResctrlStats(this.#root, this.path, this.monPath ?? this.path, this.#config);
  }

  /** The schemata of a live container. @throws {CgroupError} after which the former ones are in force */
  async set(config: IntelRdt): Promise<void> {
    this.#refuseMissing(config);
    const schemata = schemataOf(config);
    const path = join(this.path, 'schemata');
    if (schemata === undefined) return;
    const before = readCgroupFileNow(path);
    try {
      await writeCgroupFile(path, schemata);
    } catch (error) {
      // The kernel takes line by line and stops at the first that is wrong.
      if (before !== undefined) await writeCgroupFile(path, before).catch(() => undefined);
      throw this.#failure(
        { op: 'write', path, data: schemata },
        error instanceof CgroupError ? error.cause : error,
      );
    }
  }

  #failure(operation: FileOperation | undefined, cause: unknown): CgroupError {
    const file = operation === undefined || operation.op === 'lock' ? this.path : operation.path;
    const value = operation?.op === 'write' ? operation.data : undefined;
    const said = (readCgroupFileNow(join(this.#root, 'info/last_cmd_status')) ?? '').trim();
    const hint =
      errnoName(cause) === 'ENOSPC'
        ? `no class of service is free; this machine has ${(readCgroupFileNow(join(this.#root, 'info/L3/num_closids')) ?? 'few').trim()}`
        : said === '' || said === 'ok'
          ? undefined
          : `the kernel says: ${said}`;
    return new CgroupError('ERR_CGROUP', value === undefined ? { file } : { file, value }, {
      cause,
      detail: `linux.intelRdt: ${file}${value === undefined ? '' : ` ← ${JSON.stringify(value)}`}`,
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** Directories that go with the container, the innermost first. */
  #leaving(): string[] {
    const directories = this.monPath === undefined ? [] : [this.monPath];
    if (!this.#made || this.path === this.#root) return directories;
    // Somebody else may have joined a class that we have named: removing it would move him to the default class.
    const shared =
      this.#config.closID !== undefined && (readCgroupFileNow(join(this.path, 'tasks')) ?? '').trim() !== '';
    return shared ? directories : [...directories, this.path];
  }

  get removal(): readonly FileOperation[] {
    return this.#leaving().map(path => ({ op: 'rmdir', path }));
  }

  async destroy(): Promise<void> {
    for (const directory of this.#leaving()) {
      try {
        await rmdir(directory);
      } catch (cause) {
        if (!isGone(cause)) throw new CgroupError('ERR_CGROUP', { file: directory }, { cause });
      }
    }
  }
}
