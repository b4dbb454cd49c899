/**
 * The executable, dist/nrunc.cjs: loads the command line and the library from V8's compiled form, which the build leaves
 * beside them. Compiling is most of what a command costs beside Node's own start. V8 refuses the form of another version
 * or other flags, and then compiles as ever.
 */
import { readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';

type Loaded = (
  exports: unknown,
  require: NodeJS.Require,
  module: NodeJS.Module,
  filename: string,
  directory: string,
) => void;

function compiledForm(path: string): { readonly cachedData: Buffer } | undefined {
  try {
    return { cachedData: readFileSync(`${path}.cache`) };
  } catch {
    return undefined;
  }
}

// All .cjs files of this process are ours; require() goes on as ever, with its cache and its errors.
require.extensions['.cjs'] = (module: NodeJS.Module, path: string): void => {
  const source = Module.wrap(readFileSync(path, 'utf8'));
  const script = new Script(source, { filename: path, ...compiledForm(path) });
  const body = script.runInThisContext() as Loaded;
  body.call(module.exports, module.exports, createRequire(path), module, path, dirname(path));
};

require(join(__dirname, 'cli.cjs'));
