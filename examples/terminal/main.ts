/** node scripts/example.mjs terminal [--rootfs DIR] [--directory DIR] [--port N]: shells in containers, in the browser. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { WebSocketServer } from 'ws';
import { busyboxRootfs, LinuxFactory } from '../../lib/index.ts';
import { containerConfig } from '../container-config.ts';
import { LocalServer, sendPage } from '../local-server.ts';
import { openSession, readSize } from './session.ts';

const { values } = parseArgs({
  options: {
    rootfs: { type: 'string' },
    directory: { type: 'string', default: '/var/lib/terminal-example' },
    port: { type: 'string', default: '7071' },
  },
});
const directory = resolve(values.directory);
await mkdir(directory, { recursive: true, mode: 0o700 });
const busybox = join(directory, 'rootfs');
const rootfs = values.rootfs ?? (existsSync(busybox) ? busybox : await busyboxRootfs(busybox));

const factory = new LinuxFactory({ root: join(directory, 'state') });
// What a killed daemon left half-made; its sessions have ended with it.
await factory.reconcile();
const config = await containerConfig({
  rootfs: resolve(rootfs),
  args: ['/bin/sh', '-l'],
  cwd: '/root',
  hostname: 'sandbox',
  env: { PS1: '\\[\\e[32m\\]\\u@\\h\\[\\e[0m\\]:\\[\\e[34m\\]\\w\\[\\e[0m\\]\\$ ' },
  terminal: true,
  memoryBytes: 128 << 20,
  pids: 64,
  cpus: 1,
});

const require = createRequire(import.meta.url);
const page = readFileSync(new URL('terminal.html', import.meta.url), 'utf8');
const asset = (file: string, type: string) => (_: IncomingMessage, response: ServerResponse) => {
  response.writeHead(200, { 'Content-Type': type }).end(readFileSync(require.resolve(file)));
};

const sessions = new Set<Promise<void>>();
let count = 0;
const sockets = new WebSocketServer({ noServer: true, maxPayload: 64 << 10 });
const server = new LocalServer({
  routes: {
    'GET /': (_, response) => sendPage(response, page),
    'GET /xterm.js': asset('@xterm/xterm', 'text/javascript'),
    'GET /xterm.css': asset('@xterm/xterm/css/xterm.css', 'text/css'),
    'GET /fit.js': asset('@xterm/addon-fit', 'text/javascript'),
  },
  upgrade: (request, socket, head) => {
    const { searchParams } = new URL(request.url ?? '/', 'http://127.0.0.1');
    const size = readSize(searchParams.get('size') ?? '') ?? { columns: 80, rows: 24 };
    sockets.handleUpgrade(request, socket, head, connected => {
      count += 1;
      const session = openSession(factory, config, `session-${process.pid}-${count}`, connected, size);
      sessions.add(session);
      session.catch(error => console.error(error)).finally(() => sessions.delete(session));
    });
  },
});
console.log(await server.listen(Number(values.port)));

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, async () => {
    for (const client of sockets.clients) client.close(1001, 'the server ends');
    await Promise.allSettled(sessions);
    await server.close();
    process.exit(0);
  });
