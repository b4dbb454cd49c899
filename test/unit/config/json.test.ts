import { deepEqual, equal, ok } from 'node:assert/strict';
import { type Json, parseJson } from '../../../lib/config/json.ts';
import { ConfigError } from '../../../lib/errors.ts';
import { test } from '../../harness/test.ts';

function failure(text: string): ConfigError {
  try {
    parseJson(text);
  } catch (error) {
    ok(error instanceof ConfigError, String(error));
    equal(error.code, 'ERR_SPEC_JSON');
    return error;
  }
  throw new Error(`accepted: ${text}`);
}

test('parseJson() agrees with JSON.parse on values that both know', async () => {
  const documents = [
    '{}',
    '[]',
    ' \t\r\n[1, -0.5, 1e3, 1E-2, 0, -1]\n',
    '{"a":{"b":[true,false,"x"]},"":1}',
    '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00 é😀"',
    '{"a":1,"a":2}',
    '9007199254740991',
  ];
  for (const text of documents) deepEqual(parseJson(text), JSON.parse(text), text);
});

test('parseJson() keeps integers beyond 2^53 exact', async () => {
  deepEqual(parseJson('[18446744073709551615, -9223372036854775808, 9007199254740993]'), [
    18446744073709551615n,
    -9223372036854775808n,
    9007199254740993n,
  ]);
});

test('parseJson() leaves out null members and keeps null items', async () => {
  deepEqual(parseJson('{"a":null,"b":[null]}'), { b: [null] });
});

test('parseJson() makes __proto__ a property and touches no prototype', async () => {
  const value = parseJson('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}');
  equal(Object.getPrototypeOf(value), Object.prototype);
  deepEqual(Object.keys(value as object), ['__proto__', 'constructor']);
  equal(({} as { polluted?: boolean }).polluted, undefined);
});

test('parseJson() tells line, column and reason of every kind of mistake', async () => {
  const rows: [text: string, line: number, column: number, reason: RegExp][] = [
    ['', 1, 1, /empty/],
    ['{"a": 1,\n  "b": tru}', 2, 8, /expected a value, found "t"/],
    ['{', 1, 2, /property name.*ends here/],
    ['{"a"}', 1, 5, /expected ":"/],
    ['{"a":1 "b":2}', 1, 8, /expected "," or "}", found "\\""/],
    ['{"a":1,}', 1, 8, /comma may not end an object/],
    ['[1,]', 1, 4, /comma may not end an array/],
    ['[1 2]', 1, 4, /expected "," or "]"/],
    ["{'a':1}", 1, 2, /double quotes/],
    ['{"a":01}', 1, 6, /not a number/],
    ['[1.]', 1, 2, /not a number/],
    ['[+1]', 1, 2, /expected a value/],
    ['[NaN]', 1, 2, /expected a value/],
    ['[1e999]', 1, 2, /too large/],
    ['["a\n"]', 1, 2, /no end/],
    ['["a', 1, 2, /no end/],
    ['["a\tb"]', 1, 4, /control character/],
    ['["\\x"]', 1, 3, /invalid escape/],
    ['["\\u12g4"]', 1, 3, /invalid escape/],
    ['{} x', 1, 4, /nothing may follow/],
    ['\ufeff{}', 1, 1, /byte order mark/],
    ['// c\n{}', 1, 1, /expected a value, found "\/"/],
    ['{\r\n"a": }', 2, 6, /expected a value/],
  ];
  for (const [text, line, column, reason] of rows) {
    const error = failure(text);
    deepEqual([error.line, error.column], [line, column], JSON.stringify(text));
    ok(reason.test(error.message), `${JSON.stringify(text)}: ${error.message}`);
  }
});

test('parseJson() puts a caret below the place', async () => {
  const lines = failure('{\n  "args": ["sh",]\n}').message.split('\n');
  equal(lines[0], 'config.json is not valid JSON: line 2, column 17: a comma may not end an array');
  equal(lines[1], '    "args": ["sh",]');
  equal(lines[2]?.indexOf('^'), lines[1]?.indexOf(']'));
});

test('parseJson() cuts a long line around the place and shows no control characters', async () => {
  const error = failure(`[${'"x",'.repeat(5000)}\u0001]`);
  const [, line = '', caret = ''] = error.message.split('\n');
  ok(line.length <= 102, String(line.length));
  equal(line[caret.indexOf('^')], '?');
});

test('parseJson() refuses a document that is nested too deep instead of overflowing the stack', async () => {
  const error = failure('['.repeat(200_000));
  ok(/nested deeper than/.test(error.message), error.message.slice(0, 200));
  let value: Json = parseJson('['.repeat(100) + ']'.repeat(100));
  for (let depth = 0; depth < 99; depth++) value = (value as readonly Json[])[0] ?? null;
  deepEqual(value, []);
});
