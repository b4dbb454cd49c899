/** Help texts, in the form of runc's (urfave/cli); loaded only when they are shown. */
import type { OptionSpec } from './options.ts';
import { type CommandName, commands, findCommand, globalOptions } from './table.ts';
import { versionText } from './version.ts';

const identified = `Where "<container-id>" is the name for the instance of the container.`;
const unique = `Where "<container-id>" is your name for the instance of the container that you
are starting. The name you provide for the container instance must be unique on
your host.`;
const ofBundle = `creates an instance of a container for a bundle. The bundle
is a directory with a specification file named "config.json" and a root
filesystem.

The specification file includes an args parameter. The args parameter is used
to specify command(s) that get run when the container is started. To change the
command(s) that get executed on start, edit the args parameter of the spec. See
"nrunc spec --help" for more explanation.`;

/** What follows the usage line, and the description. */
export const texts: { readonly [N in CommandName]: readonly [note: string, description: string] } = {
  checkpoint: [
    `Where "<container-id>" is the name for the instance of the container to be
checkpointed.`,
    'The checkpoint command saves the state of the container instance.',
  ],
  completion: [
    '',
    `To have it in every shell:

   nrunc completion bash > /usr/share/bash-completion/completions/nrunc
   nrunc completion zsh > /usr/share/zsh/vendor-completions/_nrunc`,
  ],
  create: [unique, `The create command ${ofBundle}`],
  delete: [
    `${identified}

EXAMPLE:
For example, if the container id is "ubuntu01" and nrunc list currently shows the
status of "ubuntu01" as "stopped" the following will delete resources held for
"ubuntu01" removing "ubuntu01" from the nrunc list of containers:

       # nrunc delete ubuntu01`,
    '',
  ],
  doctor: [
    '',
    `The doctor command tries out what containers need, as the user that runs it:
namespaces, mounts, system calls, cgroups, seccomp and a whole sandbox. With each
finding that is not ok comes a line that says what to do. Nothing is left behind.
The exit code is 0 when all is there, 2 when something that only some containers
need is missing, and 1 when no container can be run.`,
  ],
  events: [
    identified,
    `The events command displays information about the container. By default the
information is displayed once every 5 seconds.`,
  ],
  exec: [
    `Where "<container-id>" is the name for the instance of the container and
"<command>" is the command to be executed in the container.
"<command>" can't be empty unless a "-p" flag provided.

EXAMPLE:
For example, if the container is configured to run the linux ps command the
following will output a list of processes running in the container:

       # nrunc exec <container-id> ps`,
    '',
  ],
  features: ['', 'Show the enabled features.\n   The result is parsable as a JSON.'],
  kill: [
    `Where "<container-id>" is the name for the instance of the container and
"[signal]" is the signal to be sent to the init process.

EXAMPLE:
For example, if the container id is "ubuntu01" the following will send a "KILL"
signal to the init process of the "ubuntu01" container:

       # nrunc kill ubuntu01 KILL`,
    '',
  ],
  list: ['Where the given root is specified via the global option "--root".', ''],
  pause: [
    `Where "<container-id>" is the name for the instance of the container to be
paused.`,
    `The pause command suspends all processes in the instance of the container.

Use nrunc list to identify instances of containers and their current status.`,
  ],
  plan: [
    '',
    `The plan command prints every step that a start would take, in order and with its
arguments, without taking any. It reads the bundle of --bundle or of the current
directory; with only a container id, that container's own configuration.`,
  ],
  ps: ['', ''],
  restore: [
    `Where "<container-id>" is the name for the instance of the container to be
restored.`,
    `Restores the saved state of the container instance that was previously saved
using the nrunc checkpoint command.`,
  ],
  resume: [
    `Where "<container-id>" is the name for the instance of the container to be
resumed.`,
    `The resume command resumes all processes in the instance of the container.

Use nrunc list to identify instances of containers and their current status.`,
  ],
  run: [unique, `The run command ${ofBundle}`],
  rootfs: [
    `EXAMPLE:
       $ mkdir web && cd web && nrunc rootfs busybox rootfs && nrunc spec && nrunc run web-1
       $ docker save alpine > alpine.tar && nrunc rootfs unpack alpine.tar rootfs`,
    `The rootfs command makes a directory that root.path of a config.json can name.
busybox: a static busybox of this host with links for all that it can do, and the
few files of /etc that programs ask for.
unpack: an image that lies on the disk, an OCI image layout or what docker save
writes, as a directory or a tar file. What the image says about how it is meant to
be run is printed as JSON; what could not be unpacked (device nodes without being
root) is told on stderr.`,
  ],
  sandbox: [
    `EXAMPLE:
       $ nrunc sandbox -- sh
       $ nrunc sandbox --memory 256m --timeout 10s --rw . -- make test`,
    `The sandbox command runs a command in a container of its own, as root or as an
ordinary user. It sees the programs and libraries of the host read-only, a
private /proc, /dev, /tmp and home directory, and nothing else; it has no network,
no capabilities and a filter on its system calls. When it ends, or nrunc does,
everything is removed.`,
  ],
  serve: [
    '',
    `The serve command keeps a process that answers what nrunc-front, in the place of
nrunc, asks it: state, list, ps, kill, delete, start, pause, resume, update,
features, create, and run and exec with --detach. All else, and everything while
nobody serves, is done by a process of its own. Callers must be of the same user,
in the same namespaces, with the same privileges and umask. SIGTERM ends it; with
NOTIFY_SOCKET it says when it is ready.`,
  ],
  spec: [
    '',
    `The spec command creates the new specification file named "config.json" for
the bundle.

The spec generated is just a starter file. Editing of the spec is required to
achieve desired results. For example, the newly generated spec includes an args
parameter that is initially set to call the "sh" command when the container is
started.`,
  ],
  start: [unique, 'The start command executes the user defined process in a created container.'],
  state: [
    `Where "<container-id>" is your name for the instance of the container.`,
    `The state command outputs current state information for the
instance of a container.`,
  ],
  update: [
    '',
    `The file of --resources has the form of linux.resources in config.json, for example

   {"memory": {"limit": 67108864}, "cpu": {"quota": 50000, "period": 100000}}

What it leaves out, or gives as 0, stays as it is. If data is to be read from a
file or the standard input, all other options are ignored.`,
  ],
};

function optionLines(options: readonly OptionSpec[]): string {
  const rows = options.map(({ name, alias, kind, help, shown }) => {
    const value = kind === 'flag' ? '' : ' value';
    const names = [`--${name}${value}`, ...(alias === undefined ? [] : [`-${alias}${value}`])].join(', ');
    return [names, `${help}${shown === undefined ? '' : ` (default: ${shown})`}`] as const;
  });
  const width = Math.max(...rows.map(([names]) => names.length)) + 2;
  return rows.map(([names, help]) => `   ${names.padEnd(width)}${help}\n`).join('');
}

export function commandHelp(name: string): string {
  const spec = findCommand(name);
  if (spec === undefined) return '';
  const [note, description] = texts[name as CommandName];
  const visible = spec.options.filter(({ hidden }) => hidden !== true);
  const words = ['nrunc', name, visible.length > 0 ? '[command options]' : '', spec.argumentsUsage];
  const sections = [
    `NAME:\n   nrunc ${name} - ${spec.usage}\n`,
    `USAGE:\n   ${words.filter(word => word !== '').join(' ')}\n`,
    ...(note === '' ? [] : [`${note}\n`]),
    ...(description === '' ? [] : [`DESCRIPTION:\n   ${description}\n`]),
    // urfave/cli ends the list with an indented empty line.
    ...(visible.length > 0 ? [`OPTIONS:\n${optionLines(visible)}   \n`] : []),
  ];
  return sections.join('\n');
}

export function programHelp(): string {
  const width = Math.max(...Object.keys(commands).map(name => name.length)) + 2;
  const rows = Object.entries(commands).map(([name, { usage }]) => `   ${name.padEnd(width)}${usage}\n`);
  return `NAME:
   nrunc - Open Container Initiative runtime

nrunc is a command line client for running applications packaged according to
the Open Container Initiative (OCI) format, with the commands, options and output
of runc.

To start a new instance of a container:

    # nrunc run [ -b bundle ] <container-id>

Where "<container-id>" is your name for the instance of the container that you
are starting. The name you provide for the container instance must be unique on
your host. Providing the bundle directory using "-b" is optional. The default
value for "bundle" is the current directory.

USAGE:
   nrunc [global options] command [command options] [arguments...]

VERSION:
   ${versionText().replace('nrunc version ', '').trimEnd()}

COMMANDS:
${rows.join('')}   ${'help, h'.padEnd(width)}Shows a list of commands or help for one command

GLOBAL OPTIONS:
${optionLines([...globalOptions.filter(({ hidden }) => hidden !== true), { name: 'help', alias: 'h', kind: 'flag', help: 'show help' }])}`;
}
