/** What the front and the server say to one another: lib/cli/serve/protocol.ts, addon/front/main.cc. */
import assert from 'node:assert/strict';
import { endFrame, parseRequest, textFrames } from '../../../lib/cli/serve/protocol.ts';
import { version } from '../../../lib/cli/version.ts';
import { test } from '../../harness/test.ts';

function request(
  texts: readonly (string | Buffer)[],
  words: number,
  variables: number,
  protocol = 1,
): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(protocol, 0);
  head.writeUInt32LE(words, 4);
  head.writeUInt32LE(variables, 8);
  return Buffer.concat([head, ...texts.flatMap(text => [Buffer.from(text), Buffer.from([0])])]);
}

test('serve: a request', () => {
  const texts = [version, '/work', '--root', '', 'state', 'A=b=c', 'EMPTY=', 'odd'];
  assert.deepEqual(parseRequest(request(texts, 3, 3)), {
    cwd: '/work',
    words: ['--root', '', 'state'],
    env: { A: 'b=c', EMPTY: '' },
  });
});

test('serve: requests that are not understood', () => {
  const good = [version, '/', 'list'];
  assert.ok(parseRequest(request(good, 1, 0)) !== undefined);
  const bad = {
    'another protocol': request(good, 1, 0, 2),
    'another version': request(['0.0.0-other', '/', 'list'], 1, 0),
    'too few words': request(good, 2, 0),
    'too many words': request(good, 0, 0),
    'not UTF-8': request([version, '/', Buffer.from([0xff, 0xfe])], 1, 0),
    'no end': request(good, 1, 0).subarray(0, -1),
    'no head': Buffer.from('GET /'),
    nothing: Buffer.alloc(0),
  };
  for (const [name, data] of Object.entries(bad)) assert.equal(parseRequest(data), undefined, name);
});

test('serve: long texts come in pieces, and nothing is lost', () => {
  const text = 'ä'.repeat(40_000);
  const frames = [...textFrames('O', text)];
  assert.ok(frames.length > 1 && frames.every(frame => frame.length <= 64 * 1024 && frame[0] === 0x4f));
  assert.equal(Buffer.concat(frames.map(frame => frame.subarray(1))).toString(), text);
  assert.deepEqual([...textFrames('E', '')], []);
  assert.deepEqual([...endFrame(255, 4711)], [0x58, 255, 0, 0, 0, 0x67, 0x12, 0, 0]);
});
