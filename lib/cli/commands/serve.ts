/** `nrunc serve`: answers fronts until a signal ends it. Which commands: `served` in ../table.ts. docs/adr/0026. */
import { lstatSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { binding, LinuxFactory, resourcesFromJson } from '../../index.ts';
import type { Caller } from '../caller.ts';
import { errorCode } from '../error-text.ts';
import type { Invocation } from '../invocation.ts';
import { Conversation, type Peer } from '../serve/conversation.ts';
import { type CommandSpec, commands } from '../table.ts';

type Native = ReturnType<typeof binding>;
const epollIn = 1;

export async function run({ options, caller, log }: Invocation): Promise<number> {
  const native = binding();
  const given = options.text('socket') ?? '';
  const path = given === '' ? join(new LinuxFactory().root, '@serve') : resolve(caller.cwd, given);
  prepareDirectory(dirname(path));
  // Held as long as this process lives: a socket that is there without it is a dead server's.
  const lock = await lockOf(native, path);
  rmSync(path, { force: true });
  const socket = native.packetListen(path);
  const identity = statSync(path, { bigint: true });
  await warmUp();
  let running = 0;
  let idle = (): void => undefined;
  const accept = (peer: Peer): void => {
    running += 1;
    const over = (): void => {
      running -= 1;
      if (running === 0) idle();
    };
    new Conversation(native, peer, line => log.debug(line), over);
  };
  const next = (): Peer | null => {
    try {
      return native.packetAccept(socket);
    } catch (error) {
      // No descriptor is free: the fronts in the queue wait 50 ms and go on by themselves.
      log.warning(`accept: ${String(error)}`);
      return null;
    }
  };
  const watch = native.watch(socket, epollIn, () => {
    for (let peer = next(); peer !== null; peer = next()) accept(peer);
  });
  tellReady(native, caller);
  await ended();
  watch.close();
  native.close(socket);
  // Not that of a server which has come after somebody removed ours.
  if (statSync(path, { bigint: true, throwIfNoEntry: false })?.ino === identity.ino) rmSync(path);
  // What has begun is finished.
  if (running > 0)
    await new Promise<void>(resolve => {
      idle = resolve;
    });
  rmSync(`${path}.lock`, { force: true });
  native.close(lock);
  return 0;
}

/** Whoever can write there can put a socket of his own in the place of ours, and read what fronts say to it. */
function prepareDirectory(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const stat = lstatSync(directory);
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || (stat.mode & 0o022) !== 0)
    throw new Error(`${directory} must be a directory that only its owner, this user, can write to`);
}

async function lockOf(native: Native, path: string): Promise<number> {
  try {
    return await native.lock(`${path}.lock`, 0);
  } catch (error) {
    if (errorCode(error) === 'EAGAIN') throw new Error(`another server listens on ${path}`);
    throw error;
  }
}

/** Reading and compiling is what a server saves. */
async function warmUp(): Promise<void> {
  const all: readonly CommandSpec[] = Object.values(commands);
  await Promise.all(all.filter(({ served }) => served === true).map(({ load }) => load()));
  await resourcesFromJson('{}', 'warm-up');
}

/** sd_notify(3): a service of Type=notify. */
function tellReady(native: Native, { env }: Caller): void {
  const { NOTIFY_SOCKET: socket = '' } = env;
  if (socket !== '') native.datagramSend(socket, 'READY=1');
}

/** The first of these signals is a wish to stop, the second the default action. */
const ended = (): Promise<void> =>
  new Promise(resolve => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve());
  });
