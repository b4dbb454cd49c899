/** Somebody else's namespaces. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { waitFor } from '../harness/deadline.ts';
import type { TestContext } from '../harness/test.ts';

/**
 * A process with namespaces of its own, made with these options of unshare(1); gone at the end of the test.
 * @param first What it does before it stands still.
 */
export async function namespaceHolder(
  t: TestContext,
  options: readonly string[],
  first = ':',
): Promise<number> {
  const script = `${first}; echo ready; exec sleep 1000`;
  const child = spawn('/usr/bin/unshare', [...options, 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(async () => {
    const gone = waitFor(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  });
  await waitFor(child.stdout, 'data');
  child.stdout.destroy();
  return child.pid ?? assert.fail();
}
