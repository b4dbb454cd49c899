/** `nrunc rootfs busybox DIRECTORY`, `nrunc rootfs unpack IMAGE DIRECTORY`. */
import { busyboxRootfs } from '../../index.ts';
import type { Invocation } from '../invocation.ts';
import { UsageError } from '../usage-error.ts';

const known = 'there is: busybox DIRECTORY, unpack IMAGE DIRECTORY';

export async function run(invocation: Invocation): Promise<number> {
  const [kind, ...rest] = invocation.arguments;
  const [first = '', second = ''] = rest;
  if (kind === 'busybox' && rest.length === 1 && first !== '') {
    if (invocation.options.has('ref') || invocation.options.has('platform'))
      throw new UsageError('rootfs busybox: --ref and --platform are for unpack');
    await busyboxRootfs(first);
    return 0;
  }
  if (kind !== 'unpack' || first === '' || second === '')
    throw new UsageError(`rootfs: ${JSON.stringify(invocation.arguments.join(' '))} is not known; ${known}`);
  return unpack(invocation, first, second);
}

async function unpack(
  { options, log, caller }: Invocation,
  image: string,
  directory: string,
): Promise<number> {
  const { unpackImage } = await import('../../rootfs/unpack.ts');
  const [reference, platform] = [options.text('ref'), options.text('platform')];
  const { config, skipped } = await unpackImage(image, directory, {
    ...(reference === undefined ? {} : { reference }),
    ...(platform === undefined ? {} : { platform }),
  });
  for (const { path, reason } of skipped) log.warning(`${path}: ${reason}`);
  caller.print(`${JSON.stringify(config, undefined, 2)}\n`);
  return 0;
}
