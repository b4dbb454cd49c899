/** examples/terminal: shells of containers in a real browser. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { browse, screenshot } from './chromium.ts';
import { runExample } from './example-process.ts';
import './warm.ts';

const command = 'node scripts/example.mjs terminal';
const containers = (directory: string): string[] =>
  existsSync(join(directory, 'state')) ? readdirSync(join(directory, 'state')).sort() : [];

test('a terminal in the browser: type, read, resize, several sessions, and the end of a tab is the end of its container', {
  requires: ['root', 'chromium', 'controller:memory', 'lane:host'],
  timeoutMs: 90_000,
}, async t => {
  const directory = makeDirectory(t);
  const running = await runExample(
    t,
    command,
    ['--directory', directory, '--port', '0'],
    join(directory, 'state'),
  );
  const { page, problems } = await browse(t, running.url);
  const screen = (): Promise<string> =>
    page.evaluate(
      '(() => { const b = shown.terminal.buffer.active; return Array.from({ length: Math.min(b.length, 60) }, (_, at) => b.getLine(b.length - 1 - at).translateToString(true)).reverse().join("\\n"); })()',
    ) as Promise<string>;
  const read = (what: string, pattern: RegExp) =>
    eventually(what, async () => pattern.exec(await screen()) ?? undefined, 20_000);
  const type = async (text: string): Promise<void> => {
    await page.keyboard.type(text);
    await page.keyboard.press('Enter');
  };

  await read('the prompt', /root@sandbox:~# ?$/m);
  await type('echo "I am $$ on $(hostname)"');
  await read('the answer of the shell', /^I am 1 on sandbox$/m);
  const [first = ''] = containers(directory);
  const size = (await page.evaluate('[shown.terminal.rows, shown.terminal.cols].join(" ")')) as string;
  await type('stty size');
  await read('the size that it began with', new RegExp(`^${size}$`, 'm'));

  await page.setViewport({ width: 900, height: 560 });
  const smaller = await eventually('another size of the terminal', async () => {
    const now = (await page.evaluate('[shown.terminal.rows, shown.terminal.cols].join(" ")')) as string;
    return now !== size && now;
  });
  await type('stty size');
  await read('the new size, read in the container', new RegExp(`^${smaller}$`, 'm'));
  await page.setViewport({ width: 1280, height: 800 });

  // A program that writes more than a browser can show at once, and still hears Ctrl-C.
  await type('yes "a long line that goes on and on"');
  await read('its output', /(a long line that goes on and on\n){5}/);
  await page.keyboard.down('Control');
  await page.keyboard.press('c');
  await page.keyboard.up('Control');
  await type('clear; echo still "here"');
  await read('the shell after Ctrl-C', /^still here$/m);

  // The second session is another container.
  await page.click('#new');
  await read('the second prompt', /root@sandbox:~# ?$/m);
  assert.equal(containers(directory).length, 2);
  await type('touch /tmp/second; ls /tmp');
  await read('its own file system', /^second$/m);
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
  await page.setViewport({ width: 1000, height: 440 });
  await type('ls --color /; dd if=/dev/zero of=/dev/null bs=256M count=1');
  await read('its limit of memory', /^Killed$/m);
  await type('ps');
  await read('its own processes', /^ +1 (root|0) .*sh -l/m);
  await screenshot(page, 'terminal');
  await page.click('[role=tab]:nth-of-type(2) .close');
  await eventually('the end of its container', () => containers(directory).join() === first);

  // exit in the shell ends the container and tells how.
  await type('exit 7');
  await read('how it ended', /\[the container has ended: status 7\]/);
  await eventually('nothing is left', () => containers(directory).length === 0);
  assert.deepEqual(problems, []);
  assert.equal(await running.end(), 0);
});

test('the terminal: no foreign page gets a shell, and no session outlives the server', {
  requires: ['root', 'controller:memory', 'lane:host'],
}, async t => {
  const directory = makeDirectory(t);
  const running = await runExample(
    t,
    command,
    ['--directory', directory, '--port', '0'],
    join(directory, 'state'),
  );
  const { origin, token } = running;
  const cookie = `token-${new URL(origin).port}=${token}`;
  const address = `${origin.replace('http', 'ws')}/session`;
  const refused = async (headers: { readonly [name: string]: string }, from?: string): Promise<void> => {
    const socket = new WebSocket(address, { headers, ...(from === undefined ? {} : { origin: from }) });
    const [error] = await waitFor<[Error]>(socket, 'error');
    assert.match(error.message, /403/);
  };
  await refused({});
  await refused({ cookie });
  await refused({ cookie }, 'http://evil.example');
  await refused({ cookie: 'token=1' }, origin);
  assert.deepEqual(containers(directory), []);

  const socket = new WebSocket(address, { headers: { cookie }, origin });
  let seen = '';
  socket.on('message', data => {
    seen += String(data);
  });
  await waitFor(socket, 'open');
  socket.send(Buffer.from('echo pid $((1 + 1))\n'));
  await eventually('an answer', () => /pid 2/.test(seen));
  const [id = ''] = containers(directory);
  const { init_process_pid: pid } = JSON.parse(
    readFileSync(join(directory, 'state', id, 'state.json'), 'utf8'),
  );
  const closed = waitFor(socket, 'close');
  running.child.kill('SIGKILL');
  await closed;
  await eventually(
    'its container is killed and removed',
    () => !existsSync(`/proc/${pid}`) && containers(directory).length === 0,
  );
});
