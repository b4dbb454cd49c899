/** examples/telemetry.ts: what a tracer of OpenTelemetry would get. */
import assert from 'node:assert/strict';
import { type Span, traceOperations } from '../../examples/telemetry.ts';
import { within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

test('operations are spans, steps are their events, errors have their code', {
  requires: ['root', 'lane:host'],
}, async t => {
  const told: string[] = [];
  const startSpan = (
    name: string,
    { attributes }: { readonly attributes: { readonly [name: string]: string } },
  ): Span => {
    told.push(`${name} begins ${attributes['container.id']}`);
    return {
      addEvent: (event, { 'libcontainer.step.duration_ns': duration }) => {
        if (event === 'pivotRoot') told.push(`${name} ${event} ${Number(duration) > 0}`);
      },
      recordException: error => told.push(`${name} ${error.constructor.name}`),
      setAttribute: (attribute, value) => told.push(`${name} ${attribute} ${value}`),
      setStatus: ({ code }) => told.push(`${name} status ${code}`),
      end: () => told.push(`${name} ends`),
    };
  };
  const { create, process } = await fixture(t);
  const stop = traceOperations({ startSpan });
  t.after(stop);
  const container = await create();
  await assert.rejects(container.run(process({ args: ['/none'] })));
  const running = process();
  await within(container.run(running), 'the start');
  await running.wait();
  await container.destroy();
  stop();
  await (await create()).destroy();
  const run = 'libcontainer run';
  assert.deepEqual(told, [
    `libcontainer create begins ${container.id}`,
    'libcontainer create ends',
    `${run} begins ${container.id}`,
    `${run} InitError`,
    `${run} error.type ERR_EXEC_NO_FILE`,
    `${run} status 2`,
    `${run} ends`,
    `${run} begins ${container.id}`,
    `${run} pivotRoot true`,
    `${run} ends`,
    `libcontainer destroy begins ${container.id}`,
    'libcontainer destroy ends',
  ]);
});
