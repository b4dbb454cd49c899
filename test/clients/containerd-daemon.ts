/** containerd of Debian as a daemon of our own, with its state on tmpfs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, waitFor } from '../harness/deadline.ts';
import type { Requirement } from '../harness/requirements.ts';
import type { Result } from '../integration/cli-fixture.ts';
import { atEnd, type Engine, engineDirectory, installNrunc, inTerminal, run, runcPath } from './engine.ts';

export const requires: readonly Requirement[] = ['root', 'containerd', 'runc', 'overlay'];

export class Containerd {
  readonly directory = engineDirectory('containerd');
  readonly nrunc = installNrunc(this.directory);
  readonly socket = join(this.directory, 'containerd.sock');
  #daemon: ChildProcess | undefined;

  /** @param cri The part of config.toml for the CRI plugin; without one the plugin is off. */
  constructor(cri?: (directory: string, binaries: { readonly [handler: string]: string }) => string) {
    writeFileSync(
      join(this.directory, 'config.toml'),
      `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
${cri === undefined ? 'disabled_plugins = ["io.containerd.grpc.v1.cri"]' : ''}
[grpc]
  address = "${this.socket}"
[ttrpc]
  address = "${this.socket}.ttrpc"
${cri?.(this.directory, { runc: this.pathOf('runc'), nrunc: this.nrunc }) ?? ''}
`,
    );
    atEnd(() => this.stop());
  }

  ctrIn(namespace: string): Engine {
    return (words, options) =>
      run('ctr', ['--address', this.socket, '--namespace', namespace, ...words], options);
  }

  readonly ctr: Engine = this.ctrIn('test-engines');

  inTerminal(words: readonly string[]): Promise<Result> {
    return inTerminal('ctr', ['--address', this.socket, '--namespace', 'test-engines', ...words]);
  }

  async start(): Promise<void> {
    const log = openSync(join(this.directory, 'log'), 'a');
    this.#daemon = spawn('containerd', ['--config', join(this.directory, 'config.toml')], {
      stdio: ['ignore', log, log],
    });
    await eventually(
      'containerd answers',
      async () => existsSync(this.socket) && (await this.ctr(['version'])).code === 0,
      30_000,
    );
  }

  async stop(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = waitFor(daemon, 'exit', 30_000);
    daemon.kill('SIGTERM');
    await ended;
  }

  log(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8');
  }

  pathOf(runtime: string): string {
    return runtime === 'runc' ? runcPath() : this.nrunc;
  }
}
