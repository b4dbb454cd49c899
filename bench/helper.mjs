// A floor program as a co-process: a line in, a line out. It times itself, so that the pipe is not in the figure.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { floorInit, floorProgram, rootfs } from './workspace.mjs';

export class Helper {
  #process;
  #lines;
  #mode;

  static async start(mode) {
    const helper = new Helper();
    helper.#mode = mode;
    helper.#process = spawn(floorProgram, [rootfs, floorInit, mode], { stdio: ['pipe', 'pipe', 'inherit'] });
    helper.#process.stdin.on('error', () => undefined);
    helper.#lines = createInterface({ input: helper.#process.stdout })[Symbol.asyncIterator]();
    await helper.#answer();
    return helper;
  }

  async #answer() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the floor program (${this.#mode}) ended; its message is above`);
    return value;
  }

  async ask(line) {
    this.#process.stdin.write(`${line}\n`);
    return (await this.#answer()).split(' ').map(Number);
  }

  async stop() {
    const ended = new Promise(resolve => this.#process.once('exit', resolve));
    this.#process.stdin.end();
    await ended;
  }
}

/** Runs a command through the helper and returns its microseconds; only exit status 0 counts. */
export async function command(helper, words) {
  const [microseconds, status] = await helper.ask(words.join('\t'));
  if (status !== 0) throw new Error(`${words.join(' ')}: exit status ${status}`);
  return microseconds;
}
