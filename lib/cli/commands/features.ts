/** `nrunc features`: what this runtime knows, in the runtime-spec's features structure. */
import { features } from '../../index.ts';
import { type GoJson, goJson } from '../go-json.ts';
import type { Invocation } from '../invocation.ts';
import { commit, version } from '../version.ts';

export async function run({ caller }: Invocation): Promise<number> {
  const { annotations, ...known } = features();
  const document: { readonly [name: string]: GoJson } = {
    ...known,
    annotations: {
      ...annotations,
      'nrunc.checkpoint.enabled': 'false',
      'nrunc.commit': commit,
      'nrunc.version': version,
    },
  };
  caller.print(`${goJson(document, '    ')}\n`);
  return 0;
}
