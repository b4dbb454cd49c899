/** `nrunc checkpoint` and `nrunc restore`: refused by name, whatever their options. */
import { LibcontainerError } from '../../index.ts';
import type { Invocation } from '../invocation.ts';

export async function run({ command }: Invocation): Promise<number> {
  throw new LibcontainerError('ERR_UNSUPPORTED', {
    detail: `${command} (CRIU)`,
    hint: 'checkpoint and restore are not part of this version',
  });
}
