/** The commands of nrunc: options, counts of arguments and where the work is. Descriptions are in help.ts, loaded on demand. */
import type { Invocation } from './invocation.ts';
import type { OptionSpec, Order } from './options.ts';

export interface CommandSpec {
  readonly usage: string;
  readonly argumentsUsage: string;
  readonly options: readonly OptionSpec[];
  /** Fewest and most arguments. */
  readonly count: readonly [fewest: number, most: number];
  readonly order?: Order;
  /** `nrunc serve` does it for a front; what is not is done by a process of its own. */
  readonly served?: true;
  readonly load: () => Promise<{ readonly run: (invocation: Invocation) => Promise<number> }>;
}

const flag = (name: string, help: string, alias?: string): OptionSpec => ({
  name,
  kind: 'flag',
  help,
  ...(alias === undefined ? {} : { alias }),
});
const text = (name: string, help: string, alias?: string): OptionSpec => ({
  ...flag(name, help, alias),
  kind: 'text',
});
const list = (name: string, help: string, alias?: string): OptionSpec => ({
  ...flag(name, help, alias),
  kind: 'list',
});

const consoleSocket = text(
  'console-socket',
  'path to an AF_UNIX socket which will receive a file descriptor referencing the ptmx of the console',
);
const pidfdSocket = text(
  'pidfd-socket',
  'path to an AF_UNIX socket which will receive a file descriptor referencing the process',
);
const pidFile = text('pid-file', 'specify the file to write the process id to');
const detach = flag('detach', "detach from the container's process", 'd');
const preserveFds: OptionSpec = {
  name: 'preserve-fds',
  kind: 'number',
  help: 'Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)',
  shown: '0',
};
const bundle = text(
  'bundle',
  'path to the root of the bundle directory, defaults to the current directory',
  'b',
);
const noPivot = flag(
  'no-pivot',
  'do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs is on top of a ramdisk',
);
const noNewKeyring = flag(
  'no-new-keyring',
  'do not create a new session keyring for the container.  This will cause the container to inherit the calling processes session key',
);
const noSubreaper = flag(
  'no-subreaper',
  'disable the use of the subreaper used to reap reparented processes',
);
const format: OptionSpec = {
  name: 'format',
  alias: 'f',
  kind: 'text',
  help: 'select one of: table or json',
  shown: '"table"',
};
const containerId = '<container-id>';

const criuOptions: readonly OptionSpec[] = [
  text('image-path', 'path for saving or reading criu image files'),
  text('work-path', 'path for saving work files and logs'),
  flag('tcp-established', 'allow open tcp connections'),
  flag('ext-unix-sk', 'allow external unix sockets'),
  flag('shell-job', 'allow shell jobs'),
  flag('file-locks', 'handle file locks, for safety'),
  text('manage-cgroups-mode', "cgroups mode: 'soft' (default), 'full', 'strict' and 'ignore'"),
  list('empty-ns', "create a namespace, but don't restore its properties"),
  flag('auto-dedup', 'enable auto deduplication of memory images'),
  flag('lazy-pages', 'use userfaultfd to lazily restore memory pages'),
];

const unlimitedCount = Number.POSITIVE_INFINITY;

export const commands = {
  checkpoint: {
    usage: 'checkpoint a running container',
    argumentsUsage: containerId,
    count: [1, 1],
    options: [
      ...criuOptions,
      text('parent-path', 'path for previous criu image files in pre-dump'),
      flag('leave-running', 'leave the process running after checkpointing'),
      { name: 'status-fd', kind: 'number', help: 'criu writes \\0 to this FD once lazy-pages is ready' },
      text('page-server', 'ADDRESS:PORT of the page server'),
      flag('pre-dump', "dump container's memory information only, leave the container running after this"),
      flag('tcp-skip-in-flight', 'skip in-flight tcp connections'),
      flag('link-remap', 'remap links to files that are gone'),
    ],
    load: () => import('./commands/checkpoint.ts'),
  },
  completion: {
    usage: 'print the completion script for a shell: bash or zsh',
    argumentsUsage: '<shell>',
    count: [1, 1],
    options: [],
    load: () => import('./commands/completion.ts'),
  },
  create: {
    usage: 'create a container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [bundle, consoleSocket, pidfdSocket, pidFile, noPivot, noNewKeyring, preserveFds],
    load: () => import('./commands/create.ts'),
  },
  delete: {
    usage: 'delete any resources held by the container often used with detached container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [flag('force', 'Forcibly deletes the container if it is still running (uses SIGKILL)', 'f')],
    load: () => import('./commands/delete.ts'),
  },
  doctor: {
    usage: 'find out whether containers can be run here by this user, and what is missing',
    argumentsUsage: '',
    count: [0, 0],
    options: [flag('json', 'print it as JSON')],
    load: () => import('./commands/doctor.ts'),
  },
  events: {
    usage: 'display container events such as OOM notifications, cpu, memory, and IO usage statistics',
    argumentsUsage: containerId,
    count: [1, 1],
    options: [
      { name: 'interval', kind: 'duration', help: 'set the stats collection interval', shown: '5s' },
      flag('stats', "display the container's stats then exit"),
    ],
    load: () => import('./commands/events.ts'),
  },
  exec: {
    usage: 'execute new process inside the container',
    argumentsUsage: '<container-id> <command> [command options]  || -p process.json <container-id>',
    served: true,
    count: [1, unlimitedCount],
    order: 'first',
    options: [
      consoleSocket,
      pidfdSocket,
      text('cwd', 'current working directory in the container'),
      list('env', 'set environment variables', 'e'),
      flag('tty', 'allocate a pseudo-TTY', 't'),
      text('user', 'UID (format: <uid>[:<gid>])', 'u'),
      list('additional-gids', 'additional gids', 'g'),
      text('process', 'path to the process.json', 'p'),
      detach,
      pidFile,
      text('process-label', 'set the asm process label for the process commonly used with selinux'),
      text('apparmor', 'set the apparmor profile for the process'),
      flag('no-new-privs', 'set the no new privileges value for the process'),
      list('cap', 'add a capability to the bounding set for the process', 'c'),
      preserveFds,
      list('cgroup', 'run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.'),
      flag('ignore-paused', 'allow exec in a paused container'),
    ],
    load: () => import('./commands/exec.ts'),
  },
  features: {
    usage: 'show the enabled features',
    argumentsUsage: '',
    served: true,
    count: [0, 0],
    options: [],
    load: () => import('./commands/features.ts'),
  },
  kill: {
    usage: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    argumentsUsage: '<container-id> [signal]',
    served: true,
    count: [1, 2],
    options: [
      {
        name: 'all',
        alias: 'a',
        kind: 'flag',
        help: 'send the specified signal to all processes inside the container',
        hidden: true,
      },
    ],
    load: () => import('./commands/kill.ts'),
  },
  list: {
    usage: 'lists containers started by nrunc with the given root',
    argumentsUsage: '',
    served: true,
    count: [0, 0],
    options: [format, flag('quiet', 'display only container IDs', 'q')],
    load: () => import('./commands/list.ts'),
  },
  pause: {
    usage: 'pause suspends all processes inside the container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [],
    load: () => import('./commands/pause.ts'),
  },
  plan: {
    usage: 'print the start plan of a bundle or of a container, without doing anything',
    argumentsUsage: '[container-id]',
    count: [0, 1],
    options: [
      bundle,
      flag('json', 'print it as JSON'),
      flag('wait', 'as create and start do it (default: as run does it)'),
      noPivot,
      noNewKeyring,
    ],
    load: () => import('./commands/plan.ts'),
  },
  ps: {
    usage: 'ps displays the processes running inside a container',
    argumentsUsage: '<container-id> [ps options]',
    served: true,
    count: [1, unlimitedCount],
    order: 'first',
    options: [format],
    load: () => import('./commands/ps.ts'),
  },
  restore: {
    usage: 'restore a container from a previous checkpoint',
    argumentsUsage: containerId,
    count: [1, 1],
    options: [
      ...criuOptions,
      consoleSocket,
      bundle,
      detach,
      pidFile,
      noSubreaper,
      noPivot,
      text('lsm-profile', 'Specify an LSM profile to be used during restore in the form of TYPE:NAME.'),
      text('lsm-mount-context', 'Specify an LSM mount context to be used during restore.'),
    ],
    load: () => import('./commands/restore.ts'),
  },
  resume: {
    usage: 'resumes all processes that have been previously paused',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [],
    load: () => import('./commands/resume.ts'),
  },
  run: {
    usage: 'create and run a container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [
      bundle,
      consoleSocket,
      pidfdSocket,
      detach,
      flag('keep', 'do not delete the container after it exits'),
      pidFile,
      noSubreaper,
      noPivot,
      noNewKeyring,
      preserveFds,
    ],
    load: () => import('./commands/run.ts'),
  },
  rootfs: {
    usage: 'make a root file system without a registry',
    argumentsUsage: 'busybox <directory> | unpack <image> <directory>',
    count: [2, 3],
    options: [
      text('ref', 'of several images in it, the one with this name or tag'),
      text('platform', "of an image for several platforms, as linux/arm64 (default: this machine's)"),
    ],
    load: () => import('./commands/rootfs.ts'),
  },
  sandbox: {
    usage: 'run a command in a sandbox: host programs read-only, no network, no configuration needed',
    argumentsUsage: '[--] <command> [args...]',
    count: [1, unlimitedCount],
    order: 'first',
    options: [
      text('memory', 'most memory of all its processes, as 64m or 1g', 'm'),
      { name: 'pids', kind: 'number', help: 'most processes and threads', shown: '512' },
      text('cpus', 'processor time per time, as 0.5 or 2'),
      { name: 'timeout', kind: 'duration', help: 'kill it after this time; the exit code is then 124' },
      flag('network', "the host's network (default: none)"),
      list('ro', 'SOURCE[:DESTINATION] of the host, seen inside read-only'),
      list('rw', 'SOURCE[:DESTINATION] of the host, seen inside and writable'),
      list('env', 'NAME=value, or NAME to pass it on', 'e'),
      text('cwd', 'working directory inside'),
      text('hostname', 'host name inside'),
      text('rootfs', "another root file system (default: the host's /usr)"),
      flag('tty', 'allocate a pseudo-TTY (default: when stdin and stdout are one)', 't'),
    ],
    load: () => import('./commands/sandbox.ts'),
  },
  serve: {
    usage: 'answer the commands of the front from this process, until a signal ends it',
    argumentsUsage: '',
    count: [0, 0],
    options: [
      {
        ...text('socket', 'path of the socket to listen on, in a directory of its own user'),
        shown: '"/run/libcontainer/@serve"',
      },
    ],
    load: () => import('./commands/serve.ts'),
  },
  spec: {
    usage: 'create a new specification file',
    argumentsUsage: '',
    count: [0, 0],
    options: [
      text('bundle', 'path to the root of the bundle directory', 'b'),
      flag('rootless', 'generate a configuration for a rootless container'),
    ],
    load: () => import('./commands/spec.ts'),
  },
  start: {
    usage: 'executes the user defined process in a created container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [],
    load: () => import('./commands/start.ts'),
  },
  state: {
    usage: 'output the state of a container',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [],
    load: () => import('./commands/state.ts'),
  },
  update: {
    usage: 'update container resource constraints',
    argumentsUsage: containerId,
    served: true,
    count: [1, 1],
    options: [
      text(
        'resources',
        "path to the file containing the resources to update or '-' to read from the standard input",
        'r',
      ),
      {
        name: 'blkio-weight',
        kind: 'number',
        help: 'Specifies per cgroup weight, range is from 10 to 1000',
        shown: '0',
      },
      text('cpu-period', 'CPU CFS period to be used for hardcapping (in usecs). 0 to use system default'),
      text('cpu-quota', 'CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period'),
      text(
        'cpu-burst',
        'CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst',
      ),
      text('cpu-share', 'CPU shares (relative weight vs. other containers)'),
      text(
        'cpu-rt-period',
        'CPU realtime period to be used for hardcapping (in usecs). 0 to use system default',
      ),
      text('cpu-rt-runtime', 'CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period'),
      text('cpu-idle', 'set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE'),
      text('cpuset-cpus', 'CPU(s) to use'),
      text('cpuset-mems', 'Memory node(s) to use'),
      text('memory', 'Memory limit (in bytes)'),
      text('memory-reservation', 'Memory reservation or soft_limit (in bytes)'),
      text('memory-swap', "Total memory usage (memory + swap); set '-1' to enable unlimited swap"),
      { ...text('kernel-memory', 'ignored'), hidden: true },
      { ...text('kernel-memory-tcp', 'ignored'), hidden: true },
      {
        name: 'pids-limit',
        kind: 'number',
        help: 'Maximum number of pids allowed in the container',
        shown: '0',
      },
      text('l3-cache-schema', 'The string of Intel RDT/CAT L3 cache schema'),
      text('mem-bw-schema', 'The string of Intel RDT/MBA memory bandwidth schema'),
    ],
    load: () => import('./commands/update.ts'),
  },
} as const satisfies { readonly [name: string]: CommandSpec };

export type CommandName = keyof typeof commands;

export function findCommand(name: string): CommandSpec | undefined {
  return Object.hasOwn(commands, name) ? commands[name as CommandName] : undefined;
}

export const globalOptions: readonly OptionSpec[] = [
  flag('debug', 'enable debug logging'),
  { ...text('log', 'set the log file to write nrunc logs to'), shown: "'/dev/stderr'" },
  {
    ...text('log-format', "set the log format ('text' (default), or 'json')"),
    shown: '"text"',
  },
  {
    ...text('root', 'root directory for storage of container state (this should be located in tmpfs)'),
    shown: '"/run/libcontainer"',
  },
  { ...text('criu', 'ignored, as by runc: criu is looked for in PATH'), hidden: true },
  flag(
    'systemd-cgroup',
    'enable systemd cgroup support, expects cgroupsPath to be of form "slice:prefix:name" for e.g. "system.slice:runc:434234"',
  ),
  {
    ...text('rootless', "ignore cgroup permission errors ('true', 'false', or 'auto')"),
    shown: '"auto"',
  },
  flag('version', 'print the version', 'v'),
];
