/** Server-sent events as they come, for tests: what came already counts too. */
import { eventually } from '../harness/deadline.ts';
import type { TestContext } from '../harness/test.ts';
import type { RunningExample } from './example-process.ts';

export interface Message {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface Received {
  readonly messages: readonly Message[];
  /** The first message, at or behind the given index, that passes. */
  until<T>(what: string, choose: (message: Message) => T | undefined | false, from?: number): Promise<T>;
}

export async function receive(t: TestContext, { origin, token }: RunningExample): Promise<Received> {
  const stop = new AbortController();
  t.after(() => stop.abort());
  const response = await fetch(`${origin}/events`, {
    headers: { authorization: `Bearer ${token}` },
    signal: stop.signal,
  });
  const messages: Message[] = [];
  const read = async (): Promise<void> => {
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
      rest = parts.pop() ?? '';
      for (const part of parts) messages.push(JSON.parse(part.replace(/^data: /, '')));
    }
  };
  // The daemon is killed, or the test is over.
  read().catch(() => undefined);
  return {
    messages,
    until: (what, choose, from = 0) =>
      eventually(what, () => {
        for (const message of messages.slice(from)) {
          const chosen = choose(message);
          if (chosen !== undefined && chosen !== false) return chosen;
        }
        return undefined;
      }),
  };
}
