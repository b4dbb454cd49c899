/**
 * A container without any privilege whose `mknod` of /dev/null and `mount` of a tmpfs work all the same, because this
 * program does them for it, and whose connections are written down.
 *
 * In a program of yours the import is from 'libcontainer'.
 */
import type {
  Config,
  Container,
  LinuxFactory,
  SyscallAnswer,
  SyscallCall,
  SyscallHandlers,
} from '../lib/index.ts';

/** mknod(2): the type in the mode, and how the kernel packs a device number (makedev(3), old encoding for small ones). */
const characterDevice = 0o020000n;
const typeMask = 0o170000n;
const nullDevice = (1n << 8n) | 3n;

/** The only device that a container may make: it can be used to do nothing. */
function makeNull(call: SyscallCall<'mknod'> | SyscallCall<'mknodat'>, path: string): SyscallAnswer {
  const { mode, dev } = call.args;
  if ((mode & typeMask) !== characterDevice || dev !== nullDevice) return { errno: 'EPERM' };
  try {
    call.makeNode(path, { type: 'c', major: 1, minor: 3, mode: Number(mode & 0o777n) });
    return { value: 0 };
  } catch (error) {
    // The kernel's own reason: the file is there already, the directory is not the caller's …
    return { errno: errnoOf(error) };
  }
}

/** Its text was read once and is used for the mount itself: what another thread writes there meanwhile changes nothing. */
async function mountTmpfs(call: SyscallCall<'mount'>): Promise<SyscallAnswer> {
  const { filesystemtype, target, mountflags } = call.args;
  const path = call.path(target);
  const allowed = filesystemtype !== 0n && call.readString(filesystemtype) === 'tmpfs';
  // Only below /tmp, where nothing of the image can be covered; MS_SILENT is all that mount(8) of busybox adds.
  if (!allowed || !path.startsWith('/tmp/') || (mountflags & ~0x8000n) !== 0n) return { errno: 'EPERM' };
  try {
    await call.mount({ type: 'tmpfs', target: path, data: 'size=1m,mode=1777' });
    return { value: 0 };
  } catch (error) {
    return { errno: errnoOf(error) };
  }
}

/** For the record only: the address may be another one when the kernel reads it, so this is no firewall. */
function addressOf(call: SyscallCall<'connect'>): string {
  const address = call.readMemory(call.args.addr, Math.min(Number(call.args.addrlen), 128));
  switch (address.readUInt16LE(0)) {
    case 1:
      return `unix:${address.subarray(2).toString().replace(/\0+$/, '').replace(/^\0/, '@')}`;
    case 2:
      return `${address.subarray(4, 8).join('.')}:${address.readUInt16BE(2)}`;
    case 10:
      return `[${address.subarray(8, 24).toString('hex')}]:${address.readUInt16BE(2)}`;
    default:
      return `family ${address.readUInt16LE(0)}`;
  }
}

const errnoOf = (error: unknown): number => {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return error.errno;
  throw error;
};

export function handlers(log: (line: string) => void): SyscallHandlers {
  return {
    mknod: call => makeNull(call, call.path(call.args.pathname)),
    mknodat: call => makeNull(call, call.path(call.args.pathname, call.args.dirfd)),
    mount: mountTmpfs,
    connect: call => {
      const { name, uid } = call.caller();
      log(`${name} (uid ${uid}) connects to ${addressOf(call)}`);
      return 'continue';
    },
  };
}

/** A container of this configuration with the handlers; `container.run(process)` starts it. */
export function unprivileged(
  factory: LinuxFactory,
  id: string,
  config: Config,
  log: (line: string) => void,
): Promise<Container> {
  return factory.create(id, config, { seccompHandler: { syscalls: handlers(log), deadlineMs: 5000 } });
}
