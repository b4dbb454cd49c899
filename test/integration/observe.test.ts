/** What the library tells of its operations: tracing channels, steps, NODE_DEBUG, a logger. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { LinuxFactory, type OperationMessage, Process, type StepMessage } from '../../lib/index.ts';
import { containerId } from '../harness/bundle.ts';
import { test } from '../harness/test.ts';
import { nruncPath } from './cli-fixture.ts';
import { fixture } from './fixture.ts';

test('tracing channels per operation and step, and a logger', { requires: ['rootless'] }, async t => {
  const { config, root } = await fixture(t);
  const seen: string[] = [];
  const lines: string[] = [];
  const names = ['create', 'run', 'destroy'] as const;
  for (const name of names) {
    const tell = (what: string) => (message: unknown) => {
      const { operation, error } = message as OperationMessage;
      seen.push(`${operation} ${what}${error instanceof Error && 'code' in error ? ` ${error.code}` : ''}`);
    };
    const listeners = { start: tell('start'), asyncEnd: tell('end'), error: tell('error') };
    const channel = tracingChannel(`libcontainer.${name}`);
    channel.subscribe(listeners as Parameters<typeof channel.subscribe>[0]);
    t.after(() => channel.unsubscribe(listeners as Parameters<typeof channel.subscribe>[0]));
  }
  const steps: StepMessage[] = [];
  const onStep = (message: unknown): void => void steps.push(message as StepMessage);
  subscribe('libcontainer.step', onStep);
  t.after(() => unsubscribe('libcontainer.step', onStep));
  const log = (fields: object, message: string): void => {
    lines.push(`${message} ${Object.keys(fields).join(' ')}`);
  };
  const factory = new LinuxFactory({ root, logger: { debug: log, warn: log } });
  const id = containerId('observed');
  const container = await factory.create(id, config);
  await assert.rejects(container.run(new Process({ ...config.process, args: ['/none'] })));
  const process = new Process({ ...config.process, args: ['/bin/true'] });
  await container.run(process);
  await process.wait();
  await container.destroy();
  assert.deepEqual(seen, [
    'create start',
    'create end',
    'run start',
    'run error ERR_EXEC_NO_FILE',
    'run end ERR_EXEC_NO_FILE',
    'run start',
    'run end',
    'destroy start',
    'destroy end',
  ]);
  assert.ok(steps.every(step => step.containerId === id && step.process === 'init'));
  assert.equal(steps[0]?.index, 0);
  const kinds = steps.map(({ step }) => step);
  assert.ok(kinds.includes('pivotRoot') && kinds.includes('ready'), kinds.join(' '));
  assert.equal(lines.length, 4);
  assert.match(lines[0] ?? '', /^create observed\S+ operation containerId durationMs$/);
  assert.match(lines[1] ?? '', /^run observed\S+ failed operation containerId err$/);
});

test('NODE_DEBUG=libcontainer', { requires: ['root', 'lane:host'] }, () => {
  const out = execFileSync('sh', ['-c', `${process.execPath} ${nruncPath} sandbox true 2>&1`], {
    encoding: 'utf8',
    env: { ...process.env, NODE_DEBUG: 'libcontainer' },
  });
  assert.match(out, /LIBCONTAINER \d+: run sandbox-\w+: [\d.]+ ms/);
});
