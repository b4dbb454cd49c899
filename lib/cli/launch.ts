/**
 * The executable, dist/nrunc.cjs: loads the library and the command line from V8's compiled form, which the build leaves
 * beside them. Compiling is most of what a command like `state` costs beside Node's own start. V8 refuses the form of
 * another version or other flags, and then compiles as ever.
 */
import { readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { join } from 'node:path';
import { Script } from 'node:vm';

type Loaded = (
  exports: unknown,
  require: NodeJS.Require,
  module: NodeJS.Module,
  filename: string,
  dirname: string,
) => void;

function compiledForm(path: string): Buffer | undefined {
  try {
    return readFileSync(`${path}.cache`);
  } catch {
    return undefined;
  }
}

/** As require() does it; the module is in its cache, so that the other files get the same one. */
function load(directory: string, name: string): void {
  const path = join(directory, name);
  const cachedData = compiledForm(path);
  if (cachedData === undefined) {
    require(path);
    return;
  }
  const module = new Module(path);
  module.filename = path;
  require.cache[path] = module;
  const script = new Script(Module.wrap(readFileSync(path, 'utf8')), { filename: path, cachedData });
  const body = script.runInThisContext() as Loaded;
  body.call(module.exports, module.exports, createRequire(path), module, path, directory);
  module.loaded = true;
}

load(__dirname, 'index.cjs');
load(__dirname, 'cli.cjs');
