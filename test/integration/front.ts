/** The front and a server of its own. What the front leaves to Node is written down. */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import type { TestContext } from '../harness/test.ts';
import { nruncPath, start } from './cli-fixture.ts';

export interface Front {
  /** Of the front itself, in the place of nrunc. */
  readonly path: string;
  /** Where its server listens, and patience for a busy machine. */
  readonly env: { readonly NRUNC_SOCKET: string; readonly NRUNC_PATIENCE_MS: string };
  readonly socket: string;
  readonly directory: string;
  /** Words of the commands that were done by Node, one text each. */
  fallbacks(): readonly string[];
  /** Words of the commands that the server has done. */
  answered(): readonly string[];
}

/** A front without a server. */
export function makeFront(t: TestContext): Front {
  const directory = makeDirectory(t);
  const path = join(directory, 'nrunc');
  const record = join(directory, 'fallbacks');
  const socket = join(directory, 'socket');
  copyFileSync(join(projectRoot, 'build/front/nrunc-front'), path);
  chmodSync(path, 0o755);
  const script = `#!/bin/sh\necho "$*" >> '${record}'\nexec '${process.execPath}' '${nruncPath}' "$@"\n`;
  writeFileSync(`${path}-node`, script);
  chmodSync(`${path}-node`, 0o755);
  appendFileSync(record, '');
  const lines = (file: string): readonly string[] =>
    existsSync(file)
      ? readFileSync(file, 'utf8')
          .split('\n')
          .filter(line => line !== '')
      : [];
  return {
    path,
    socket,
    directory,
    env: { NRUNC_SOCKET: socket, NRUNC_PATIENCE_MS: '20000' },
    fallbacks: () => lines(record),
    answered: () =>
      lines(join(directory, 'server.log')).flatMap(line => /msg="answered: (.*)"$/.exec(line)?.[1] ?? []),
  };
}

export interface Server {
  readonly process: ChildProcess;
  readonly pid: number;
}

export async function startServer(t: TestContext, front: Front): Promise<Server> {
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, NOTIFY_SOCKET: ___, ...env } = process.env;
  const log = join(front.directory, 'server.log');
  const words = [nruncPath, '--debug', '--log', log, 'serve', '--socket', front.socket];
  const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    await waitFor(child, 'exit');
  });
  await eventually('the server answers', async () => {
    const before = front.fallbacks().length;
    await start(front.path, ['--version'], { env: front.env }).ended();
    return front.fallbacks().length === before;
  });
  writeFileSync(join(front.directory, 'fallbacks'), '');
  return { process: child, pid: child.pid ?? 0 };
}

export async function servedFront(t: TestContext): Promise<Front> {
  const front = makeFront(t);
  await startServer(t, front);
  return front;
}
