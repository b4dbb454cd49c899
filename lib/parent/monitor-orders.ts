/**
 * What the monitor does when the owner of a container has died (`lifetime: 'owner'`), as addon/init/monitor_removal.cc
 * reads it: a letter and a text each. L, the first: the state directory, locked while the rest is done; =: how its record
 * begins; C: a cgroup, killed and removed with all below it; U: unlink; R: rmdir. And what it does when the first process of
 * a container has ended, in any case; M: the file whose count of OOM kills goes into the exit record.
 */
import type { CgroupManager } from '../cgroups/manager.ts';
import type { FileOperation } from '../native/binding.ts';
import { recordStart } from '../state.ts';

export function ownerOrders(
  container: { readonly id: string; readonly nonce: string; readonly directory: string },
  manager: CgroupManager,
  stateRemoval: readonly FileOperation[],
): string {
  const orders = [`L${container.directory}`, `=${recordStart(container.id, container.nonce)}`];
  // systemd removes a scope by itself once it is empty; its cgroup may go before.
  const cgroups =
    manager.removal ?? Object.values(manager.paths).map(path => ({ op: 'rmdir' as const, path }));
  for (const { op, path } of cgroups) if (op === 'rmdir') orders.push(`C${path}`);
  for (const { op, path } of stateRemoval) {
    if (op === 'unlink') orders.push(`U${path}`);
    if (op === 'rmdir') orders.push(`R${path}`);
  }
  return orders.map(order => `${order}\0`).join('');
}

export const countOrder = ({ oomCounter }: CgroupManager): string =>
  oomCounter === undefined ? '' : `M${oomCounter}\0`;
