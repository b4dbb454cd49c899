/**
 * Reads a trace of strace(1) and says which system calls of init could have been led astray: once the rootfs is open, a
 * path may only be resolved by openat2 inside a descriptor, as one name in a held directory without following it, or
 * through the private procfs. What is left is on the lists below, each with its reason.
 */

export interface AuditConfig {
  /** As openRootfs gets it; undefined for a process that enters a container: there it begins with setns. */
  readonly rootfs?: string;
  /** Host paths that the configuration names as sources of bind mounts, and of device nodes. */
  readonly sources: readonly string[];
  readonly cwd: string;
  /** Paths that init may look at, as the user, before it executes them. */
  readonly programs: readonly string[];
}

export interface Finding {
  readonly line: string;
  readonly why: string;
}

export interface Audit {
  /** Path-taking calls of init behind the opening of the rootfs. */
  readonly calls: number;
  readonly findings: readonly Finding[];
}

/** What strace is asked for: everything with a path, and all of the mount API. */
export const traced =
  '%file,fchdir,move_mount,mount_setattr,open_tree,fsopen,fsmount,pivot_root,umount2,chroot,setns,fchown,fchmod,clone,clone3';

const call = /^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)/;
const strings = (args: string): string[] =>
  [...args.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(match => match[1] ?? '');

/** One name, which the call does not look behind. */
const oneName = (path: string): boolean => path !== '' && !path.includes('/') && path !== '..';

class Reader {
  readonly findings: Finding[] = [];
  calls = 0;
  #open = false;
  #switched = false;
  /** Descriptors of procfs' self/fd: a number in it is a link of the kernel to a descriptor of ours. */
  readonly #selfFd = new Set<string>();
  readonly #procfs = new Set<string>();
  readonly #config: AuditConfig;

  constructor(config: AuditConfig) {
    this.#config = config;
  }

  read(line: string, name: string, args: string, result: string): void {
    if (!this.#open) {
      this.#open = this.#opens(name, args, result);
      if (name === 'openat' && args.startsWith('AT_FDCWD, "/proc", ')) this.#procfs.add(result);
      return;
    }
    if (name === 'openat2' && args.includes('"self/fd"')) this.#selfFd.add(result);
    this.calls += 1;
    const why = this.#judge(name, args);
    if (why !== undefined) this.findings.push({ line, why });
    if (/^(pivot_root|chroot)$/.test(name) && result === '0') this.#switched = true;
  }

  #opens(name: string, args: string, result: string): boolean {
    if (result.startsWith('-')) return false;
    const { rootfs } = this.#config;
    if (rootfs === undefined) {
      this.#switched = true;
      return name === 'setns' && args.includes('CLONE_NEWNS');
    }
    return name === 'openat' && args.startsWith(`AT_FDCWD, "${rootfs}", `) && args.includes('O_NOFOLLOW');
  }

  /** Undefined: it is safe. */
  #judge(name: string, args: string): string | undefined {
    const [directory = ''] = args.split(', ', 1);
    const [path = '', second = ''] = strings(args);
    switch (name) {
      case 'fchdir':
      case 'fsopen':
      case 'fsmount':
      case 'fchown':
      case 'fchmod':
      case 'setns':
        return undefined;
      case 'openat2':
        return this.#openat2(directory, args);
      case 'openat':
        return this.#openat(directory, path, args);
      case 'open_tree':
        return this.#openTree(path, args);
      case 'move_mount':
        if (path === '' && second === '' && !args.includes('AT_FDCWD')) return undefined;
        // --no-pivot: the root of the namespace itself.
        return args.includes('AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH') ? undefined : 'not by descriptors';
      case 'mount':
        return this.#mount(path, second);
      case 'umount2':
        return path === '.' || /^self\/fd\/\d+$/.test(path) ? undefined : 'umount of a path';
      case 'pivot_root':
        return path === '.' && second === '.' ? undefined : 'pivot_root to a path';
      case 'chroot':
        return path === '.' ? undefined : 'chroot to a path';
      case 'chdir':
        // The last one is followed by a check that the kernel's getcwd gives a path in the root (CVE-2024-21626).
        return path === '/' || (this.#switched && path === this.#config.cwd) ? undefined : 'chdir to a path';
      case 'getcwd':
        return undefined;
      case 'fsconfig':
        return args.includes('FSCONFIG_SET_PATH') ? 'an option that is a path' : undefined;
      default:
        return this.#other(name, directory, path, second, args);
    }
  }

  #openat2(directory: string, args: string): string | undefined {
    const has = (flag: string): boolean => args.includes(flag);
    if (directory === 'AT_FDCWD')
      // Mounts of the host that --no-pivot takes away.
      return has('RESOLVE_NO_SYMLINKS') && has('O_PATH') ? undefined : 'openat2 outside of a descriptor';
    if (has('RESOLVE_IN_ROOT') && has('RESOLVE_NO_MAGICLINKS')) return undefined;
    return has('RESOLVE_BENEATH') && has('RESOLVE_NO_XDEV')
      ? undefined
      : 'openat2 that may leave its directory';
  }

  #openat(directory: string, path: string, args: string): string | undefined {
    if (directory !== 'AT_FDCWD') {
      if (path === '.' || path === '..') return undefined;
      if (this.#selfFd.has(directory) && /^\d+$/.test(path)) return undefined;
      if (path === 'self/mountinfo') return undefined;
      return oneName(path) && args.includes('O_NOFOLLOW') ? undefined : 'openat that follows';
    }
    if (path === '.') return undefined;
    const { programs, sources, rootfs } = this.#config;
    if (!this.#switched) {
      if (path === '/' || path === '/proc' || path === rootfs) return undefined;
      return args.includes('O_PATH') && sources.includes(path) ? undefined : 'open of a path';
    }
    // As the container's user in its own root, to read what it may read.
    const reads = args.includes('O_RDONLY') && !args.includes('O_CREAT');
    return reads && (path === '/etc/passwd' || programs.includes(path)) ? undefined : 'open of a path';
  }

  #openTree(path: string, args: string): string | undefined {
    if (path === '' && !args.startsWith('AT_FDCWD')) return undefined;
    const own = this.#config.sources.includes(path) || path.startsWith('/sys/fs/cgroup');
    return !this.#switched && own ? undefined : 'open_tree of a path';
  }

  #mount(source: string, target: string): string | undefined {
    if (target === '/') return source === '' ? undefined : 'mount on a path';
    if (!/^self\/fd\/\d+$/.test(target)) return 'mount on a path';
    return !source.includes('/') || /^self\/fd\/\d+$/.test(source) ? undefined : 'mount of a path';
  }

  #other(name: string, directory: string, path: string, second: string, args: string): string | undefined {
    const target = name === 'symlinkat' ? second : path;
    const at = name === 'symlinkat' ? (/", (\w+), "/.exec(args)?.[1] ?? '') : directory;
    if (/(?<!^st)at$|^statx$|^mount_setattr$|^faccessat2$/.test(name) && at !== 'AT_FDCWD') {
      if (target === '') return args.includes('AT_EMPTY_PATH') ? undefined : 'an empty path';
      return oneName(target) ? undefined : 'more than one name';
    }
    const looks = /^(newfstatat|statx|faccessat2?|access|stat|readlink)$/.test(name);
    if (this.#switched && looks && this.#config.programs.includes(path)) return undefined;
    return 'a path string';
  }
}

/** @throws when the trace shows no init or no opening of the rootfs: an audit of nothing would always pass */
export function audit(trace: string, config: AuditConfig): Audit {
  const lines = joined(trace);
  const start = lines.findIndex(line => / execveat\(.*\["init", /.test(line));
  const pid = lines[start]?.split(' ', 1)[0];
  if (pid === undefined) throw new Error('audit: the trace shows no init');
  const reader = new Reader(config);
  // A process that enters a container is the child of a first stage.
  const followed = new Set([pid]);
  for (const line of lines.slice(start + 1)) {
    const [, who = '', name = '', args = '', result = ''] = call.exec(line) ?? [];
    if (!followed.has(who)) continue;
    if (name === 'execve' && result === '0') followed.delete(who);
    else if (/^clone3?$/.test(name)) followed.add(result);
    else if (name !== 'execve') reader.read(line, name, args, result);
  }
  if (reader.calls === 0) throw new Error('audit: the trace shows no opening of the rootfs');
  return { calls: reader.calls, findings: reader.findings };
}

/** Lines that strace has cut in two, since another process came between, in one piece again. */
function joined(trace: string): string[] {
  const open = new Map<string, string>();
  const lines: string[] = [];
  for (const line of trace.split('\n')) {
    const pid = line.split(' ', 1)[0] ?? '';
    if (line.endsWith('<unfinished ...>')) {
      open.set(pid, line.slice(0, -'<unfinished ...>'.length).trimEnd());
      continue;
    }
    const rest = /<\.\.\. \w+ resumed>(.*)$/.exec(line)?.[1];
    lines.push(rest === undefined ? line : `${open.get(pid) ?? pid}${rest}`);
  }
  return lines;
}
