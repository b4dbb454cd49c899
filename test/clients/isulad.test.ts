/**
 * The calls that iSulad makes of a runtime, word for word (its isulad-shim and isula_rt_ops): the shim creates and is the
 * parent that waits; the daemon calls the rest from the container's working directory. runc is the control.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { testProgram } from '../../scripts/programs.mjs';
import { containerId, makeBundle, makeDirectory } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Result, start } from '../integration/cli-fixture.ts';
import { installNrunc, runcPath } from './engine.ts';

/** isulad-shim, with what it is told on its report pipe. */
class Shim {
  readonly #lines: string[] = [];
  readonly #process: ChildProcess;
  readonly output: string;

  constructor(t: TestContext, directory: string, name: string, pidFile: string, words: readonly string[]) {
    this.output = join(directory, `${name}.out`);
    const out = openSync(this.output, 'a');
    // As iSulad's: no socket of systemd's for the container.
    const { NOTIFY_SOCKET: _, NODE_OPTIONS: __, ...env } = process.env;
    this.#process = spawn(testProgram('shim', projectRoot), [pidFile, ...words], {
      cwd: directory,
      env,
      stdio: ['ignore', out, out, 'pipe'],
    });
    closeSync(out);
    t.after(() => this.#process.kill('SIGKILL'));
    this.#process.stdio[3]?.on('data', (data: Buffer) =>
      this.#lines.push(
        ...data
          .toString()
          .split('\n')
          .filter(line => line !== ''),
      ),
    );
  }

  /** The number after this word. */
  async told(word: string): Promise<number> {
    const line = await eventually(
      `shim: ${word}`,
      () =>
        this.#lines.find(one => one.startsWith(`${word} `)) ?? (this.#process.exitCode !== null && 'gone'),
    );
    if (line === 'gone') throw new Error(`shim: no ${word}: ${this.#lines.join(', ')} ${this.text()}`);
    return Number(line.slice(word.length + 1));
  }

  text(): string {
    return readFileSync(this.output, 'utf8');
  }

  async ended(): Promise<void> {
    if (this.#process.exitCode === null) await waitFor(this.#process, 'exit');
  }
}

interface Isulad {
  readonly id: string;
  readonly directory: string;
  /** `runtime --root R SUBCOMMAND OPTIONS ID [9]`. */
  call(subcommand: string, ...options: string[]): Promise<Result>;
  shim(name: string, ...words: string[]): Shim;
}

function isulad(t: TestContext, runtime: string): Isulad {
  const directory = makeDirectory(t);
  const id = containerId('isulad');
  const root = join(directory, runtime);
  const program = runtime === 'runc' ? runcPath() : installNrunc(makeDirectory(t));
  return {
    id,
    directory,
    call: (subcommand, ...options) =>
      start(program, ['--root', root, subcommand, ...options, id, ...(subcommand === 'kill' ? ['9'] : [])], {
        cwd: directory,
      }).ended(),
    shim: (name, ...words) => {
      const pidFile = join(directory, `${name}.pid`);
      return new Shim(t, directory, name, pidFile, [
        ...[program, '--root', root, '--log', join(directory, `${name}.log`), '--log-format', 'json'],
        ...[...words, '--pid-file', pidFile, id],
      ]);
    },
  };
}

async function good(result: Promise<Result>): Promise<string> {
  const { code, stdout, stderr } = await result;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  return stdout;
}

const bundleOf = (t: TestContext): string =>
  makeBundle(t, { process: { args: ['/bin/sh', '-c', 'echo begun; exec sleep 1000'] } });

/** The whole life; what the daemon reads of each answer. */
async function life(t: TestContext, runtime: string): Promise<readonly string[]> {
  const { id, directory, call, shim } = isulad(t, runtime);
  const seen: string[] = [];
  const create = shim('create', 'create', '--bundle', bundleOf(t));
  const pid = await create.told('pid');
  const state = async (): Promise<{ status: string; pid: number }> => JSON.parse(await good(call('state')));
  assert.deepEqual((await state()).pid, pid);
  seen.push((await state()).status);
  await good(call('start'));
  seen.push((await state()).status);
  await eventually('its output', () => create.text() === 'begun\n');
  const description = join(directory, 'process.json');
  writeFileSync(
    description,
    JSON.stringify({
      terminal: false,
      user: { uid: 1000, gid: 50, additionalGids: [29] },
      args: ['/bin/sh', '-c', 'id; pwd; echo $A; exit 7'],
      env: ['PATH=/bin', 'A=b'],
      cwd: '/tmp',
      noNewPrivileges: true,
    }),
  );
  const exec = shim('exec', 'exec', '-d', '--process', description);
  seen.push(`exec ${await exec.told('exit')} ${exec.text()}`);
  await exec.ended();
  const missing = { terminal: false, user: { uid: 0, gid: 0 }, args: ['/nosuch'], env: [], cwd: '/' };
  writeFileSync(description, JSON.stringify(missing));
  const failed = shim('failed', 'exec', '-d', '--process', description);
  seen.push(`exec ${await failed.told('runtime')}`);
  await failed.ended();
  // The shim shows the last error of the log.
  const [last = ''] = readFileSync(join(directory, 'failed.log'), 'utf8').trim().split('\n').slice(-1);
  const { level, msg } = JSON.parse(last);
  seen.push(`${level} ${msg}`);
  assert.deepEqual(JSON.parse(await good(call('ps', '--format', 'json'))), [pid]);
  await good(call('pause'));
  seen.push((await state()).status);
  await good(call('resume'));
  seen.push((await state()).status);
  const resources = join(directory, 'resources.json');
  writeFileSync(
    resources,
    JSON.stringify({ pids: { limit: 55 }, cpu: { shares: 512, quota: 50_000, period: 100_000 } }),
  );
  await good(call('update', '--resources', resources));
  const { data } = JSON.parse(await good(call('events', '--stats')));
  seen.push(`pids ${data.pids.limit} cpu ${typeof data.cpu.usage.total} ${typeof data.cpu.usage.kernel}`);
  await good(call('kill'));
  seen.push(`ended ${await create.told('exit')}`);
  await create.ended();
  await eventually('stopped', async () => (await state()).status === 'stopped');
  await good(call('delete', '--force'));
  // A second time: "does not exist" means that there is nothing to do.
  for (const word of ['kill', 'delete'] as const) {
    const again = await call(word);
    seen.push(`${word} ${again.code} ${/container does not exist/.test(again.stderr)}`);
  }
  await good(call('delete', '--force'));
  assert.ok(!existsSync(join(directory, runtime, id)), 'no state is left');
  return seen;
}

for (const [cgroups, words] of [
  ['cgroup v1', ['cgroup-v1']],
  ['cgroup v2', ['cgroup-v2']],
] as const)
  test(`the calls of iSulad are answered as by runc, ${cgroups}`, {
    requires: ['root', 'runc', 'probe', ...words],
    timeoutMs: 60_000,
  }, async t => {
    const control = await life(t, 'runc');
    const seen = await life(t, 'nrunc');
    assert.deepEqual(seen, control);
    assert.deepEqual(seen.slice(0, 3), [
      'created',
      'running',
      'exec 7 uid=1000(app) gid=50(staff) groups=29(audio)\n/tmp\nb\n',
    ]);
  });
