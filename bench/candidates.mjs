// Who is measured, and how one round of each looks. Every figure is in microseconds.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { command, Helper } from './helper.mjs';
import { floorInit, floorProgram, makeBundle, rootfs } from './workspace.mjs';

const since = start => (performance.now() - start) * 1000;
let sequence = 0;
const newId = () => `bench-${process.pid}-${sequence++}`;
const installed = name => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;

/** The library, in this process. Without the monitor (docs/adr/0003) only the run cycle is of interest. */
export async function library(context, { monitor = true } = {}) {
  const { LinuxFactory, loadConfig, Process } = context.library;
  const factory = new LinuxFactory({ root: join(context.workspace, monitor ? 'ours' : 'alone'), monitor });
  const config = await loadConfig(context.shortBundle);
  const idle = await loadConfig(context.longBundle);
  let target;

  const finished = async process => {
    const status = await process.wait();
    if (status.kind !== 'exited' || status.code !== 0) throw new Error(`ours: ${JSON.stringify(status)}`);
  };
  return {
    name: monitor ? 'libcontainer' : 'monitor: false',
    factory,
    config,
    idle,
    async run() {
      const start = performance.now();
      const container = await factory.create(newId(), config);
      const process = new Process({ ...config.process });
      await container.run(process);
      await finished(process);
      await container.destroy();
      return { run: since(start) };
    },
    async steps() {
      const begin = performance.now();
      const container = await factory.create(newId(), config);
      const process = new Process({ ...config.process });
      await container.start(process);
      const create = since(begin);
      const second = performance.now();
      await container.exec();
      const start = since(second);
      await finished(process);
      const third = performance.now();
      await container.destroy();
      return { create, start, destroy: since(third) };
    },
    async prepareExec() {
      target = await factory.create(newId(), idle);
      await target.run(new Process({ ...idle.process }));
    },
    target: () => target,
    async exec() {
      const start = performance.now();
      const process = new Process({ ...config.process });
      await target.start(process);
      await finished(process);
      return { exec: since(start) };
    },
    async throughput(concurrency, seconds) {
      const start = performance.now();
      const end = start + seconds * 1000;
      let count = 0;
      const loop = async () => {
        while (performance.now() < end) {
          await this.run();
          count++;
        }
      };
      await Promise.all(Array.from({ length: concurrency }, loop));
      return count / ((performance.now() - start) / 1000);
    },
    async close() {
      await target?.destroy({ force: true });
    },
  };
}

/** The C floor. */
export async function floor() {
  const cycles = await Helper.start('serve');
  let execs;
  return {
    name: 'floor',
    run: async () => ({ run: (await cycles.ask(''))[0] }),
    async prepareExec() {
      execs = await Helper.start('serve-exec');
    },
    exec: async () => ({ exec: (await execs.ask(''))[0] }),
    throughput: async (concurrency, seconds) => floorThroughput('throughput', concurrency, seconds, []),
    async close() {
      await cycles.stop();
      await execs?.stop();
    },
  };
}

/**
 * The floor of an exec with the library's defence: a program that is born in a container from a stage that the container
 * cannot see (docs/adr/0008).
 */
export function hiddenFloor() {
  let execs;
  return {
    name: 'floor, two stages',
    async prepareExec() {
      execs = await Helper.start('serve-hidden-exec');
    },
    exec: async () => ({ exec: (await execs.ask(''))[0] }),
    close: async () => execs?.stop(),
  };
}

function floorThroughput(mode, concurrency, seconds, words) {
  const output = execFileSync(floorProgram, [
    rootfs,
    floorInit,
    mode,
    String(concurrency),
    String(seconds),
    ...words,
  ]);
  return Number(output.toString().trim());
}

/** runc or crun, by command line: there is no other way in. */
async function runtime(name, context) {
  const commands = await Helper.start('commands');
  const state = join(context.workspace, name);
  const runtimeWords = [name, '--root', state];
  const target = newId();
  let prepared = false;
  return {
    name,
    async run() {
      const words = [...runtimeWords, 'run', '--bundle', context.shortBundle, newId()];
      return { run: await command(commands, words) };
    },
    async steps() {
      const id = newId();
      const pidFile = join(context.workspace, `${id}.pid`);
      const create = await command(commands, [
        ...runtimeWords,
        'create',
        '--bundle',
        context.shortBundle,
        '--pid-file',
        pidFile,
        id,
      ]);
      const pid = readFileSync(pidFile, 'utf8');
      const start = await command(commands, [...runtimeWords, 'start', id]);
      await ended(pid);
      const destroy = await command(commands, [...runtimeWords, 'delete', id]);
      return { create, start, destroy };
    },
    async prepareExec() {
      prepared = true;
      await command(commands, [...runtimeWords, 'run', '--detach', '--bundle', context.longBundle, target]);
    },
    async exec() {
      return { exec: await command(commands, [...runtimeWords, 'exec', target, '/bin/true']) };
    },
    throughput: async (concurrency, seconds) =>
      floorThroughput('command-throughput', concurrency, seconds, [
        ...runtimeWords,
        'run',
        '--bundle',
        context.shortBundle,
        '@ID@',
      ]),
    async close() {
      if (prepared) await command(commands, [...runtimeWords, 'delete', '--force', target]);
      await commands.stop();
    },
  };
}

/** Gone or a zombie: the co-process is no subreaper, so somebody else reaps it. */
async function ended(pid) {
  for (let tries = 0; tries < 10_000; tries++) {
    const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
    if (stat === '' || /\) [ZX] /.test(stat)) return;
    await delay(1);
  }
  throw new Error(`process ${pid} did not end`);
}

/** Namespaces and file systems only: no cgroups, no limits, no masked paths, no state. A lower bound of another kind. */
async function bubblewrap() {
  const commands = await Helper.start('commands');
  const words = ['bwrap', '--unshare-all', '--ro-bind', rootfs, '/'];
  for (const [kind, at] of [
    ['--proc', '/proc'],
    ['--dev', '/dev'],
  ])
    words.push(kind, at);
  words.push('--cap-drop', 'ALL', '/bin/true');
  return {
    name: 'bwrap',
    run: async () => ({ run: await command(commands, words) }),
    throughput: async (concurrency, seconds) =>
      floorThroughput('command-throughput', concurrency, seconds, words),
    close: () => commands.stop(),
  };
}

/** Each peer is tried once; one that does not exit with 0 here is left out, with the reason. */
export async function peers(context, report) {
  const found = [];
  for (const [name, make] of [
    ['crun', () => runtime('crun', context)],
    ['runc', () => runtime('runc', context)],
    ['bwrap', bubblewrap],
  ]) {
    if (!installed(name)) {
      report(`${name}: not installed`);
      continue;
    }
    const candidate = await make();
    try {
      await candidate.run();
      found.push(candidate);
    } catch (error) {
      report(`${name}: left out: ${error.message}`);
      await candidate.close();
    }
  }
  return found;
}

export function makeBundles(context) {
  return {
    shortBundle: makeBundle(context, 'short', ['/bin/true']),
    longBundle: makeBundle(context, 'long', ['/bin/sleep', '100000']),
  };
}
