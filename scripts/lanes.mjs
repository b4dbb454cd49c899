// The lanes together: a line of each, and the proof that every test ran somewhere. Reads build/results/*.json.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const lanes = ['host', 'v2', 'systemd', 'v1', 'systemd-v1'];
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** @returns {{ lines: string[], problems: string[], notes: string[] }} */
export function judge(records) {
  const lines = [];
  const problems = [];
  const notes = [];
  const ran = new Set();
  const reasons = new Map();
  for (const lane of lanes) {
    const record = records.get(lane);
    if (record === undefined) {
      problems.push(`lane ${lane} has no results`);
      continue;
    }
    const count = result => record.tests.filter(row => row.result === result).length;
    lines.push(`${lane}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
    if (count('passed') === 0) problems.push(`lane ${lane} ran nothing`);
    for (const leak of record.leaks) problems.push(`lane ${lane} leaked ${leak}`);
    for (const name of record.second) notes.push(`${lane}: passed only at the second try: ${name}`);
    for (const row of record.tests) {
      const name = `${row.file} › ${row.name}`;
      if (row.result === 'failed')
        problems.push(
          `${lane}: ${name}\n${(row.error ?? '').split('\n').slice(0, 25).join('\n').replace(/^/gm, '    ')}`,
        );
      if (row.result === 'skipped')
        reasons.set(name, [...(reasons.get(name) ?? []), `${lane}: ${row.reason}`]);
      else ran.add(name);
    }
  }
  for (const [name, why] of reasons)
    if (!ran.has(name)) problems.push(`ran nowhere: ${name}\n    ${why.join('\n    ')}`);
  return { lines, problems, notes };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const records = new Map();
  for (const lane of lanes) {
    const path = join(root, `build/results/${lane}.json`);
    if (existsSync(path)) records.set(lane, JSON.parse(readFileSync(path, 'utf8')));
  }
  const { lines, problems, notes } = judge(records);
  for (const note of notes) console.log(note);
  for (const problem of problems) console.log(`problem: ${problem}`);
  console.log(
    problems.length === 0
      ? 'every test ran in at least one lane; nothing leaked'
      : `${problems.length} problems`,
  );
  for (const line of lines) console.log(line);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
