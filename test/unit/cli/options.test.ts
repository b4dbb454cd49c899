import assert from 'node:assert/strict';
import { type OptionSpec, parseDurationMs, parseOptions } from '../../../lib/cli/options.ts';
import { commands, findCommand, globalOptions } from '../../../lib/cli/table.ts';
import { UsageError } from '../../../lib/cli/usage-error.ts';
import { test } from '../../harness/test.ts';

const specs: readonly OptionSpec[] = [
  { name: 'bundle', alias: 'b', kind: 'text', help: '' },
  { name: 'detach', alias: 'd', kind: 'flag', help: '' },
  { name: 'env', alias: 'e', kind: 'list', help: '' },
  { name: 'preserve-fds', kind: 'number', help: '' },
  { name: 'interval', kind: 'duration', help: '' },
];

test('parseOptions() takes one dash or two, and a value behind = or in the next word', () => {
  for (const words of [
    ['--bundle', '/b', 'id'],
    ['-bundle', '/b', 'id'],
    ['--bundle=/b', 'id'],
    ['-bundle=/b', 'id'],
    ['-b', '/b', 'id'],
    ['-b=/b', 'id'],
    ['id', '--bundle', '/b'],
  ]) {
    const parsed = parseOptions(specs, words, 'mixed');
    assert.equal(parsed.options.text('bundle'), '/b', words.join(' '));
    assert.deepEqual(parsed.arguments, ['id'], words.join(' '));
  }
});

test('parseOptions() lets a value begin with a dash, and keeps an empty one', () => {
  const { options } = parseOptions(specs, ['--bundle', '-1', '--env', '', '-e', 'A=b=c'], 'mixed');
  assert.equal(options.text('bundle'), '-1');
  assert.deepEqual(options.list('env'), ['', 'A=b=c']);
});

test('parseOptions() reads flags without swallowing the next word', () => {
  const { options, arguments: rest } = parseOptions(specs, ['-d', 'true'], 'mixed');
  assert.equal(options.flag('detach'), true);
  assert.deepEqual(rest, ['true']);
  assert.equal(parseOptions(specs, ['--detach=false'], 'mixed').options.flag('detach'), false);
  assert.equal(parseOptions(specs, ['--detach=F'], 'mixed').options.has('detach'), true);
  assert.equal(parseOptions(specs, [], 'mixed').options.has('detach'), false);
});

test('parseOptions() in order first leaves everything behind the first argument alone', () => {
  const { options, arguments: rest } = parseOptions(
    specs,
    ['-d', 'id', 'ls', '-d', '--bundle', 'x'],
    'first',
  );
  assert.equal(options.flag('detach'), true);
  assert.deepEqual(rest, ['id', 'ls', '-d', '--bundle', 'x']);
});

test('parseOptions() ends at --, and takes unknown dashes behind an argument as arguments', () => {
  assert.deepEqual(parseOptions(specs, ['--', '-d'], 'mixed').arguments, ['-d']);
  const { options, arguments: rest } = parseOptions(specs, ['id', '-9', '-d'], 'mixed');
  assert.deepEqual(rest, ['id', '-9']);
  assert.equal(options.flag('detach'), true);
});

test('parseOptions() complains in the words of Go', () => {
  const rows: readonly (readonly [string[], string])[] = [
    [['--zzz'], 'flag provided but not defined: -zzz'],
    [['-zzz=1'], 'flag provided but not defined: -zzz'],
    [['--bundle'], 'flag needs an argument: -bundle'],
    [['-b'], 'flag needs an argument: -b'],
    [['--detach=maybe'], 'invalid boolean value "maybe" for -detach: parse error'],
    [['--preserve-fds', '1x'], 'invalid value "1x" for flag -preserve-fds: parse error'],
    [['--preserve-fds', ''], 'invalid value "" for flag -preserve-fds: parse error'],
    [['--interval', '5'], 'invalid value "5" for flag -interval: parse error'],
    [['---x'], 'bad flag syntax: ---x'],
    [['--=x'], 'bad flag syntax: --=x'],
  ];
  for (const [words, message] of rows)
    assert.throws(
      () => parseOptions(specs, words, 'mixed'),
      error => error instanceof UsageError && error.message === message,
      words.join(' '),
    );
});

test('parseDurationMs() reads durations of Go and nothing else', () => {
  const rows: readonly (readonly [string, number | undefined])[] = [
    ['5s', 5000],
    ['1m30s', 90_000],
    ['1.5h', 5_400_000],
    ['250ms', 250],
    ['-1s', -1000],
    ['0', 0],
    ['.5s', 500],
    ['5', undefined],
    ['s', undefined],
    ['5s ', undefined],
    ['', undefined],
    ['5d', undefined],
  ];
  for (const [text, milliseconds] of rows) assert.equal(parseDurationMs(text), milliseconds, text);
});

test('The option table names each option of a command once', () => {
  for (const [name, spec] of Object.entries({ ...commands, '': { options: globalOptions } })) {
    const names = (spec.options as readonly OptionSpec[]).flatMap(o => [o.name, o.alias ?? o.name]);
    const unique = (spec.options as readonly OptionSpec[]).flatMap(o =>
      o.alias === undefined ? [o.name] : [o.name, o.alias],
    );
    assert.equal(new Set(unique).size, unique.length, `${name}: ${names}`);
    for (const option of spec.options as readonly OptionSpec[]) assert.notEqual(option.help, '', option.name);
  }
  assert.equal(findCommand('constructor'), undefined);
});
