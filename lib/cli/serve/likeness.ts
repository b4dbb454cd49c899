/**
 * Whether a caller's process is like this one in all that decides what a command of its own would see and be allowed: a
 * server must do for nobody what he could not do by himself, nor in another place than he would. proc(5).
 */
import { readFileSync, readlinkSync, statSync } from 'node:fs';

const namespaces = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'time', 'user', 'uts'];
const statusFields = /^(?:Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp|Umask):.*$/gm;

/** Of the environment: what the library looks at. */
const decisive = ['TZ', 'DBUS_SYSTEM_BUS_ADDRESS', 'LIBCONTAINER_FAIL_AT'];
const decisiveForUser = ['XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS'];

/** Throws when the process is gone. */
function traits(process: string): string {
  const at = `/proc/${process}`;
  const root = statSync(`${at}/root/`, { bigint: true });
  return [
    ...namespaces.map(name => link(`${at}/ns/${name}`)),
    `${root.dev}:${root.ino}`,
    ...(readFileSync(`${at}/status`, 'utf8').match(statusFields) ?? []),
    label(`${at}/attr/current`),
  ].join('\n');
}

/** A kernel without this kind of namespace has it for nobody. */
function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}

/** Of AppArmor or SELinux; EINVAL without either. */
function label(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

let own: string | undefined;

export function isLikeUs(pid: number, env: { readonly [name: string]: string }): boolean {
  own ??= traits('self');
  const names = process.geteuid?.() === 0 ? decisive : [...decisive, ...decisiveForUser];
  if (names.some(name => env[name] !== process.env[name])) return false;
  try {
    return traits(String(pid)) === own;
  } catch {
    return false;
  }
}
