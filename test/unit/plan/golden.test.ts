/** Whole plans against files (UPDATE_GOLDEN=1 rewrites them), and their way through protobuf and back. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { libcontainer } from '../../../lib/generated/init.js';
import { encodePlan } from '../../../lib/plan/encode.ts';
import { explainPlan, printPlan } from '../../../lib/plan/explain.ts';
import type { Step } from '../../../lib/plan/steps.ts';
import { projectRoot } from '../../harness/requirements.ts';
import { test } from '../../harness/test.ts';
import { cases } from './cases.ts';

const golden = join(projectRoot, 'test/unit/plan/golden');

for (const [name, plan] of Object.entries(cases)) {
  test(`plan ${name} is the one in golden/${name}.txt`, () => {
    const file = join(golden, `${name}.txt`);
    const text = printPlan(plan());
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text);
    assert.equal(text, readFileSync(file, 'utf8'));
  });

  test(`plan ${name} survives encoding`, () => {
    const { steps } = plan();
    const decoded = libcontainer.Plan.decode(encodePlan({ steps, cloneFlags: 0 }));
    assert.deepEqual(
      decoded.steps.map(step => plain(step)),
      steps.map(step => plain({ [step.kind]: step })),
    );
  });
}

/** A step without defaults, with 64-bit numbers as decimal strings and bytes as hexadecimal, however they are held. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value === 0n ? undefined : value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(plain);
  if (value === 0 || value === '' || value === false || value === null) return undefined;
  if (typeof value !== 'object' || value === null) return typeof value === 'number' ? String(value) : value;
  if ('low' in value && 'high' in value) {
    const whole = (BigInt(Number(value.high) >>> 0) << 32n) | BigInt(Number(value.low) >>> 0);
    return plain(whole);
  }
  const fields: { [name: string]: unknown } = {};
  // `kind` is the name of the message, not a field; slots keep their 0, which means the first one.
  for (const [name, part] of Object.entries(value)) {
    if (name === 'kind') continue;
    const field = /slot$/i.test(name) ? String(part) : plain(part);
    if (field !== undefined) fields[name] = field;
  }
  return fields;
}

test('slot 0 is on the wire: absence means no slot', () => {
  const steps: Step[] = [{ kind: 'waitStart', fifoSlot: 0 }, { kind: 'waitStart' }];
  const [first, second] = libcontainer.Plan.decode(encodePlan({ steps, cloneFlags: 0 })).steps;
  assert.equal(first?.waitStart?.fifoSlot, 0);
  assert.equal(second?.waitStart?.fifoSlot ?? undefined, undefined);
});

test('RLIM_INFINITY and capability 63 are not rounded', () => {
  const steps: Step[] = [
    { kind: 'rlimit', resource: 7, name: 'RLIMIT_NOFILE', soft: 2n ** 53n + 1n, hard: 2n ** 64n - 1n },
    { kind: 'bounding', mask: 2n ** 63n },
  ];
  const decoded = libcontainer.Plan.decode(encodePlan({ steps, cloneFlags: 0 })).steps;
  assert.deepEqual(plain(decoded[0]), {
    rlimit: { resource: '7', name: 'RLIMIT_NOFILE', soft: '9007199254740993', hard: '18446744073709551615' },
  });
  assert.deepEqual(plain(decoded[1]), { bounding: { mask: '9223372036854775808' } });
});

test('a plan is encoded once, and a fault is in bytes of its own', () => {
  const plan = (cases['create-v1'] ?? assert.fail)();
  const bytes = encodePlan(plan);
  assert.equal(encodePlan(plan), bytes);
  const fault = { step: 'mount', mode: 'exit', occurrence: 3 } as const;
  const faulty = encodePlan(plan, fault);
  assert.notDeepEqual(faulty, bytes);
  assert.deepEqual(plain(libcontainer.Plan.decode(faulty).failAt), { ...fault, occurrence: '3' });
  assert.equal(encodePlan(plan), bytes);
});

test('the explanation is JSON and names flags', () => {
  const explained = explainPlan((cases['create-full'] ?? assert.fail)());
  assert.deepEqual(JSON.parse(JSON.stringify(explained)), explained);
  const data = explained.steps.find(({ arguments: a }) => a.target === '/data');
  assert.equal(data?.arguments.flags, 'MS_RDONLY|MS_BIND|MS_REC');
  assert.deepEqual(data?.arguments.propagation, ['MS_REC|MS_SLAVE', 'MS_SHARED']);
  assert.deepEqual(explained.warnings, ['capability CAP_FUTURE is not known here and was left out']);
  assert.deepEqual(
    explained.steps.map(({ index }) => index),
    explained.steps.map((_, index) => index),
  );
});
