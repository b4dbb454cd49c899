/** Reads OpenMetrics text format 1.0 and refuses what its specification forbids. */
import assert from 'node:assert/strict';

export interface MetricFamily {
  readonly type: string;
  readonly unit: string | undefined;
  readonly samples: readonly MetricSample[];
}
export interface MetricSample {
  readonly name: string;
  readonly labels: { readonly [name: string]: string };
  readonly value: number;
}

const metricName = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const label = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"';
const sampleLine = new RegExp(`^(${metricName})(?:\\{((?:${label}(?:,(?!\\}))?)*)\\})? (\\S+)$`);
const metadataLine = new RegExp(`^# (TYPE|UNIT|HELP) (${metricName}) (.*)$`);

export function parseOpenMetrics(text: string): Map<string, MetricFamily> {
  assert.ok(text.endsWith('# EOF\n'), 'the last line is # EOF');
  const lines = text.split('\n').slice(0, -2);
  const families = new Map<string, { type: string; unit: string | undefined; samples: MetricSample[] }>();
  const seen = new Set<string>();
  let current = '';
  for (const line of lines) {
    const [, keyword, family = '', rest = ''] = metadataLine.exec(line) ?? [];
    if (keyword !== undefined) {
      if (family !== current) assert.ok(!families.has(family), `${family} is not in one piece`);
      current = family;
      const row = families.get(family) ?? { type: 'unknown', unit: undefined, samples: [] };
      assert.equal(row.samples.length, 0, `${line}: metadata come before samples`);
      families.set(family, row);
      if (keyword === 'TYPE') {
        assert.equal(row.type, 'unknown', `${family} has one type`);
        assert.ok(['gauge', 'counter', 'info', 'stateset', 'unknown'].includes(rest), line);
        row.type = rest;
      } else if (keyword === 'UNIT') {
        assert.ok(family.endsWith(`_${rest}`), `the unit is the end of the name: ${line}`);
        row.unit = rest;
      }
      continue;
    }
    const [, name, labels = '', value = ''] = sampleLine.exec(line) ?? [];
    assert.ok(name !== undefined, `neither metadata nor a sample: ${JSON.stringify(line)}`);
    const row = families.get(current);
    assert.ok(row !== undefined, `a sample without a family: ${line}`);
    assert.equal(name, row.type === 'counter' ? `${current}_total` : current, `the name of a ${row.type}`);
    assert.ok(!seen.has(`${name}{${labels}}`), `twice: ${line}`);
    seen.add(`${name}{${labels}}`);
    assert.match(value, /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i, line);
    if (row.type === 'counter') assert.ok(Number(value) >= 0, line);
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', raw = '']) => [
      key,
      raw.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char)),
    ]);
    row.samples.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return families;
}
