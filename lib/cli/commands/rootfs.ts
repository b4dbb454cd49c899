/** `nrunc rootfs busybox DIRECTORY`. */
import { busyboxRootfs } from '../../index.ts';
import type { Invocation } from '../invocation.ts';
import { UsageError } from '../usage-error.ts';

export async function run(invocation: Invocation): Promise<number> {
  const [kind, directory = ''] = invocation.arguments;
  if (kind !== 'busybox' || directory === '')
    throw new UsageError(`rootfs: ${JSON.stringify(kind)} is not known; there is: busybox DIRECTORY`);
  await busyboxRootfs(directory);
  return 0;
}
