/** An example that runs by the command that the README tells, in a process of its own, until the end of the test. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxFactory } from '../../lib/index.ts';
import { waitFor, within } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import type { TestContext } from '../harness/test.ts';

export interface RunningExample {
  readonly child: ChildProcess;
  /** What it printed first, when that is a URL: without and with its token. */
  readonly origin: string;
  readonly url: string;
  readonly token: string;
  /** SIGTERM; resolves with its exit code. */
  end(): Promise<number | null>;
}

/** @param stateRoot Where its containers are: they are destroyed at the end of the test. */
export async function runExample(
  t: TestContext,
  command: string,
  more: readonly string[],
  stateRoot?: string,
): Promise<RunningExample> {
  const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
  assert.ok(readme.includes(`\`${command}\``), `the README does not tell ${command}`);
  const [program, ...words] = command.split(' ');
  assert.equal(program, 'node');
  t.after(async () => {
    if (stateRoot === undefined || !existsSync(stateRoot)) return;
    const factory = new LinuxFactory({ root: stateRoot });
    for (const { id } of await factory.list()) await factory.destroy(id, { force: true });
  });
  const child = spawn(process.execPath, [...words, ...more], {
    cwd: projectRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise<number | null>(give => child.once('exit', give));
  t.after(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  child.stdout.setEncoding('utf8');
  const started = waitFor<[string]>(child.stdout, 'data', 20_000);
  const first = await Promise.race([started, exited.then(() => undefined)]);
  started.catch(() => undefined);
  assert.ok(first !== undefined, `${command} ended: ${errors}`);
  const url = new URL(first[0].trim());
  return {
    child,
    origin: url.origin,
    url: url.href,
    token: url.searchParams.get('token') ?? '',
    end: () => {
      child.kill('SIGTERM');
      return within(exited, `the end of ${command}`, 20_000);
    },
  };
}
