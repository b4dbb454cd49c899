/** One front and its one command. */
import type { binding } from '../../index.ts';
import { type Caller, NotServed } from '../caller.ts';
import { errorText } from '../error-text.ts';
import { main } from '../main.ts';
import { writeAll } from '../output.ts';
import { Channel } from './channel.ts';
import { isLikeUs } from './likeness.ts';
import {
  accepted,
  declined,
  endFrame,
  go,
  parseRequest,
  type Request,
  textFrames,
  working,
} from './protocol.ts';

type Native = ReturnType<typeof binding>;

export interface Peer {
  readonly fd: number;
  readonly pid: number;
  /** -1: this kernel cannot tell. */
  readonly pidfd: number;
  readonly uid: number;
}

const epollIn = 1;
const descriptors = 4;

class ServedCaller implements Caller {
  readonly cwd: string;
  readonly env: { readonly [name: string]: string };
  readonly stdio: readonly [number, number, number];
  readonly front: number;
  readonly signal: AbortSignal;
  kept = 0;
  readonly #channel: Channel;
  readonly #answer: Promise<void>;
  #committed = false;
  /** Until nothing can send the command elsewhere any more. */
  #held: (() => void)[] | undefined = [];

  constructor(
    { cwd, env }: Request,
    fds: readonly number[],
    channel: Channel,
    answer: Promise<void>,
    signal: AbortSignal,
  ) {
    const [input = -1, output = -1, error = -1, front = -1] = fds;
    this.cwd = cwd;
    this.env = env;
    this.stdio = [input, output, error];
    this.front = front;
    this.#channel = channel;
    this.#answer = answer;
    this.signal = signal;
  }

  print(text: string): void {
    this.#do(() => this.#text('O', text));
  }
  printError(text: string): void {
    this.#do(() => this.#text('E', text));
  }
  writeLog(fd: number, text: string): void {
    this.#do(() => writeAll(fd, text));
  }
  decline(): void {
    if (this.#committed) throw new Error('a command was declined behind its first effect');
    throw new NotServed();
  }
  async commit(): Promise<void> {
    if (this.#committed) return;
    this.#channel.send(accepted);
    await this.#answer;
    this.#committed = true;
    this.flush();
  }
  leave(pid: number | undefined): void {
    this.kept = pid ?? 0;
  }
  flush(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const act of held) act();
  }

  #do(act: () => void): void {
    if (this.#held === undefined) act();
    else this.#held.push(act);
  }
  #text(letter: 'O' | 'E', text: string): void {
    for (const frame of textFrames(letter, text)) this.#channel.send(frame);
  }
}

export class Conversation {
  readonly #native: Native;
  readonly #peer: Peer;
  readonly #channel: Channel;
  readonly #watch: { close(): void };
  readonly #gone = new AbortController();
  readonly #over: () => void;
  readonly #report: (line: string) => void;
  #fds: readonly number[] = [];
  #asked = false;
  #go: () => void = () => undefined;
  #leave: (reason: Error) => void = () => undefined;

  /**
   * @param report Hears what became of the command.
   * @param over Called once, when nothing is left of it.
   */
  constructor(native: Native, peer: Peer, report: (line: string) => void, over: () => void) {
    this.#native = native;
    this.#report = report;
    this.#peer = peer;
    this.#over = over;
    this.#channel = new Channel(native, peer.fd);
    this.#watch = native.watch(peer.fd, epollIn, () => this.#receive());
  }

  #receive(): void {
    for (;;) {
      let message: ReturnType<Native['packetReceive']>;
      try {
        message = this.#native.packetReceive(this.#peer.fd);
      } catch {
        // Too large, or with descriptors that this process has no room for: the front goes on by itself.
        message = 'ended';
      }
      if (message === 'none') return;
      if (message === 'ended') {
        this.#watch.close();
        this.#channel.close();
        this.#leave(new NotServed());
        this.#gone.abort(new NotServed());
        if (!this.#asked) this.#close();
        return;
      }
      if (this.#asked) {
        for (const fd of message.fds) this.#native.close(fd);
        if (message.data.toString() === go) this.#go();
        continue;
      }
      this.#asked = true;
      this.#fds = message.fds;
      this.#serve(message.data).then(
        () => this.#close(),
        () => this.#close(),
      );
    }
  }

  async #serve(data: Buffer): Promise<void> {
    // A front waits 50 ms for a first word.
    this.#channel.send(working);
    const request = parseRequest(data);
    const known =
      request !== undefined &&
      this.#fds.length === descriptors &&
      this.#peer.uid === process.geteuid?.() &&
      isLikeUs(this.#peer.pid, request.env) &&
      this.#isStillItself();
    if (!known) {
      this.#decline(`uid ${this.#peer.uid}, pid ${this.#peer.pid}`);
      return;
    }
    const what = request.words.join(' ');
    const answer = new Promise<void>((resolve, reject) => {
      this.#go = resolve;
      this.#leave = reject;
    });
    // Nobody waits for it when nothing is to be changed.
    answer.catch(() => undefined);
    const caller = new ServedCaller(request, this.#fds, this.#channel, answer, this.#gone.signal);
    try {
      const code = await main(request.words, caller);
      caller.flush();
      this.#channel.send(endFrame(code, code === 0 ? caller.kept : 0));
      this.#report(`answered: ${what}`);
    } catch (error) {
      if (error instanceof NotServed) this.#decline(what);
      else {
        caller.flush();
        caller.printError(`nrunc: ${errorText(error)}\n`);
        this.#channel.send(endFrame(1, 0));
      }
    }
    await this.#channel.drained();
  }

  /** Behind the look at /proc/PID: what was seen there was not of a later process with this number. */
  #isStillItself(): boolean {
    const { pidfd } = this.#peer;
    return pidfd < 0 || this.#native.pidfdSendSignal(pidfd, 0);
  }

  #decline(what: string): void {
    this.#channel.send(declined);
    this.#report(`declined: ${what}`);
  }

  #close(): void {
    this.#watch.close();
    this.#channel.close();
    const { fd: socket, pidfd } = this.#peer;
    for (const fd of [...this.#fds, socket, ...(pidfd < 0 ? [] : [pidfd])]) this.#native.close(fd);
    this.#over();
  }
}
