/** `nrunc checkpoint`: the processes into an image; the container is deleted, unless it is to go on. */
import { fstatSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import type { CheckpointOptions } from '../../index.ts';
import { criuOptions } from '../criu.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';
import { warnOfPoststop } from '../removal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { log } = invocation;
  if (process.geteuid?.() !== 0) log.warning('nrunc checkpoint is untested with rootless containers');
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  const options = checkpointOptions(invocation);
  await container.checkpoint(options);
  if (options.leaveRunning !== true && options.preDump !== true)
    await warnOfPoststop(log, () => container.destroy());
  return 0;
}

function checkpointOptions(invocation: Invocation): CheckpointOptions {
  const { options } = invocation;
  const common = criuOptions(invocation);
  const parentPath = options.text('parent-path') ?? '';
  if (isAbsolute(parentPath)) throw new Error('--parent-path must be relative');
  const server = options.text('page-server') ?? '';
  const statusFd = options.has('status-fd') ? options.number('status-fd') : -1;
  if (statusFd >= 0) checkStatusFd(statusFd);
  return {
    ...common,
    leaveRunning: options.flag('leave-running'),
    preDump: options.flag('pre-dump'),
    tcpSkipInFlight: options.flag('tcp-skip-in-flight'),
    linkRemap: options.flag('link-remap'),
    ...(parentPath === '' ? {} : { parentPath }),
    ...(server === '' ? {} : { pageServer: pageServer(server) }),
    // runc looks at it only with lazy pages.
    ...(statusFd >= 0 && common.lazyPages === true ? { statusFd } : {}),
  };
}

function checkStatusFd(fd: number): void {
  try {
    fstatSync(fd);
  } catch (cause) {
    throw new Error(`invalid --status-fd argument ${fd}`, { cause });
  }
}

/** `ADDRESS:PORT`, an IPv6 address in brackets. */
function pageServer(text: string): { readonly address: string; readonly port: number } {
  const [, bracketed, plain, port = ''] = /^(?:\[([^\]]+)\]|([^:]+)):(\d*)$/.exec(text) ?? [];
  const address = bracketed ?? plain ?? '';
  if (address === '' || port === '') throw new Error('Use --page-server ADDRESS:PORT to specify page server');
  return { address, port: Number(port) };
}
