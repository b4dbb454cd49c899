/**
 * Giving a container's cgroup to the user that runs in it, so that it can make cgroups of its own (a service manager, an
 * engine in a container). config-linux.md "Cgroup ownership"; cgroup-v2.rst "Delegation".
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { FileOperation } from '../../native/binding.ts';

const readOnly = 1; // MS_RDONLY

/** Before Linux 4.15 there is no list; these three are what delegation has always meant. */
const always = ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads'];

/** The kernel's own list of files that a delegatee may write: never the limits, which are the delegater's. */
export function delegatedFiles(list = '/sys/kernel/cgroup/delegate'): readonly string[] {
  try {
    return readFileSync(list, 'utf8')
      .split('\n')
      .filter(name => /^[\w.]+$/.test(name));
  } catch {
    return always;
  }
}

type Part = Pick<Config, 'namespaces' | 'mounts' | 'process'>;

/**
 * The uid in the container's user namespace that is to own the cgroup; undefined: nobody else than us. Only with a cgroup
 * namespace of its own (else it would see, and own, a part of the host's tree) and where the container can write at all.
 */
export function delegatee({ namespaces, mounts, process }: Part): number | undefined {
  const isPrivate = namespaces.some(({ type, path }) => type === 'cgroup' && path === undefined);
  const writable = mounts.some(
    ({ type, destination, flags }) =>
      (type === 'cgroup' || type === 'cgroup2') &&
      /^\/sys\/fs\/cgroup\/*$/.test(destination) &&
      (flags & readOnly) === 0,
  );
  return isPrivate && writable ? (process?.user.uid ?? 0) : undefined;
}

/** The directory and the files of the kernel's list. A file whose controller is not enabled here is not there. */
export function delegation(directory: string, uid: number): FileOperation[] {
  return [
    { op: 'chown', path: directory, uid },
    ...delegatedFiles().map(
      (name): FileOperation => ({
        op: 'chown',
        path: join(directory, name),
        uid,
        tolerate: ['ENOENT'],
      }),
    ),
  ];
}
