import assert from 'node:assert/strict';
import { errorText } from '../../../lib/cli/error-text.ts';
import { goJson, goMap } from '../../../lib/cli/go-json.ts';
import { formatLine, goQuote, rfc3339 } from '../../../lib/cli/log.ts';
import { sizeBytes } from '../../../lib/cli/size.ts';
import { table } from '../../../lib/cli/tabular.ts';
import { ContainerError, LibcontainerError } from '../../../lib/errors.ts';
import { test } from '../../harness/test.ts';

// What Go 1.19's encoding/json, strconv and text/tabwriter write for the same values.
test('goJson() writes the bytes of encoding/json', () => {
  assert.equal(
    goJson({ a: '<&>', b: [1, 2n ** 63n], c: undefined, d: null, e: {} }),
    '{"a":"\\u003c\\u0026\\u003e","b":[1,9223372036854775808],"d":null,"e":{}}',
  );
  assert.equal(goJson('\b\f\n\u2028"\\b'), '"\\u0008\\u000c\\n\\u2028\\"\\\\b"');
  assert.equal(
    goJson({ a: [1, { b: 2 }], c: [] }, '  '),
    '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ],\n  "c": []\n}',
  );
});

test('goMap() sorts keys by bytes and leaves an empty map out', () => {
  assert.equal(goJson(goMap({ b: 1, a: 2, B: 3 }) ?? null), '{"B":3,"a":2,"b":1}');
  assert.equal(goMap({}), undefined);
  assert.equal(goMap(undefined), undefined);
});

test('formatLine() writes the lines of logrus', () => {
  const time = new Date('2026-11-21T13:46:32Z');
  const stamp = rfc3339(time);
  assert.match(stamp, /^2026-11-2[12]T\d\d:\d\d:32(Z|[+-]\d\d:\d\d)$/);
  assert.equal(
    formatLine('text', 'error', 'container does not exist', time),
    `time="${stamp}" level=error msg="container does not exist"\n`,
  );
  assert.equal(formatLine('text', 'debug', 'plain', time), `time="${stamp}" level=debug msg=plain\n`);
  assert.equal(
    formatLine('text', 'error', 'a "b"\n', time),
    `time="${stamp}" level=error msg="a \\"b\\"\\n"\n`,
  );
  assert.equal(
    formatLine('json', 'error', 'exec: "x" <y>', time),
    `{"level":"error","msg":"exec: \\"x\\" \\u003cy\\u003e","time":"${stamp}"}\n`,
  );
});

test('goQuote() escapes what cannot be printed and keeps other letters', () => {
  assert.equal(goQuote('\u0000\u0007\t\u007fä€\u200b'), '"\\x00\\a\\t\\x7fä€\\u200b"');
});

test('table() pads columns to 12 or three more than the longest, and not the last', () => {
  assert.equal(
    table([
      ['ID', 'PID', 'OWNER'],
      ['a-long-name-of-15', '1', 'root'],
    ]),
    'ID                  PID         OWNER\na-long-name-of-15   1           root\n',
  );
});

test('errorText() joins the chain, but a refusal is a whole sentence', () => {
  const inner = Object.assign(new Error("ENOENT: no such file or directory, open '/x'"), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'open',
    path: '/x',
  });
  assert.equal(errorText(inner), 'open /x: no such file or directory');
  assert.equal(errorText(new Error('outer', { cause: inner })), 'outer: open /x: no such file or directory');
  assert.equal(
    errorText(new ContainerError('ERR_CONTAINER_NOT_EXIST', 'c', { cause: inner })),
    'container does not exist',
  );
  assert.equal(
    errorText(
      new LibcontainerError('ERR_START', { cause: new LibcontainerError('ERR_ROOTFS', { detail: '/r' }) }),
    ),
    'unable to start container process: invalid rootfs: /r',
  );
  const same = new Error('twice');
  assert.equal(errorText(new Error('twice', { cause: same })), 'twice');
});

test('sizeBytes() reads sizes as docker/go-units does', () => {
  const rows: readonly (readonly [string, number])[] = [
    ['100', 100],
    ['64m', 64 << 20],
    ['64M', 64 << 20],
    ['64MiB', 64 << 20],
    ['64mb', 64 << 20],
    ['1.5k', 1536],
    ['1 g', 1 << 30],
    ['10b', 10],
    ['0', 0],
  ];
  for (const [text, bytes] of rows) assert.equal(sizeBytes(text), bytes, text);
  for (const text of ['100x', '', '-1', 'm', '1e3', '1..5m', ' 1', '1  m', '1m ', '99999999999999999p'])
    assert.throws(() => sizeBytes(text), { message: `invalid size: '${text}'` }, text);
});
