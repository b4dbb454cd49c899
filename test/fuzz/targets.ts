/** The parsers of text that comes from outside: what each is given, and what must hold of what it gives. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deviceList, parseDeviceList } from '../../lib/cgroups/device-rules.ts';
import { deviceProgram } from '../../lib/cgroups/v2/device-program.ts';
import { parseOptions } from '../../lib/cli/options.ts';
import { commands, findCommand, globalOptions } from '../../lib/cli/table.ts';
import { convertResources, convertSpec } from '../../lib/config/convert.ts';
import { parseJson } from '../../lib/config/json.ts';
import { parseMountOptions } from '../../lib/config/mount-options.ts';
import { parseSpec, parseSpecResources } from '../../lib/config/spec.ts';
import { refuseUnsupported } from '../../lib/config/unsupported.ts';
import { validateSpec } from '../../lib/config/validate.ts';
import { processIssues } from '../../lib/config/validate-process.ts';
import { readRecord } from '../../lib/state.ts';
import { readIntent } from '../../lib/state-intent.ts';

/** Throws an error of the library for what it refuses. */
export type Target = (input: string) => void;

let scratch: string | undefined;
function file(name: string, content: string): string {
  if (scratch === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'libcontainer-fuzz-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    scratch = made;
  }
  writeFileSync(join(scratch, name), content, { mode: 0o600 });
  return scratch;
}

export const targets: { readonly [name: string]: Target } = {
  spec: input => {
    const spec = parseSpec(parseJson(input));
    refuseUnsupported(spec);
    const config = convertSpec(spec, '/bundle', { rootlessEuid: false });
    validateSpec(spec, config.process === undefined ? [] : processIssues(config.process, 'process'));
    assert.equal(typeof config.rootfs, 'string');
  },
  state: input => {
    const record = readRecord('one', file('state.json', input));
    assert.equal(record.id, 'one');
  },
  journal: input => {
    const intent = readIntent(file('intent.json', input));
    if (intent !== undefined && intent !== 'torn')
      assert.ok(Number.isSafeInteger(intent.pid) && intent.pid > 0);
  },
  devices: input => {
    const list = input.startsWith('{')
      ? deviceList(convertResources(parseSpecResources(parseJson(input))).devices ?? [])
      : parseDeviceList(input);
    const program = deviceProgram(list);
    assert.equal(program.length % 8, 0);
    // The last instruction leaves the program, or the kernel's verifier refuses it.
    assert.equal(program.at(-8), 0x95);
  },
  'mount-options': input => {
    const { flags, clearedFlags, data } = parseMountOptions(input.split(','));
    assert.ok(Number.isSafeInteger(flags) && Number.isSafeInteger(clearedFlags));
    assert.equal(typeof data, 'string');
  },
  arguments: input => {
    const words = input.split(' ');
    const first = parseOptions(globalOptions, words, 'first');
    const command = findCommand(first.arguments[0] ?? '');
    if (command === undefined) return;
    assert.ok(Object.values(commands).includes(command as never));
    parseOptions(command.options, first.arguments.slice(1), 'mixed');
  },
};
