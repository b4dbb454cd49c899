/**
 * `test(name, { requires }, fn)`: node:test with our vocabulary of requirements, deadlines that grow on slow machines,
 * and, for integration tests, a check that nothing is left behind.
 */
import { spawn } from 'node:child_process';
import { test as nodeTest, type TestContext } from 'node:test';
import { leaksSince, snapshot } from '../../scripts/leaks.mjs';
import { slowness, waitFor } from './deadline.ts';
import { missing, type Requirement } from './requirements.ts';

export interface TestOptions {
  readonly requires?: readonly Requirement[];
  /** Default 30 s, times the slowness of the machine. */
  readonly timeoutMs?: number;
  /** A test that itself leaks on purpose says false and why in a comment. Default: true for test/integration. */
  readonly leaks?: boolean;
  /**
   * Properties of runtime-spec 1.3 that the test proves by looking at the container: their paths in config.json
   * (`linux.resources.pids.limit`, `mounts[].options[rro]`), or `features.` and the path there. `scripts/conformance.mjs`
   * makes docs/spec-conformance.md of them.
   */
  readonly proves?: readonly string[];
  /** Which of the 25 traps of re-implementations it is (test/traps.json), 1 to 25. */
  readonly trap?: number | readonly number[];
}
export type { TestContext } from 'node:test';
export type TestFunction = (t: TestContext) => void | Promise<void>;

const filter = process.env.LIBCONTAINER_TEST_FILTER ?? '';
/** A JSON list of exact names: the second try of failed tests. */
const only: unknown = JSON.parse(process.env.LIBCONTAINER_TEST_ONLY ?? 'null');
const rootless = process.env.LIBCONTAINER_TEST_ROOTLESS === '1';
const integration = (process.argv[1] ?? '').includes('/integration/');

const selected = (name: string) => name.includes(filter) && (!Array.isArray(only) || only.includes(name));

/** The test's own time limit ends it before Node's: a message then says what the test was. */
async function limited(name: string, limitMs: number, work: () => unknown): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`deadline: the test took more than ${limitMs} ms: ${name}`)),
      limitMs,
    );
  });
  try {
    await Promise.race([Promise.resolve().then(work), late]);
  } finally {
    clearTimeout(timer);
  }
}

export function test(name: string, fn: TestFunction): void;
export function test(name: string, options: TestOptions, fn: TestFunction): void;
export function test(name: string, second: TestOptions | TestFunction, third?: TestFunction): void {
  const options = typeof second === 'function' ? {} : second;
  const fn = typeof second === 'function' ? second : third;
  if (fn === undefined) throw new TypeError(`test ${name} has no function`);
  if (!selected(name)) return;
  // As an ordinary user only what says that it can (scripts/test.mjs, "rootless").
  const words = options.requires ?? [];
  if (rootless && !words.includes('rootless') && !words.includes('not-root')) return;
  const reason = options.requires?.map(missing).find(text => text !== undefined);
  if (reason !== undefined) {
    nodeTest(name, { skip: reason }, () => undefined);
    return;
  }
  const limitMs = (options.timeoutMs ?? 30_000) * slowness;
  nodeTest(name, { timeout: limitMs + 60_000 * slowness }, async t => {
    annotate(t, name, options);
    const checked = options.leaks ?? integration;
    const before = checked ? await warmSnapshot() : undefined;
    const cleanups: (() => unknown)[] = [];
    const errors: unknown[] = [];
    const attempt = (work: () => unknown) => limited(name, limitMs, work).catch(error => errors.push(error));
    await attempt(() => fn(withCleanups(t, cleanups)));
    // Last in, first out: what was made on top of something goes before it.
    for (const cleanup of cleanups.reverse()) await attempt(cleanup);
    if (before !== undefined) {
      const leaks = await leaksSince(before);
      if (leaks.length > 0) errors.push(new Error(`left behind:\n  ${leaks.join('\n  ')}`));
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, errors.map(String).join('\n'));
  });
}

/** scripts/test.mjs records it with the result. */
function annotate(t: TestContext, name: string, { proves = [], trap = [] }: TestOptions): void {
  const traps = [trap].flat();
  if (proves.length + traps.length === 0) return;
  t.diagnostic(`annotation ${JSON.stringify({ name, proves, traps })}`);
}

/** `after` goes to our own list, so that the leak check comes after the last of them. */
function withCleanups(t: TestContext, cleanups: (() => unknown)[]): TestContext {
  return new Proxy(t, {
    get(target, key) {
      if (key === 'after') return (cleanup: () => unknown) => void cleanups.push(cleanup);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

let warm = false;
/** Node opens its signal pipe with the first child process and keeps it: that is no leak of ours. */
async function warmSnapshot() {
  if (!warm) await waitFor(spawn('true', { stdio: 'ignore' }), 'exit');
  warm = true;
  return snapshot();
}
