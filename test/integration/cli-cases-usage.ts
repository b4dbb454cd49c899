/** Options, counts of arguments, help, logs: what needs no container. */
import { readFileSync } from 'node:fs';
import { type Case, later, literal, own, since12, since13 } from './cli-cases.ts';

/** Command → options: `name`, `name=` (takes a value), with `,alias`; `!` begins a reason why runc 1.1 lacks it. */
const options: { readonly [command: string]: readonly string[] } = {
  checkpoint: [
    'image-path=',
    'work-path=',
    'parent-path=',
    'leave-running',
    'tcp-established',
    'ext-unix-sk',
    'shell-job',
    'lazy-pages',
    'status-fd=7',
    'page-server=',
    'file-locks',
    'pre-dump',
    'manage-cgroups-mode=',
    'empty-ns=',
    'auto-dedup',
    'tcp-skip-in-flight !1.2',
    'link-remap !1.3',
  ],
  create: [
    'bundle=,b',
    'console-socket=',
    'pidfd-socket= !1.2',
    'pid-file=',
    'no-pivot',
    'no-new-keyring',
    'preserve-fds=1',
  ],
  delete: ['force,f'],
  events: ['interval=5s', 'stats'],
  exec: [
    'console-socket=',
    'pidfd-socket= !1.2',
    'cwd=',
    'env=,e',
    'tty,t',
    'user=,u',
    'additional-gids=1,g',
    'process=,p',
    'detach,d',
    'pid-file=',
    'process-label=',
    'apparmor=',
    'no-new-privs',
    'cap=,c',
    'preserve-fds=1',
    'cgroup=',
    'ignore-paused',
  ],
  features: [],
  kill: ['all,a'],
  list: ['format=,f', 'quiet,q'],
  pause: [],
  ps: ['format=,f'],
  restore: [
    'console-socket=',
    'image-path=',
    'work-path=',
    'tcp-established',
    'ext-unix-sk',
    'shell-job',
    'file-locks',
    'manage-cgroups-mode=',
    'bundle=,b',
    'detach,d',
    'pid-file=',
    'no-subreaper',
    'no-pivot',
    'empty-ns=',
    'auto-dedup',
    'lazy-pages',
    'lsm-profile=',
    'lsm-mount-context=',
  ],
  resume: [],
  run: [
    'bundle=,b',
    'console-socket=',
    'pidfd-socket= !1.2',
    'detach,d',
    'keep',
    'pid-file=',
    'no-subreaper',
    'no-pivot',
    'no-new-keyring',
    'preserve-fds=1',
  ],
  spec: ['bundle=,b', 'rootless'],
  start: [],
  state: [],
  update: [
    'resources=,r',
    'blkio-weight=10',
    'cpu-period=',
    'cpu-quota=',
    'cpu-burst= !1.2',
    'cpu-share=',
    'cpu-rt-period=',
    'cpu-rt-runtime=',
    'cpu-idle= !1.2',
    'cpuset-cpus=',
    'cpuset-mems=',
    'memory=',
    'memory-reservation=',
    'memory-swap=',
    'kernel-memory=',
    'kernel-memory-tcp=',
    'pids-limit=1',
    'l3-cache-schema=',
    'mem-bw-schema=',
  ],
};
const readText = (path: string): string => readFileSync(path, 'utf8');
const reasons: { readonly [version: string]: string } = { '1.2': since12, '1.3': since13, '1.4': later };
export const commandNames: readonly string[] = Object.keys(options);

/** Fewest and most arguments, in the words of the complaint. */
const counts: { readonly [command: string]: readonly [few: string | undefined, many: string | undefined] } = {
  checkpoint: ['exactly 1', 'exactly 1'],
  create: ['exactly 1', 'exactly 1'],
  delete: ['exactly 1', 'exactly 1'],
  events: ['exactly 1', 'exactly 1'],
  exec: ['a minimum of 1', undefined],
  features: [undefined, 'exactly 0'],
  kill: ['a minimum of 1', 'a maximum of 2'],
  list: [undefined, 'exactly 0'],
  pause: ['exactly 1', 'exactly 1'],
  ps: ['a minimum of 1', undefined],
  restore: ['exactly 1', 'exactly 1'],
  resume: ['exactly 1', 'exactly 1'],
  run: ['exactly 1', 'exactly 1'],
  spec: [undefined, 'exactly 0'],
  start: ['exactly 1', 'exactly 1'],
  state: ['exactly 1', 'exactly 1'],
  update: ['exactly 1', 'exactly 1'],
};

/** A count of arguments that the command refuses, so that nothing is done. */
const refusedArguments = (command: string): readonly string[] =>
  counts[command]?.[0] === undefined ? ['x'] : [];
const countError = (command: string): string =>
  `runtime: "${command}" requires ${counts[command]?.[0] ?? counts[command]?.[1]} argument(s)`;

/** The options are understood when the complaint is about the arguments. */
function acceptedCases(): Case[] {
  return Object.entries(options).flatMap(([command, list]) =>
    list.flatMap(entry => {
      const [text = '', version] = entry.split(' !');
      const [long = '', alias] = text.split(',');
      const [name = '', given] = long.split('=');
      const value = given === undefined ? undefined : given === '' ? 'value' : given;
      const forms =
        value === undefined
          ? [[`--${name}`], [`-${name}`], [`--${name}=false`]]
          : [[`--${name}`, value], [`-${name}=${value}`]];
      if (alias !== undefined) forms.push(value === undefined ? [`-${alias}`] : [`-${alias}`, value]);
      return forms.map((form, at) => ({
        name: `${command} ${form.join(' ')} is understood`,
        words: [command, ...form, ...refusedArguments(command)],
        share: { name: `${command} ${at}${version ?? ''}`, end: 1 + form.length },
        code: 1,
        stdout: /^Incorrect Usage\.\n\nNAME:\n/,
        error: countError(command),
        ...(version === undefined ? {} : { notRunc: reasons[version] ?? version }),
      }));
    }),
  );
}

function countCases(): Case[] {
  return Object.entries(counts).flatMap(([command, [few, many]]) =>
    [
      ...(few === undefined ? [] : [{ words: [command], wanted: few }]),
      ...(many === undefined ? [] : [{ words: [command, 'a', 'b', 'c'], wanted: many }]),
    ].map(({ words, wanted }) => ({
      name: `${words.join(' ')}: count of arguments`,
      words,
      code: 1,
      stdout: new RegExp(`^Incorrect Usage\\.\n\nNAME:\n   runtime ${command} - `),
      error: `runtime: "${command}" requires ${wanted} argument(s)`,
    })),
  );
}

function helpCases(): Case[] {
  return commandNames.flatMap(command => {
    const stdout = new RegExp(`^NAME:\n   runtime ${command} - [^\n]+\n\nUSAGE:\n   runtime ${command}`);
    return [
      [command, '--help'],
      [command, '-h'],
      ['help', command],
    ].map(words => ({
      name: `${words.join(' ')} shows help`,
      words,
      code: 0,
      stdout,
    }));
  });
}

function unknownOptionCases(): Case[] {
  return commandNames.map(command => ({
    name: `${command} --zzz is refused`,
    words: [command, '--zzz'],
    code: 1,
    stdout: /^Incorrect Usage: flag provided but not defined: -zzz\n\nNAME:\n/,
    error: 'flag provided but not defined: -zzz',
  }));
}

const invalid = (words: readonly string[], error: string): Case => ({
  name: `${words.join(' ')}: ${error}`,
  words,
  code: 1,
  stdout: new RegExp(`^Incorrect Usage: ${literal(error)}\n\nNAME:\n`),
  error,
});

const valueCases: readonly Case[] = [
  invalid(['create', '--bundle'], 'flag needs an argument: -bundle'),
  invalid(['exec', '-e'], 'flag needs an argument: -e'),
  invalid(['update', '--memory'], 'flag needs an argument: -memory'),
  invalid(['run', '--preserve-fds', 'x', 'a'], 'invalid value "x" for flag -preserve-fds: parse error'),
  invalid(['run', '--preserve-fds=', 'a'], 'invalid value "" for flag -preserve-fds: parse error'),
  invalid(['update', '--pids-limit', '1x', 'a'], 'invalid value "1x" for flag -pids-limit: parse error'),
  invalid(['update', '--blkio-weight', '-', 'a'], 'invalid value "-" for flag -blkio-weight: parse error'),
  invalid(['events', '--interval', '5', 'a'], 'invalid value "5" for flag -interval: parse error'),
  invalid(['events', '--interval', 'soon', 'a'], 'invalid value "soon" for flag -interval: parse error'),
  invalid(['list', '--quiet=maybe'], 'invalid boolean value "maybe" for -quiet: parse error'),
  invalid(['delete', '-f=2', 'a'], 'invalid boolean value "2" for -f: parse error'),
  invalid(['delete', '---force', 'a'], 'bad flag syntax: ---force'),
  invalid(['delete', '--=x', 'a'], 'bad flag syntax: --=x'),
];

const json = (level: string, msg: string): RegExp =>
  new RegExp(`^\\{"level":"${level}","msg":"${literal(msg)}","time":"[0-9T:+Z-]+"\\}\n$`);
const textLine = (msg: string): RegExp =>
  new RegExp(`^time="[0-9T:+Z-]+" level=error msg="${literal(msg)}"\n$`);
const absent = 'container does not exist';
const wrong = (what: string, text: string, pattern: RegExp): string | undefined =>
  pattern.test(text) ? undefined : `${what} is ${JSON.stringify(text)}`;

const globalCases: readonly Case[] = [
  ...[[], ['--help'], ['-h'], ['help'], ['h']].map(words => ({
    name: `"${words.join(' ')}" shows the program's help`,
    words,
    code: 0,
    stdout:
      /^NAME:\n {3}runtime - Open Container Initiative runtime\n[\s\S]*\nGLOBAL OPTIONS:\n[\s\S]*--root value/,
  })),
  ...['--version', '-v'].map(word => ({
    name: `${word} has the lines that callers parse`,
    words: [word],
    code: 0,
    stdout:
      /^runtime version \d+\.\d+\.\d+[^\n]*\ncommit: [^\n]+\nspec: 1\.\d+\.\d+[^\n]*\n\w+: [^\n]+\nlibseccomp: \d+\.\d+\.\d+\n$/,
  })),
  { name: 'an unknown command', words: ['bogus'], code: 3, error: /^No help topic for 'bogus'\n?$/ },
  {
    name: 'an unknown global option',
    words: ['--zzz', 'list'],
    code: 1,
    stdout: /^Incorrect Usage\. flag provided but not defined: -zzz\n\nNAME:\n/,
    error: 'flag provided but not defined: -zzz',
  },
  {
    name: 'an unknown log format',
    words: ['--log-format', 'xml', 'list'],
    code: 1,
    error: 'invalid log-format: xml',
  },
  {
    name: 'a wrong --rootless',
    words: ['--rootless', 'maybe', 'state', 'x'],
    code: 1,
    error: 'invalid rootless: maybe',
    notRunc: 'runc says so only where it matters to the command',
  },
  ...['true', 'false', 'auto'].map(value => ({
    name: `--rootless ${value}`,
    words: ['--rootless', value, 'list', '-q'],
    code: 0,
  })),
  { name: '--criu is accepted', words: ['--criu', '/usr/sbin/criu', 'list', '-q'], code: 0 },
  { name: '--root and its list', words: ['--root', '@dir/other', 'list', '-q'], code: 0 },
  {
    name: 'the log as text on stderr',
    words: ['state', 'nope'],
    code: 1,
    error: absent,
    look: ({ stderr }) => wrong('stderr', stderr, textLine(absent)),
  },
  {
    name: 'the log as JSON on stderr',
    words: ['--log-format', 'json', 'state', 'nope'],
    code: 1,
    error: absent,
    look: ({ stderr }) => wrong('stderr', stderr, json('error', absent)),
  },
  ...(['json', 'text'] as const).map(
    (format): Case => ({
      name: `the log as ${format} in a file, and the sentence on stderr`,
      words: ['--log', '@dir/log', '--log-format', format, 'state', 'nope'],
      code: 1,
      error: absent,
      look: ({ directory, stderr }) =>
        wrong('stderr', stderr, new RegExp(`^${absent}\n$`)) ??
        wrong(
          'log',
          readText(`${directory}/log`),
          format === 'json' ? json('error', absent) : textLine(absent),
        ),
    }),
  ),
  {
    name: 'a log file that cannot be opened',
    words: ['--log', '@dir/none/log', 'list'],
    code: 1,
    error: /open .*\/none\/log: no such file or directory/,
  },
  {
    name: 'an empty log file',
    words: ['--log', '@dir/log', 'list', '-q'],
    code: 0,
    look: ({ directory }) => wrong('log', readText(`${directory}/log`), /^$/),
  },
  {
    name: 'debug lines are lines of the log',
    words: ['--debug', '--log', '@dir/log', '--log-format', 'json', 'state', 'nope'],
    code: 1,
    error: absent,
    look: ({ directory }) => {
      const lines = readText(`${directory}/log`).trim().split('\n');
      const levels = lines.map(line => String(JSON.parse(line).level));
      return levels.at(-1) === 'error' || levels.includes('error') ? undefined : levels.join(' ');
    },
  },
];

const listCases: readonly Case[] = [
  { name: 'list of none', words: ['list'], code: 0, stdout: /^ID +PID +STATUS +BUNDLE +CREATED +OWNER\n$/ },
  { name: 'list of none as JSON', words: ['list', '--format', 'json'], code: 0, stdout: 'null\n' },
  { name: 'list of none, -f=json', words: ['list', '-f=json'], code: 0, stdout: 'null\n' },
  { name: 'list of none, names only', words: ['list', '-q'], code: 0 },
  {
    name: 'list in an unknown format',
    words: ['list', '-f', 'xml'],
    code: 1,
    error: 'invalid format option',
  },
];

/** Every command on a container that is not there. */
const absentCases: readonly Case[] = (
  [
    ['state', 'nope'],
    ['start', 'nope'],
    ['kill', 'nope'],
    ['kill', 'nope', '9'],
    ['kill', '--all', 'nope', 'KILL'],
    ['delete', 'nope'],
    ['pause', 'nope'],
    ['resume', 'nope'],
    ['exec', 'nope', 'true'],
    ['exec', '-d', 'nope', 'true'],
    ['ps', 'nope'],
    ['ps', '--format', 'json', 'nope'],
    ['events', '--stats', 'nope'],
    ['update', '--pids-limit', '5', 'nope'],
  ] as const
).map(words => ({
  name: `${words.join(' ')}: no such container`,
  words,
  code: words[0] === 'exec' ? 255 : 1,
  error: words[0] === 'exec' ? /container does not exist/ : absent,
}));

const fileCases: readonly Case[] = [
  { name: 'delete --force of none is success', words: ['delete', '--force', 'nope'], code: 0 },
  { name: 'delete -f of none is success', words: ['delete', '-f', 'nope'], code: 0 },
  {
    name: 'spec writes config.json',
    words: ['spec', '-b', '@dir'],
    code: 0,
    look: ({ directory }) =>
      wrong('config.json', readText(`${directory}/config.json`), /^\{\n\t"ociVersion": "1\./),
  },
  {
    name: 'spec --rootless maps the user',
    words: ['spec', '--rootless', '--bundle', '@dir'],
    code: 0,
    look: ({ directory }) => wrong('config.json', readText(`${directory}/config.json`), /"uidMappings": \[/),
  },
  {
    name: 'spec to a directory that is not there',
    words: ['spec', '-b', '@dir/none'],
    code: 1,
    error: /no such file or directory/,
  },
  {
    name: 'features is JSON',
    words: ['features'],
    code: 0,
    stdout: /^\{\n {4}"ociVersionMin": "1\.0\.0",\n {4}"ociVersionMax": "1\.\d+\.\d+[^"]*",\n {4}"hooks": \[/,
  },
  ...['bash', 'zsh'].map(shell => ({
    name: `completion for ${shell}`,
    words: ['completion', shell],
    code: 0,
    stdout: shell === 'bash' ? /^complete -F _nrunc runtime$/m : /^#compdef runtime\n/,
    notRunc: own,
  })),
  { name: 'completion for another shell', words: ['completion', 'ksh'], code: 1, error: /ksh/, notRunc: own },
];

export const usageCases: readonly Case[] = [
  ...acceptedCases(),
  ...countCases(),
  ...helpCases(),
  ...unknownOptionCases(),
  ...valueCases,
  ...globalCases,
  ...listCases,
  ...absentCases,
  ...fileCases,
];
