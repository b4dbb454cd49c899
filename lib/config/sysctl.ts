/**
 * Which sysctls a container may set: those of a namespace that it does not share with the host. The list is runc's;
 * both spellings of a name are legal (sysctl(8)).
 */

/** ipc_namespaces(7). */
const ipcNames = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

/** `net/ipv4/conf/eth0.1/forwarding` and `net.ipv4.conf.eth0/1.forwarding` → the latter: the first separator decides. */
export function dottedSysctl(name: string): string {
  const separator = /[./]/.exec(name)?.[0];
  if (separator !== '/') return name;
  return name.replaceAll(/[./]/g, found => (found === '.' ? '/' : '.'));
}

/** What is wrong with this sysctl in a container of these namespaces; undefined: nothing. */
export function sysctlIssue(
  name: string,
  namespaces: readonly { readonly type: string }[],
): string | undefined {
  const has = (type: string): boolean => namespaces.some(namespace => namespace.type === type);
  const dotted = dottedSysctl(name);
  if (!/^[^./]+([./][^./]+)+$/.test(dotted)) return `"${name}" is not the name of a sysctl`;
  if (ipcNames.has(dotted) || dotted.startsWith('fs.mqueue.')) {
    return has('ipc') ? undefined : `sysctl "${dotted}" is not allowed in the hosts ipc namespace`;
  }
  if (dotted.startsWith('net.')) {
    return has('network') ? undefined : `sysctl "${dotted}" not allowed in host network namespace`;
  }
  // user_namespaces(7): limits of the user namespace.
  if (has('user') && dotted.startsWith('user.')) return undefined;
  if (has('uts') && dotted === 'kernel.domainname') return undefined;
  if (has('uts') && dotted === 'kernel.hostname') {
    return `sysctl "${dotted}" is not allowed as it conflicts with the OCI "hostname" field`;
  }
  return `sysctl "${dotted}" is not in a separate kernel namespace`;
}
