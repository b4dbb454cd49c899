/** Building the operations of a start, with the property of the configuration that each of them serves. */
import { CgroupError } from '../errors.ts';
import type { FileOperation } from '../native/binding.ts';
import type { CgroupStart } from './manager.ts';
import { limitError } from './update.ts';

export class StartOperations {
  readonly #operations: FileOperation[] = [];
  readonly #fields: string[] = [];

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
      if (operation?.op === 'write')
        return limitError({ path: operation.path, value: operation.data, field }, cause);
      const file = operation?.path ?? '';
      return new CgroupError('ERR_CGROUP', { file }, { cause, detail: `${field}: ${file}` });
    };
    return cloneInto === undefined
      ? { operations, joinFiles, failure }
      : { operations, joinFiles, cloneInto, failure };
  }
}
