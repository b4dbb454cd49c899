/** Completion scripts, made of the table of commands; loaded only when one is printed. */
import type { OptionSpec } from './options.ts';
import { type CommandSpec, commands, globalOptions } from './table.ts';

const helpNames = ['--help', '-h'];
const takesValue = ({ kind }: OptionSpec): boolean => kind !== 'flag';
const visible = (options: readonly OptionSpec[]): readonly OptionSpec[] =>
  options.filter(({ hidden }) => hidden !== true);
const namesOf = (options: readonly OptionSpec[]): string[] =>
  options.flatMap(({ name, alias }) => [`--${name}`, ...(alias === undefined ? [] : [`-${alias}`])]);
const entries: readonly (readonly [string, CommandSpec])[] = Object.entries(commands);
const takesContainer = ({ argumentsUsage }: CommandSpec): boolean => /container-id/.test(argumentsUsage);

/** The words of a `case` pattern that matches each of them. */
const pattern = (words: readonly string[]): string => (words.length > 0 ? words.join(' | ') : "''");

/** bash(1), "Programmable Completion". `--root=D` arrives as three words, since = breaks words there. */
export function bashCompletion(): string {
  const cases = entries.map(
    ([name, spec]) =>
      `    ${name})\n      options='${[...namesOf(visible(spec.options)), ...helpNames].join(' ')}'` +
      `\n      values='${namesOf(spec.options.filter(takesValue)).join(' ')}'` +
      `\n      container=${takesContainer(spec) ? 1 : 0} ;;`,
  );
  return `# bash completion for nrunc; written by: nrunc completion bash
_nrunc() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
  local command= options values container=0 i word before=0
  local -a root=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $word in
    ${pattern(['--root', '-root'])})
      [ "\${COMP_WORDS[i + 1]}" = = ] && ((i++))
      ((i++))
      root=(--root "\${COMP_WORDS[i]}") ;;
    ${pattern(namesOf(globalOptions.filter(o => takesValue(o) && o.name !== 'root')))})
      [ "\${COMP_WORDS[i + 1]}" = = ] && ((i++))
      ((i++)) ;;
    -*) ;;
    *)
      command=$word
      break ;;
    esac
  done
  [ "$cur" = = ] && cur=
  case $command in
    '')
      options='${[...namesOf(visible(globalOptions)), ...helpNames].join(' ')}'
      values='${namesOf(globalOptions.filter(takesValue)).join(' ')}' ;;
    help | h) container=0 ;;
${cases.join('\n')}
  esac
  case $prev in
    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur"); return ;;
    --rootless) [ -z "$command" ] && mapfile -t COMPREPLY < <(compgen -W 'true false auto' -- "$cur") && return ;;
    --format | -f)
      case $command in ${pattern(entries.filter(([, s]) => s.options.some(o => o.name === 'format')).map(([n]) => n))})
        mapfile -t COMPREPLY < <(compgen -W 'table json' -- "$cur"); return ;;
      esac ;;
  esac
  # The value of an option: mostly a path.
  case " $values " in *" $prev "*) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;; esac
  case $cur in -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur"); return ;; esac
  if [ -z "$command" ] || [ "$command" = help ] || [ "$command" = h ]; then
    mapfile -t COMPREPLY < <(compgen -W '${[...entries.map(([name]) => name), 'help'].join(' ')}' -- "$cur")
    return
  fi
  if [ "$command" = completion ]; then
    mapfile -t COMPREPLY < <(compgen -W 'bash zsh' -- "$cur")
    return
  fi
  # The container is the first argument; then a signal, or files.
  for ((i++; i < COMP_CWORD; i++)); do
    case " $values " in *" \${COMP_WORDS[i]} "*) ((i++)) ;; *)
      case \${COMP_WORDS[i]} in -*) ;; *) ((before++)) ;; esac ;;
    esac
  done
  if [ "$container" = 1 ] && [ "$before" = 0 ]; then
    while read -r word; do
      [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
    done < <("\${COMP_WORDS[0]}" "\${root[@]}" list -q 2>/dev/null)
  elif [ "$command" = kill ] && [ "$before" = 1 ]; then
    mapfile -t COMPREPLY < <(compgen -A signal -- "$cur")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  fi
}
complete -F _nrunc nrunc
`;
}

/** For single quotes of a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** _arguments (zshcompsys(1)): one specification for each name of an option. */
function zshOption(option: OptionSpec): string[] {
  const help = option.help.replace(/[[\]:\\]/g, '\\$&');
  const many = option.kind === 'list' ? '*' : '';
  const action = /^(path|the log file|root directory|set the log file)/.test(option.help) ? '_files' : ' ';
  const value = takesValue(option) ? `:${option.name}:${action}` : '';
  return namesOf([option]).map(name => quoted(`${many}${name}[${help}]${value}`));
}

const zshOptions = (options: readonly OptionSpec[]): string =>
  visible(options)
    .flatMap(zshOption)
    .concat(quoted('(- *)'.concat('--help[show help]')))
    .join(' \\\n        ');

export function zshCompletion(): string {
  const cases = entries.map(([name, spec]) => {
    const argument = takesContainer(spec)
      ? quoted('1:container:_nrunc_containers')
      : name === 'completion'
        ? quoted('1:shell:(bash zsh)')
        : '';
    const rest = name === 'kill' ? quoted('2:signal:_signals') : quoted('*:argument:_files');
    return `      ${name})\n        _arguments ${[zshOptions(spec.options), argument, rest].filter(word => word !== '').join(' \\\n        ')} ;;`;
  });
  const described = entries.map(
    ([name, { usage }]) => `    ${quoted(`${name}:${usage.replaceAll(':', '\\:')}`)}`,
  );
  return `#compdef nrunc
# zsh completion for nrunc; written by: nrunc completion zsh
_nrunc_containers() {
  local -a root ids
  [[ -n $opt_args[--root] ]] && root=(--root $opt_args[--root])
  ids=(\${(f)"$(_call_program containers nrunc $root list -q 2>/dev/null)"})
  _describe container ids
}
_nrunc() {
  local state
  local -a commands
  commands=(
${described.join('\n')}
    'help:shows a list of commands or help for one command'
  )
  _arguments -C \\
        ${zshOptions(globalOptions)} \\
        '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
      help) _describe command commands ;;
${cases.join('\n')}
      esac ;;
  esac
}
_nrunc "$@"
`;
}
