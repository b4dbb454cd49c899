/**
 * libcontainer/testing: a sandbox for the tests of one file, in node:test, vitest and Jest. Files and workers may run at the
 * same time: each has a sandbox of its own. A runner that is killed leaves nothing, since a sandbox dies with its process.
 */
import { createRequire } from 'node:module';
import { LibcontainerError } from '../errors.ts';
import { Sandbox, type SandboxOptions } from '../sandbox/sandbox.ts';

/** `beforeAll` and its kin. */
export type Hook = (work: () => Promise<void>) => unknown;

/** Of the runner. */
export interface TestHooks {
  readonly before: Hook;
  readonly after: Hook;
}

export interface UseSandboxOptions extends SandboxOptions {
  /** `'file'` (default): one sandbox for all tests of the file, or of the suite in which it is called; `'test'`: one for each test. */
  readonly scope?: 'file' | 'test';
  /** Default: found out. Needed for vitest without `globals: true`: `{ before: beforeAll, after: afterAll }`. */
  readonly hooks?: TestHooks;
}

/**
 * Registers hooks that make a sandbox before the tests and remove it behind them.
 * @returns What gives the sandbox, inside of a test.
 * @throws {LibcontainerError} ERR_TEST_RUNNER: the runner's hooks are not found
 * @example
 * const box = useSandbox();
 * test('two', async () => {
 *   const { stdout } = await box().run(['expr', '1', '+', '1']);
 *   assert.equal(stdout, '2\n');
 * });
 */
export function useSandbox(options: UseSandboxOptions = {}): () => Sandbox {
  const { scope = 'file', hooks, ...sandbox } = options;
  const { before, after } = hooks ?? runnerHooks(scope);
  let current: Sandbox | undefined;
  before(async () => {
    current = await Sandbox.create(sandbox);
  });
  after(async () => {
    await current?.destroy();
    current = undefined;
  });
  return () => {
    if (current !== undefined) return current;
    throw new LibcontainerError('ERR_TEST_RUNNER', { detail: 'the sandbox is there only while tests run' });
  };
}

/** Jest has globals, vitest only when told to; everything else is node:test. */
function runnerHooks(scope: 'file' | 'test'): TestHooks {
  const names =
    scope === 'file' ? (['beforeAll', 'afterAll'] as const) : (['beforeEach', 'afterEach'] as const);
  const globals = globalThis as { readonly [name: string]: unknown };
  const [before, after] = names.map(name => globals[name]);
  if (typeof before === 'function' && typeof after === 'function')
    return { before: work => before(work), after: work => after(work) };
  if (process.env.VITEST !== undefined)
    throw new LibcontainerError('ERR_TEST_RUNNER', {
      detail: `vitest without globals: give hooks: { before: ${names[0]}, after: ${names[1]} }`,
    });
  const runner = createRequire(`${process.cwd()}/`)('node:test') as typeof import('node:test');
  return scope === 'file'
    ? { before: work => runner.before(work), after: work => runner.after(work) }
    : { before: work => runner.beforeEach(work), after: work => runner.afterEach(work) };
}
