/** `LIBCONTAINER_FAIL_AT=pivotRoot`, `mount:3`, `exec@killParent`: a fault at a step, in test builds of init only. */
import { LibcontainerError } from '../errors.ts';
import type { Fault } from '../plan/encode.ts';

const modes = ['error', 'exit', 'killParent', 'stop'] as const;

/** @throws {LibcontainerError} ERR_ARGUMENT when it cannot be read: a test that injects nothing must not pass. */
export function requestedFault(environment: {
  readonly [name: string]: string | undefined;
}): Fault | undefined {
  const text = environment.LIBCONTAINER_FAIL_AT;
  if (text === undefined || text === '') return undefined;
  const [, step, occurrence, word] = /^([A-Za-z]+)(?::(\d+))?(?:@(\w+))?$/.exec(text) ?? [];
  const mode = word === undefined ? 'error' : modes.find(known => known === word);
  if (step === undefined || mode === undefined)
    throw new LibcontainerError('ERR_ARGUMENT', {
      detail: `LIBCONTAINER_FAIL_AT=${text}: step[:occurrence][@${modes.join('|')}]`,
    });
  return { step, mode, occurrence: Number(occurrence ?? 0) };
}
