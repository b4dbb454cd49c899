/** nrunc: runc's command line over the library. Global options, choice of the command, exit code. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { LinuxFactory } from '../index.ts';
import { type Caller, NotServed, ownProcess } from './caller.ts';
import { errorCode, errorHint, errorText } from './error-text.ts';
import type { Invocation } from './invocation.ts';
import { Log, type LogFormat } from './log.ts';
import { type Options, parseOptions } from './options.ts';
import { type CommandSpec, findCommand, globalOptions } from './table.ts';
import { UsageError } from './usage-error.ts';

const failed = 1;
const execFailed = 255;
/** urfave/cli's code for a command that does not exist. */
const noSuchCommand = 3;

/** Commands whose failure says so before the sentence, as runc's do. */
const prefixes: { readonly [command: string]: string } = {
  run: 'nrunc run failed: ',
  create: 'nrunc create failed: ',
  exec: 'exec failed: ',
};

export async function main(words: readonly string[], caller: Caller = ownProcess): Promise<number> {
  const plainLog = new Log({ format: 'text', debug: false, file: undefined, caller });
  let globals: Options;
  let rest: readonly string[];
  try {
    ({ options: globals, arguments: rest } = parseOptions(globalOptions, words, 'first'));
  } catch (error) {
    return await refuse(caller, plainLog, undefined, error);
  }
  const [name, ...others] = rest;
  if (globals.flag('version')) {
    const { versionText } = await import('./version.ts');
    caller.print(versionText());
    return 0;
  }
  if (globals.flag('help') || name === undefined || name === 'help' || name === 'h') {
    const topic = name === 'help' || name === 'h' ? others[0] : undefined;
    return topic === undefined ? await help(caller, undefined) : await helpOn(caller, plainLog, topic);
  }
  let log: Log;
  let root: string;
  try {
    log = openLog(globals, caller);
    root = stateRoot(globals, caller);
  } catch (error) {
    if (error instanceof NotServed) throw error;
    plainLog.error(errorText(error));
    return failed;
  }
  try {
    const code = await runCommand({ command: name, words: others, globals, root, log, caller });
    caller.flush();
    return code;
  } finally {
    log.close();
  }
}

interface Call {
  readonly command: string;
  readonly words: readonly string[];
  readonly globals: Options;
  readonly root: string;
  readonly log: Log;
  readonly caller: Caller;
}

async function runCommand({ command, words, globals, root, log, caller }: Call): Promise<number> {
  const spec = findCommand(command);
  if (spec === undefined) {
    log.error(`No help topic for '${command}'`);
    return noSuchCommand;
  }
  let invocation: Invocation;
  try {
    const parsed = parseOptions(spec.options, words, spec.order ?? 'mixed');
    if (parsed.options.flag('help')) return await help(caller, command);
    checkCount(command, spec, parsed.arguments.length);
    invocation = {
      command,
      options: parsed.options,
      arguments: parsed.arguments,
      globals,
      root,
      log,
      caller,
    };
  } catch (error) {
    return await refuse(caller, log, command, error);
  }
  try {
    if (spec.served !== true) caller.decline();
    log.debug(`nrunc ${command} ${words.join(' ')}`);
    const { run } = await spec.load();
    return await run(invocation);
  } catch (error) {
    if (error instanceof NotServed) throw error;
    const hint = errorHint(error);
    if (hint !== undefined) log.debug(`${errorCode(error)}: ${hint}`);
    log.error(`${prefixes[command] ?? ''}${errorText(error)}`);
    if (log.debugging && error instanceof Error && error.stack !== undefined) log.debug(error.stack);
    return command === 'exec' ? execFailed : failed;
  }
}

function checkCount(command: string, { count: [fewest, most] }: CommandSpec, given: number): void {
  if (given >= fewest && given <= most) return;
  const wanted =
    fewest === most
      ? `exactly ${fewest}`
      : given < fewest
        ? `a minimum of ${fewest}`
        : `a maximum of ${most}`;
  throw new UsageError(`nrunc: "${command}" requires ${wanted} argument(s)`, false);
}

async function refuse(
  caller: Caller,
  log: Log,
  command: string | undefined,
  error: unknown,
): Promise<number> {
  if (!(error instanceof UsageError)) throw error;
  const separator = command === undefined ? '. ' : ': ';
  caller.print(`Incorrect Usage${error.inline ? `${separator}${error.message}` : '.'}\n\n`);
  await help(caller, command);
  log.error(error.message);
  return failed;
}

async function help(caller: Caller, command: string | undefined): Promise<number> {
  const { commandHelp, programHelp } = await import('./help.ts');
  caller.print(command === undefined ? programHelp() : commandHelp(command));
  return 0;
}

async function helpOn(caller: Caller, log: Log, topic: string): Promise<number> {
  if (findCommand(topic) !== undefined) return await help(caller, topic);
  log.error(`No help topic for '${topic}'`);
  return noSuchCommand;
}

function choice(globals: Options, name: string, allowed: readonly string[], otherwise: string): string {
  const value = globals.text(name) ?? otherwise;
  if (!allowed.includes(value)) throw new Error(`invalid ${name}: ${value}`);
  return value;
}

function openLog(globals: Options, caller: Caller): Log {
  const format = choice(globals, 'log-format', ['text', 'json'], 'text') as LogFormat;
  const file = globals.text('log');
  const path = file ? resolve(caller.cwd, file) : undefined;
  // The open of a FIFO waits for its reader, and a server waits for nobody.
  if (caller.front !== undefined && path !== undefined && !isPlainFile(path)) caller.decline();
  return new Log({ format, debug: globals.flag('debug'), file: path, caller });
}

const isPlainFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? true;

/** The default of someone who is not root is beside their other run-time files, as runc has it. */
function stateRoot(globals: Options, caller: Caller): string {
  choice(globals, 'rootless', ['true', 'false', 'auto'], 'auto');
  const given = globals.text('root');
  return given !== undefined && given !== '' ? resolve(caller.cwd, given) : new LinuxFactory().root;
}
