/** The manual page nrunc(8), made by the build of what the help texts are made of. man(7), groff_man(7). */
import { texts } from './help.ts';
import type { OptionSpec } from './options.ts';
import { type CommandName, type CommandSpec, commands, globalOptions } from './table.ts';

/** A dot or a quote at the start of a line is a request of troff's; a - that is typed is no hyphen. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

function optionRows(options: readonly OptionSpec[]): string {
  return options
    .filter(({ hidden }) => hidden !== true)
    .map(({ name, alias, kind, help, shown }) => {
      const names = [`--${name}`, ...(alias === undefined ? [] : [`-${alias}`])]
        .map(one => `\\fB${roff(one)}\\fR`)
        .join(', ');
      const value =
        kind === 'flag' ? '' : ` \\fI${kind === 'list' ? 'value\\fR, any number of times' : 'value\\fR'}`;
      const text = roff(help) + (shown === undefined ? '' : ` (default: ${roff(shown)})`);
      return `.TP\n${names}${value}\n${text}\n`;
    })
    .join('');
}

/** What stands indented is shown as it is. */
function paragraphs(text: string): string {
  return text
    .split('\n\n')
    .filter(part => part !== '')
    .map(part =>
      /^\s/.test(part) ? `.PP\n.nf\n${roff(part)}\n.fi\n` : `.PP\n${roff(part.replace(/\n\s*/g, '\n'))}\n`,
    )
    .join('');
}

function commandSection(name: string, spec: CommandSpec): string {
  const [note, description] = texts[name as CommandName];
  const words = roff(
    [spec.options.length > 0 ? '[options]' : '', spec.argumentsUsage].filter(w => w !== '').join(' '),
  );
  return `.SS nrunc ${roff(name)} ${words}\n${roff(spec.usage)}.\n${paragraphs(note)}${paragraphs(description)}${optionRows(spec.options)}`;
}

export function manPage(version: string): string {
  const sections = Object.entries(commands).map(([name, spec]) => commandSection(name, spec));
  return `.TH NRUNC 8 "" "nrunc ${version}" "System Administration"
.SH NAME
nrunc \\- run containers of the Open Container Initiative
.SH SYNOPSIS
.B nrunc
[\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]
.SH DESCRIPTION
.B nrunc
creates and runs containers from bundles, with the commands, options, output and exit codes of
.BR runc (8),
in whose place container engines run it. Options are written with one dash or two, their value after a space or a =.
.SH GLOBAL OPTIONS
${optionRows(globalOptions)}.SH COMMANDS
${sections.join('')}.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
The command failed; the reason is the last line of the log.
.TP
.B 3
There is no such command.
.TP
.B 255
${roff('exec could not start the process.')}
.PP
${roff('run and exec in the foreground end with the status of the process, or with 128 and the number of the signal that ended it.')}
.SH ENVIRONMENT
.TP
.B XDG_RUNTIME_DIR
Where the state of containers of an ordinary user is.
.TP
.BR LISTEN_FDS ", " LISTEN_PID
${roff('Descriptors for the container, sd_listen_fds(3).')}
.TP
.B NOTIFY_SOCKET
${roff('The container may tell there that it is ready, sd_notify(3).')}
.SH FILES
.TP
.I /run/libcontainer
${roff('State of containers; another directory with --root.')}
.SH SEE ALSO
.BR runc (8),
.BR podman (1),
.BR containerd (8)
`;
}
