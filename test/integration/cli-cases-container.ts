/** What commands answer about a container in each of its states, and what programs in it see. */
import { existsSync, readFileSync } from 'node:fs';
import { type Case, literal, type Seen, since12 } from './cli-cases.ts';

export type State = 'created' | 'running' | 'paused' | 'stopped';

const ok = (name: string, words: readonly string[], more: Partial<Case> = {}): Case => ({
  name,
  words,
  code: 0,
  ...more,
});
const refused = (
  name: string,
  words: readonly string[],
  error: string | RegExp,
  more: Partial<Case> = {},
): Case => ({
  name,
  words,
  code: words[0] === 'exec' ? 255 : 1,
  error,
  ...more,
});

const stateOf = (status: State): Case =>
  ok(`state says ${status}`, ['state', '@id'], {
    stdout: new RegExp(
      `^\\{\n  "ociVersion": "1\\.[^"]+",\n  "id": "[^"]+",\n  "pid": ${status === 'stopped' ? '0' : '[1-9]\\d*'},` +
        `\n  "status": "${status}",\n  "bundle": "/[^"]+",\n  "rootfs": "/[^"]+",\n  "created": "[^"]+Z",\n  "owner": ""\n\\}$`,
    ),
  });

/** The same in every state. */
const inEvery = (status: State): readonly Case[] => [
  stateOf(status),
  ok(`list has it, ${status}`, ['list'], { stdout: new RegExp(`^ID .*OWNER *\n\\S+ +\\d+ +${status} +/`) }),
  ok(`list as JSON, ${status}`, ['list', '-f', 'json'], {
    stdout: new RegExp(`^\\[\\{"ociVersion":"[^"]+","id":"[^"]+","pid":\\d+,"status":"${status}","bundle":`),
  }),
  ok(`list -q, ${status}`, ['list', '-q'], { stdout: /^\S+\n$/ }),
  refused(
    `create of an ID that is there, ${status}`,
    ['create', '-b', '@bundle', '@id'],
    'runtime create failed: container with given ID already exists',
  ),
  refused(
    `run of an ID that is there, ${status}`,
    ['run', '-b', '@bundle', '@id'],
    'runtime run failed: container with given ID already exists',
  ),
  refused(`kill with an unknown signal, ${status}`, ['kill', '@id', 'FOO'], /unknown signal "FOO"/),
  refused(`kill with a number that is none, ${status}`, ['kill', '@id', '9x'], /unknown signal "9x"/),
];

const noCommand = (status: State): Case =>
  refused(`exec without a command, ${status}`, ['exec', '@id'], /process args cannot be empty/);

const ofGo = 'Go itself has descriptors of these numbers open, and runc passes them';

const deleteRefused = (status: State): Case =>
  refused(
    `delete, ${status}`,
    ['delete', '@id'],
    new RegExp(`^cannot delete container \\S+ that is not stopped: ${status}`),
  );

const signals = [
  'HUP',
  'SIGHUP',
  '1',
  'hup',
  'sigusr1',
  'USR2',
  'SIGWINCH',
  '28',
  'TERM',
  '15',
  'SIGTERM',
  '34',
  'SIGCONT',
];

const limits = (
  words: readonly string[],
  controller: string,
  file: string,
  value: string,
  more: Partial<Case> = {},
): Case =>
  ok(`update ${words.join(' ')}`, ['update', ...words, '@id'], {
    look: ({ cgroupFile }) => {
      const found = cgroupFile(controller, file);
      return found === value ? undefined : `${file} is ${found}`;
    },
    ...more,
  });

/** On cgroup v1, where the suite runs. */
const updates: readonly Case[] = [
  limits(['--memory', '67108864'], 'memory', 'memory.limit_in_bytes', '67108864'),
  limits(['--memory', '64M'], 'memory', 'memory.limit_in_bytes', '67108864'),
  limits(['--memory', '65536k'], 'memory', 'memory.limit_in_bytes', '67108864'),
  limits(['--memory-reservation', '32m'], 'memory', 'memory.soft_limit_in_bytes', '33554432'),
  limits(['--pids-limit', '30'], 'pids', 'pids.max', '30'),
  limits(['--pids-limit', '-1'], 'pids', 'pids.max', 'max'),
  limits(['--cpu-share', '300'], 'cpu', 'cpu.shares', '300'),
  limits(['--cpu-period', '50000', '--cpu-quota', '20000'], 'cpu', 'cpu.cfs_quota_us', '20000'),
  limits(['--cpu-quota', '-1'], 'cpu', 'cpu.cfs_quota_us', '-1'),
  limits(['--cpuset-cpus', '0'], 'cpuset', 'cpuset.cpus', '0'),
  limits(['--cpuset-mems', '0'], 'cpuset', 'cpuset.mems', '0'),
  limits(['-r', '-'], 'pids', 'pids.max', '41', { input: '{"pids":{"limit":41}}' }),
  limits(['--resources=-'], 'pids', 'pids.max', '42', { input: '{"pids":{"limit":42},"memory":{}}' }),
  refused(
    'update with a size that is none',
    ['update', '--memory', 'much', '@id'],
    /invalid value for memory/,
  ),
  refused(
    'update with a quota that is none',
    ['update', '--cpu-quota', '5x', '@id'],
    /invalid value for cpu-quota/,
  ),
  refused(
    'update with a period that is none',
    ['update', '--cpu-period', 'x', '@id'],
    /invalid value for cpu-period/,
  ),
  refused(
    'update from a file that is not there',
    ['update', '-r', '@dir/none', '@id'],
    /no such file or directory/,
  ),
  refused('update from what is no JSON', ['update', '-r', '-', '@id'], /./, { input: '{' }),
  refused(
    'update with a period that the kernel refuses',
    ['update', '--cpu-period', '1', '--cpu-quota', '1', '@id'],
    /invalid argument/,
  ),
];

const exec = (
  name: string,
  words: readonly string[],
  code: number,
  stdout: string | RegExp = '',
  more: Partial<Case> = {},
): Case => ({
  name: `exec ${name}`,
  words: ['exec', ...words],
  code,
  stdout,
  ...more,
});
const sh = (script: string): readonly string[] => ['@id', 'sh', '-c', script];

const execs: readonly Case[] = [
  ...[0, 1, 42, 125, 255].map(code => exec(`has the status ${code}`, sh(`exit ${code}`), code)),
  ...(
    [
      ['KILL', 137],
      ['TERM', 143],
      ['USR1', 138],
    ] as const
  ).map(([signal, code]) => exec(`ended by ${signal}`, sh(`kill -${signal} $$`), code)),
  exec('writes to stdout', sh('echo out'), 0, 'out\n'),
  exec('reads stdin', ['@id', 'cat'], 0, 'input', { input: 'input' }),
  exec('has the environment of the container', sh('echo $PATH'), 0, /^\/usr\/local\/sbin:/),
  exec('-e', ['-e', 'A=b c', ...sh('echo "$A"')], 0, 'b c\n'),
  exec('--env twice: the last one wins', ['--env', 'A=1', '--env=A=2', ...sh('echo $A')], 0, '2\n'),
  exec('--cwd', ['--cwd', '/tmp', '@id', 'pwd'], 0, '/tmp\n'),
  exec('-u', ['-u', '1000', ...sh('id -u; id -g')], 0, '1000\n0\n'),
  exec('--user with a group', ['--user', '1000:50', ...sh('id -u; id -g')], 0, '1000\n50\n'),
  exec('-g twice', ['-g', '29', '-g', '50', ...sh('id -G')], 0, '0 29 50\n'),
  exec(
    '--no-new-privs',
    ['--no-new-privs', ...sh('grep NoNewPrivs /proc/self/status')],
    0,
    'NoNewPrivs:\t1\n',
  ),
  exec(
    '--cap',
    ['--cap', 'CAP_CHOWN', ...sh('grep CapBnd /proc/self/status')],
    0,
    'CapBnd:\t0000000020000421\n',
  ),
  exec('has only what is passed open', sh('ls /proc/self/fd'), 0, '0\n1\n2\n3\n'),
  exec('-d comes back at once', ['-d', '--pid-file', '@dir/pid', ...sh('exit 3')], 0, '', {
    look: ({ directory }: Seen) =>
      /^\d+$/.test(readFileSync(`${directory}/pid`, 'utf8')) ? undefined : 'the pid file has no number',
  }),
  exec('--pid-file', ['--pid-file', '@dir/pid', ...sh('true')], 0, '', {
    look: ({ directory }: Seen) => (existsSync(`${directory}/pid`) ? undefined : 'no pid file'),
  }),
  exec('options of the command are its own', ['@id', 'echo', '-e', '--cwd', 'x'], 0, '--cwd x\n'),
  refused(
    'exec of a name that is nowhere',
    ['exec', '@id', 'nosuch'],
    /exec failed: .*exec: "nosuch": executable file not found in \$PATH/,
  ),
  refused(
    'exec of a path that is not there',
    ['exec', '@id', '/nosuch'],
    /exec failed: .*exec: "\/nosuch": .*no such file or directory/,
  ),
  refused(
    'exec of a directory',
    ['exec', '@id', '/etc'],
    /exec: "\/etc": (is a directory|permission denied)|permission denied/,
  ),
  refused('exec of a file without x', ['exec', '@id', '/etc/passwd'], /permission denied/),
  refused(
    'exec --cwd that is not there',
    ['exec', '--cwd', '/nosuch', '@id', 'true'],
    /no such file or directory/,
  ),
  refused(
    'exec -u with a name',
    ['exec', '-u', 'root', '@id', 'true'],
    /parsing root as int for uid failed|root/,
  ),
  refused(
    'exec --process that is not there',
    ['exec', '-p', '@dir/none', '@id'],
    /no such file or directory/,
  ),
  refused(
    'exec --console-socket without a terminal',
    ['exec', '--console-socket', '@dir/s', '@id', 'true'],
    /cannot use console socket/,
  ),
  refused(
    'exec -t -d without a socket',
    ['exec', '-t', '-d', '@id', 'true'],
    /cannot allocate tty if \w+ will detach without setting console socket/,
  ),
  refused('exec --cgroup that is not there', ['exec', '--cgroup', 'nosuch', '@id', 'true'], /./),
  refused(
    'exec --preserve-fds of what is not open',
    ['exec', '--preserve-fds', '3', '@id', 'true'],
    /preserved-fd/,
    { notRunc: ofGo },
  ),
  exec('goes on without a capability that is unknown', ['--cap', 'CAP_NOSUCH', '@id', 'true'], 0, '', {
    notRunc: 'runc writes a warning',
  }),
];

const psCases: readonly Case[] = [
  ok('ps', ['ps', '@id'], { stdout: /^UID +PID +PPID [^\n]+\n\S+ +\d+ [^\n]*sleep 1000\n$/ }),
  ok('ps as JSON', ['ps', '-f', 'json', '@id'], { stdout: /^\[\d+\]\n$/ }),
  ok('ps with arguments of ps', ['ps', '@id', '-e', '-o', 'pid,args'], {
    stdout: /^ *PID COMMAND\n *\d+ sleep 1000\n$|^ *PID COMMAND\n *\d+ \/bin\/sleep 1000\n$/,
  }),
  refused(
    'ps without a column PID',
    ['ps', '@id', '-e', '-o', 'comm'],
    /couldn't find PID field in ps output/,
  ),
  refused('ps in an unknown format', ['ps', '-f', 'xml', '@id'], 'invalid format option'),
  refused('ps with arguments that ps refuses', ['ps', '@id', '--nosuch'], /exit status 1/),
];

const eventCases: readonly Case[] = [
  ok('events --stats', ['events', '--stats', '@id'], {
    stdout: /^\{"type":"stats","id":"[^"]+","data":\{"cpu":\{"usage":\{"total":\d+,/,
  }),
  refused(
    'events with an interval of 0',
    ['events', '--interval', '0s', '@id'],
    'duration interval must be greater than 0',
  ),
];

export const stateCases: { readonly [S in State]: readonly Case[] } = {
  created: [
    ...inEvery('created'),
    noCommand('created'),
    refused('resume, created', ['resume', '@id'], /not paused/),
    ok('ps as JSON, created', ['ps', '-f', 'json', '@id'], { stdout: /^\[\d+\]\n$/ }),
    ok('update, created', ['update', '--pids-limit', '90', '@id']),
    ok('events --stats, created', ['events', '--stats', '@id'], { stdout: /^\{"type":"stats"/ }),
  ],
  running: [
    ...inEvery('running'),
    noCommand('running'),
    deleteRefused('running'),
    refused('start, running', ['start', '@id'], /cannot start an already running container/),
    refused('resume, running', ['resume', '@id'], /not paused/),
    ...psCases,
    ...eventCases,
    ...signals.map(signal => ok(`kill ${signal}`, ['kill', '@id', signal])),
    ok('kill -a', ['kill', '-a', '@id', 'CONT']),
    ...execs,
    ...updates,
  ],
  paused: [
    ...inEvery('paused'),
    deleteRefused('paused'),
    refused('pause, paused', ['pause', '@id'], /not running|paused/),
    refused('exec, paused', ['exec', '@id', 'true'], /cannot exec in a paused container/),
    refused('start, paused', ['start', '@id'], /cannot start|paused/),
    ok('ps as JSON, paused', ['ps', '-f', 'json', '@id'], { stdout: /^\[\d+\]\n$/ }),
    ok('update, paused', ['update', '--pids-limit', '90', '@id']),
  ],
  stopped: [
    ...inEvery('stopped').filter(({ name }) => !name.startsWith('kill')),
    refused('start, stopped', ['start', '@id'], /cannot start a container that has stopped/),
    refused(
      'exec, stopped',
      ['exec', '@id', 'true'],
      /cannot exec a container that has stopped|cannot exec in a stopped container/,
    ),
    refused('kill, stopped', ['kill', '@id', 'TERM'], /container not running/),
    ok('kill --all, stopped', ['kill', '--all', '@id', 'KILL']),
    refused('pause, stopped', ['pause', '@id'], /not running/),
    refused('resume, stopped', ['resume', '@id'], /not paused|not running/),
    refused('events, stopped', ['events', '--stats', '@id'], /is not running/),
    ok('ps as JSON, stopped', ['ps', '-f', 'json', '@id'], { stdout: /^(null|\[\])\n$/ }),
  ],
};

/** `run` in the foreground with these changes of config.json. */
export interface RunCase extends Case {
  readonly process?: { readonly [property: string]: unknown };
}
const run = (
  name: string,
  process: RunCase['process'],
  code: number,
  stdout: string | RegExp = '',
  more: Partial<RunCase> = {},
): RunCase => ({
  name: `run ${name}`,
  words: ['run', '-b', '@bundle', '@id'],
  code,
  stdout,
  ...(process === undefined ? {} : { process }),
  ...more,
});
const shell = (script: string) => ({ args: ['/bin/sh', '-c', script] });

export const runCases: readonly RunCase[] = [
  ...[0, 7, 255].map(code => run(`has the status ${code}`, shell(`exit ${code}`), code)),
  run('ended by KILL', { args: ['/bin/sh', '-c', 'exec 2>/dev/null; sh -c "kill -9 \\$\\$"; exit $?'] }, 137),
  run('writes to stdout', shell('echo out'), 0, 'out\n'),
  run('reads stdin', { args: ['/bin/cat'] }, 0, 'input', { input: 'input' }),
  run('has its cwd', { args: ['/bin/pwd'], cwd: '/tmp' }, 0, '/tmp\n'),
  run('has its user', { ...shell('id -u; id -g'), user: { uid: 1000, gid: 50 } }, 0, '1000\n50\n'),
  run('has its environment', { ...shell('echo $A'), env: ['PATH=/bin', 'A=b'] }, 0, 'b\n'),
  run(
    'has its limits',
    { ...shell('ulimit -n'), rlimits: [{ type: 'RLIMIT_NOFILE', soft: 50, hard: 60 }] },
    0,
    '50\n',
  ),
  run('is PID 1', shell('echo $$'), 0, '1\n'),
  run('has its host name', shell('hostname'), 0, /^run(c|time)\n$/),
  run('writes a pid file', shell('exit 0'), 0, '', {
    words: ['run', '-b', '@bundle', '--pid-file', '@dir/pid', '@id'],
    look: ({ directory }) =>
      /^\d+$/.test(readFileSync(`${directory}/pid`, 'utf8')) ? undefined : 'the pid file has no number',
  }),
  run('--keep', shell('exit 4'), 4, '', { words: ['run', '--keep', '-b', '@bundle', '@id'] }),
  run('of a name that is nowhere', { args: ['nosuch'] }, 1, '', {
    error: /exec: "nosuch": executable file not found in \$PATH/,
  }),
  run('of a path that is not there', { args: ['/nosuch'] }, 1, '', {
    error: /exec: "\/nosuch": stat \/nosuch: no such file or directory/,
  }),
  run('of a directory', { args: ['/etc'] }, 1, '', { error: /permission denied|is a directory/ }),
  run('of a file without x', { args: ['/etc/passwd'] }, 1, '', {
    error: /exec: "\/etc\/passwd": permission denied/,
  }),
  run('in a cwd that is not there', { args: ['/bin/true'], cwd: 'relative' }, 1, '', {
    error: /Cwd must be an absolute path|cwd/i,
  }),
  run('without arguments', { args: [] }, 1, '', { error: /args/i }),
  run('with a terminal and -d', { args: ['/bin/true'], terminal: true }, 1, '', {
    words: ['run', '-d', '-b', '@bundle', '@id'],
    error: /cannot allocate tty if \w+ will detach without setting console socket/,
  }),
  run('with a console socket and no terminal', { args: ['/bin/true'] }, 1, '', {
    words: ['run', '-d', '--console-socket', '@dir/s', '-b', '@bundle', '@id'],
    error: /cannot use console socket if \w+ will not detach or allocate tty/,
  }),
  run('--preserve-fds of what is not open', { args: ['/bin/true'] }, 1, '', {
    words: ['run', '--preserve-fds', '2', '-b', '@bundle', '@id'],
    error: /please check that preserved-fd \d+ \(of 2\) is present/,
    notRunc: ofGo,
  }),
  run('with a pidfd socket that nobody listens on', { args: ['/bin/true'] }, 1, '', {
    words: ['run', '--pidfd-socket', '@dir/s', '-b', '@bundle', '@id'],
    error: new RegExp(literal('pidfd')),
    notRunc: since12,
  }),
  ...(['', '..', 'a/b', 'a b', '-', 'ä'] as const).map(id =>
    run(`with the ID ${JSON.stringify(id)}`, { args: ['/bin/true'] }, 1, '', {
      words: ['run', '-b', '@bundle', ...(id === '-' ? ['--'] : []), id === '-' ? '/' : id],
      error: /invalid container ID|invalid container id|container id cannot be empty|invalid id format/i,
    }),
  ),
  run('of no bundle', undefined, 1, '', {
    words: ['run', '-b', '@dir/none', '@id'],
    error: /chdir .*\/none: no such file or directory/,
  }),
  run('of a bundle without config.json', undefined, 1, '', {
    words: ['run', '-b', '@dir', '@id'],
    error: /JSON specification file config\.json not found/,
  }),
];
