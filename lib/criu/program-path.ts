/** Where programs are looked for by name: in absolute directories only, whatever the directory of this process is. */
const standard = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** PATH for CRIU and for what it runs (iptables, ip, tar). */
export function searchPath(): string {
  const { PATH = '' } = process.env;
  const given = PATH.split(':').filter(directory => directory.startsWith('/'));
  return [...new Set([...given, ...standard])].join(':');
}
