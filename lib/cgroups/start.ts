/** Building the operations of a start, with the property of the configuration that each of them serves. */
import { dirname, join } from 'node:path';
import { CgroupError } from '../errors.ts';
import type { FileOperation } from '../native/binding.ts';
import { errnoName, readCgroupFileNow } from './file.ts';
import type { CgroupStart } from './manager.ts';
import { limitError } from './update.ts';

export class StartOperations {
  readonly #operations: FileOperation[] = [];
  readonly #fields: string[] = [];
  readonly #warnings: string[] = [];

  mkdir(path: string, existing: 'ok' | 'error'): void {
    this.#add({ op: 'mkdir', path, mode: 0o755, existing }, 'linux.cgroupsPath');
  }

  write(path: string, data: string, field: string, tolerate?: readonly string[]): void {
    this.#add(
      tolerate === undefined ? { op: 'write', path, data } : { op: 'write', path, data, tolerate },
      field,
    );
  }

  deviceProgram(path: string, program: Uint8Array): void {
    this.#add({ op: 'deviceProgram', path, program }, 'linux.resources.devices');
  }

  /** Operations that are made elsewhere. */
  append(operations: readonly FileOperation[], field: string): void {
    for (const operation of operations) this.#add(operation, field);
  }

  /** What was asked for and is not done, and why: shown with the plan. */
  warn(message: string): void {
    this.#warnings.push(message);
  }

  #add(operation: FileOperation, field: string): void {
    this.#operations.push(operation);
    this.#fields.push(field);
  }

  finish(joinFiles: readonly string[], cloneInto?: string): CgroupStart {
    const operations = this.#operations;
    const fields = this.#fields;
    const failure = (index: number, cause: unknown): CgroupError => {
      const operation = operations[index];
      const field = fields[index] ?? 'linux.cgroupsPath';
      if (operation?.op === 'write' && operation.path.endsWith('/cgroup.subtree_control'))
        return notEnabled(operation.path, operation.data, field, cause);
      if (operation?.op === 'write')
        return limitError({ path: operation.path, value: operation.data, field }, cause);
      const file = operation?.path ?? '';
      return new CgroupError('ERR_CGROUP', { file }, { cause, detail: `${field}: ${file}` });
    };
    return {
      operations,
      joinFiles,
      failure,
      ...(cloneInto === undefined ? {} : { cloneInto }),
      ...(this.#warnings.length === 0 ? {} : { warnings: this.#warnings }),
    };
  }
}

const enableHints: { readonly [errno: string]: string } = {
  EBUSY:
    'the cgroup holds processes itself: those must go into a cgroup below it first (no internal process constraint)',
  EOPNOTSUPP: 'a threaded cgroup gives domain controllers to nobody; give linux.cgroupsPath another path',
  EINVAL:
    'the kernel refuses it here; for cpu, realtime processes outside of the root cgroup are the usual cause',
};
const delegateHint =
  'this cgroup is not delegated to us. With systemd: Delegate=yes in the unit, or `systemd-run --user --scope -p Delegate=yes COMMAND`; for all users `Delegate=cpu cpuset io memory pids` in user@.service.d';

/**
 * A controller could not be given to the cgroups below: what was wanted, what there is, what is passed on already.
 * @param cause Default: the cgroup holds processes.
 */
export function notEnabled(file: string, value: string, field: string, cause?: unknown): CgroupError {
  const words = (name: string): string =>
    (readCgroupFileNow(join(dirname(file), name)) ?? '').trim() || 'none';
  const errno = cause === undefined ? 'EBUSY' : errnoName(cause);
  const wanted = value.replaceAll('+', '');
  const detail = `${field}: wanted ${wanted} in ${dirname(file)}, available: ${words('cgroup.controllers')}, delegated: ${words('cgroup.subtree_control')}`;
  return new CgroupError(
    'ERR_CGROUP_CONTROLLER',
    { file, value },
    { ...(cause === undefined ? {} : { cause }), detail, hint: enableHints[errno] ?? delegateHint },
  );
}
