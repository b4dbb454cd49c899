/**
 * The conformance suite of the command line: a table of commands and of what a runtime with runc's command line answers.
 * Each case is tried with nrunc, through the front that asks `nrunc serve`, and with runc too unless it says why runc 1.1
 * differs.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { containerId, makeBundle, makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import type { Case, Seen } from './cli-cases.ts';
import { runCases, type State, stateCases } from './cli-cases-container.ts';
import { usageCases } from './cli-cases-usage.ts';
import { type Cli, type CliOptions, cli, errorMessage, nruncPath, type Result } from './cli-fixture.ts';
import { servedFront } from './front.ts';

type Program = 'runc' | 'nrunc' | 'front';
const requires = ['root', 'runc', 'cgroup-v1', 'lane:host'] as const;
/** Processors are few, but a case mostly waits. */
const atOnce = 4;

interface Place {
  readonly id: string;
  readonly bundle: string;
  /** Of the container, the same on each hierarchy. */
  readonly cgroup?: string;
  readonly scratch: string;
}

const matches = (text: string, wanted: string | RegExp): boolean =>
  typeof wanted === 'string' ? text === wanted : wanted.test(text);

/** The name of the program is `runtime` in the table. */
const neutral = (text: string, program: Program): string =>
  text.replace(new RegExp(`\\b${program === 'runc' ? 'runc' : 'nrunc'}\\b`, 'g'), 'runtime');

function problemsOf(one: Case, program: Program, result: Result, place: Place): string[] {
  const problems: string[] = [];
  const stdout = neutral(result.stdout, program);
  const stderr = neutral(result.stderr, program);
  if (result.code !== one.code) problems.push(`code ${result.code}, not ${one.code}`);
  if (!matches(stdout, one.stdout ?? '')) problems.push(`stdout ${JSON.stringify(stdout.slice(0, 600))}`);
  const message = stderr === '' ? '' : spoken(stderr);
  if (one.error === undefined ? stderr !== '' : !matches(message, one.error))
    problems.push(`error ${JSON.stringify(message || stderr)}`);
  const seen: Seen = {
    directory: place.scratch,
    stdout,
    stderr,
    cgroupFile: (controller, file) =>
      readFileSync(join('/sys/fs/cgroup', controller, place.cgroup ?? place.id, file), 'utf8').trim(),
  };
  const later = one.look?.(seen);
  if (later !== undefined) problems.push(later);
  return problems.map(problem => `${program}: ${one.name}: ${problem}`);
}

/** The sentence of the last line of the log, in either format, or of the plain line beside a log file. */
function spoken(stderr: string): string {
  const last = stderr.trimEnd().split('\n').at(-1) ?? '';
  if (last.startsWith('{')) return String(JSON.parse(last).msg);
  return last.startsWith('time=') ? errorMessage({ stderr: `${last}\n` }) : last;
}

async function tryCase(t: Cli, one: Case, program: Program, place: Omit<Place, 'scratch'>, parent: string) {
  const scratch = mkdtempSync(join(parent, 'case-'));
  const words = one.words.map(word =>
    word
      .replace('@id', place.id)
      .replace('@bundle', place.bundle)
      .replace('@dir', scratch)
      .replace('@root', t.root),
  );
  const result = await t(words, one.input === undefined ? {} : { input: one.input });
  return problemsOf(one, program, result, { ...place, scratch });
}

type Programs = { readonly [P in Program]: CliOptions };

/** With each; the problems of all cases. */
async function eachProgram(
  t: TestContext,
  work: (program: Program, options: CliOptions) => Promise<string[]>,
): Promise<void> {
  const front = await servedFront(t);
  const programs: Programs = {
    runc: { program: 'runc' },
    nrunc: { program: nruncPath },
    front: { program: front.path, env: front.env },
  };
  const problems: string[] = [];
  for (const program of ['runc', 'nrunc', 'front'] as const)
    problems.push(...(await work(program, programs[program])));
  assert.deepEqual(problems, []);
  assert.ok(front.answered().length > 0, 'the server has answered nothing');
}
/** Cases that share a command, as one; they are tried one by one when that is not answered as each of them is to be. */
function* shared(cases: readonly Case[]): Generator<readonly Case[]> {
  const groups = new Map<string, Case[]>();
  for (const one of cases) {
    const name = one.share?.name;
    if (name === undefined) yield [one];
    else groups.set(name, [...(groups.get(name) ?? []), one]);
  }
  yield* groups.values();
}

function joined([first, ...others]: readonly Case[]): Case | undefined {
  if (first?.share === undefined) return first;
  const { end } = first.share;
  const more = others.flatMap(({ words, share }) => words.slice(1, share?.end));
  return { ...first, words: [...first.words.slice(0, end), ...more, ...first.words.slice(end)] };
}

const of = <C extends Case>(cases: readonly C[], program: Program): readonly C[] =>
  cases.filter(one => program !== 'runc' || one.notRunc === undefined);

async function together<T>(items: readonly T[], work: (item: T) => Promise<string[]>): Promise<string[]> {
  const queue = [...items];
  const problems: string[] = [];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift())
      problems.push(...(await work(item)));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return problems;
}

test('conformance: options, arguments, help and logs', { requires, timeoutMs: 240_000 }, async t => {
  const parent = makeDirectory(t);
  await eachProgram(t, async (program, options) => {
    const nrunc = cli(t, options);
    const place = { id: 'none', bundle: parent };
    const attempt = (one: Case) => tryCase(nrunc, one, program, place, parent);
    return together([...shared(of(usageCases, program))], async group => {
      const whole = joined(group);
      const problems = whole === undefined ? [] : await attempt(whole);
      if (problems.length === 0 || group.length === 1) return problems;
      return (await Promise.all(group.map(attempt))).flat();
    });
  });
});

const order: readonly State[] = ['created', 'running', 'paused', 'stopped'];
/** What brings a container from the state before to this one. */
const steps: { readonly [S in State]: (nrunc: Cli) => Promise<unknown> } = {
  created: nrunc => nrunc(['create', '-b', nrunc.bundle, nrunc.id]),
  running: nrunc => nrunc(['start', nrunc.id]),
  paused: nrunc => nrunc(['pause', nrunc.id]),
  stopped: async nrunc => {
    await nrunc(['resume', nrunc.id]);
    await nrunc(['kill', nrunc.id, 'KILL']);
    await eventually('stopped', async () => (await nrunc(['state', nrunc.id])).stdout.includes('"stopped"'));
  },
};

test('conformance: every command on a container in each state', { requires, timeoutMs: 240_000 }, async t => {
  const parent = makeDirectory(t);
  await eachProgram(t, async (program, options) => {
    const cgroup = containerId('conformance');
    const nrunc = cli(t, {
      ...options,
      patch: spec => {
        spec.linux.cgroupsPath = `/${cgroup}`;
        return spec;
      },
    });
    const place = { id: nrunc.id, bundle: nrunc.bundle, cgroup };
    const problems: string[] = [];
    for (const state of order) {
      await steps[state](nrunc);
      for (const one of of(stateCases[state], program))
        problems.push(...(await tryCase(nrunc, one, program, place, parent)));
    }
    await nrunc(['delete', nrunc.id]);
    return problems;
  });
});

async function runOne(
  t: TestContext,
  nrunc: Cli,
  one: (typeof runCases)[number],
  program: Program,
  parent: string,
) {
  const bundle = one.process === undefined ? parent : makeBundle(t, { process: one.process });
  const id = containerId('run');
  const problems = await tryCase(nrunc, one, program, { id, bundle }, parent);
  await nrunc(['delete', '--force', id]);
  return problems;
}

test('conformance: run', { requires, timeoutMs: 240_000 }, async t => {
  const parent = makeDirectory(t);
  await eachProgram(t, (program, options) => {
    const nrunc = cli(t, options);
    return together(of(runCases, program), one => runOne(t, nrunc, one, program, parent));
  });
});

test('conformance: at least 300 cases, each with a name of its own', { requires: ['lane:host'] }, () => {
  const all = [...usageCases, ...order.flatMap(state => stateCases[state]), ...runCases];
  const names = all.map(({ name }) => name);
  assert.deepEqual(
    names.filter((name, at) => names.indexOf(name) !== at),
    [],
  );
  assert.ok(names.length >= 300, String(names.length));
});
