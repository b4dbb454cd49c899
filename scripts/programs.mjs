// Programs of the tests (test/programs/deny.c, shim.c, sweep.c), built when their source is newer.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @param {'deny' | 'shim' | 'sweep'} name
 * @param {string} root The checkout; a bundled test does not find it from where it is.
 */
export function testProgram(name, root = join(dirname(fileURLToPath(import.meta.url)), '..')) {
  const source = join(root, `test/programs/${name}.c`);
  const output = join(root, `build/programs/${name}`);
  if (existsSync(output) && statSync(output).mtimeMs > statSync(source).mtimeMs) return output;
  mkdirSync(dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}`;
  const flags = ['-std=gnu11', '-O1', '-static', '-Wall', '-Wextra', '-Werror'];
  execFileSync('gcc', [...flags, '-o', fresh, source], { stdio: 'inherit' });
  renameSync(fresh, output);
  return output;
}
