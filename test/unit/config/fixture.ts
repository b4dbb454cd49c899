/** A bundle on disk with an empty rootfs, and the default spec to start from. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { defaultSpec } from '../../../lib/config/default-spec.ts';
import type { Json } from '../../../lib/config/json.ts';
import { configFromSpec, type LoadOptions } from '../../../lib/config/load.ts';
import { ConfigError } from '../../../lib/errors.ts';

export function bundle(t: TestContext): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'config-test-')));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'rootfs'));
  return directory;
}

export function writeConfig(directory: string, text: string): void {
  writeFileSync(join(directory, 'config.json'), text);
}

/** The default spec with these values at these paths (`linux.namespaces`); undefined takes a property away. */
export function specWith(changes: { readonly [path: string]: unknown }): Json {
  const spec = structuredClone(defaultSpec({ unified: false })) as { [name: string]: unknown };
  for (const [path, value] of Object.entries(changes)) {
    const names = path.split('.');
    const last = names.pop() ?? '';
    let at = spec;
    for (const name of names) {
      at[name] ??= {};
      at = at[name] as { [name: string]: unknown };
    }
    if (value === undefined) delete at[last];
    else at[last] = value;
  }
  return spec as Json;
}

/** Paths and messages of the ConfigError that these changes cause, after its code. */
export async function refusal(
  directory: string,
  changes: { readonly [path: string]: unknown },
  options: LoadOptions = {},
): Promise<{ code: string; issues: string[]; message: string }> {
  try {
    await configFromSpec(specWith(changes), directory, options);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const issues = error.issues.map(issue => `${issue.path}: ${issue.message}`);
    return { code: error.code, issues, message: error.message };
  }
  throw new Error(`accepted: ${JSON.stringify(changes)}`);
}
