/** `nrunc spec`: writes a starter config.json, never over one that is there. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultSpecText } from '../../index.ts';
import { errorCode } from '../error-text.ts';
import type { Invocation } from '../invocation.ts';

export async function run({ options }: Invocation): Promise<number> {
  try {
    writeFileSync(
      join(options.text('bundle') ?? '', 'config.json'),
      defaultSpecText({ rootless: options.flag('rootless') }),
      {
        flag: 'wx',
        mode: 0o666,
      },
    );
  } catch (error) {
    if (errorCode(error) === 'EEXIST') throw new Error('File config.json exists. Remove it first');
    throw error;
  }
  return 0;
}
