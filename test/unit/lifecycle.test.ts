import assert from 'node:assert/strict';
import { allowed, assertAllowed, type Operation, type Status } from '../../lib/lifecycle.ts';
import { test } from '../harness/test.ts';

const statuses: readonly Status[] = ['creating', 'created', 'running', 'paused', 'stopped'];

test('every refusal has a code of its own and carries id and status', () => {
  for (const operation of Object.keys(allowed) as Operation[])
    for (const status of statuses) {
      const listed = (allowed[operation] as readonly Status[]).includes(status);
      if (listed) assertAllowed(operation, 'c1', status);
      else
        assert.throws(
          () => assertAllowed(operation, 'c1', status),
          (error: Error & { code?: string; status?: string; containerId?: string }) => {
            assert.match(error.code ?? '', /^ERR_CONTAINER_/);
            assert.equal(error.status, status);
            assert.equal(error.containerId, 'c1');
            return true;
          },
          `${operation} ${status}`,
        );
    }
});

test('the sentences that callers of runc look for', () => {
  const message = (operation: Operation, status: Status): string => {
    try {
      assertAllowed(operation, 'c', status);
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
    return 'allowed';
  };
  assert.equal(message('join', 'stopped'), 'cannot exec in a stopped container');
  assert.match(message('join', 'paused'), /^cannot exec in a paused container/);
  assert.equal(message('exec', 'stopped'), 'cannot start a container that has stopped');
  assert.equal(message('exec', 'running'), 'cannot start an already running container');
  assert.equal(message('pause', 'stopped'), 'container not running');
  assert.equal(message('resume', 'running'), 'container not paused');
  assert.equal(message('destroy', 'running'), 'container still running');
  assert.equal(message('set', 'stopped'), 'container not running');
});
