// Writes V8's compiled form of index.cjs and cli.cjs of a directory, as lib/cli/launch.ts reads it: after a run of `state`, so
// that the functions which every command needs are in it. Arguments: the directory.
const { readFileSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { join, resolve } = require('node:path');
const { Script } = require('node:vm');

const directory = resolve(process.argv[2]);
process.argv = [process.execPath, join(directory, 'nrunc.cjs'), '--root', directory, 'state', 'none'];
const scripts = new Map();
process.on('exit', () => {
  for (const [path, script] of scripts) writeFileSync(`${path}.cache`, script.createCachedData());
  // The command itself has failed, as it must: there is no such container.
  process.exitCode = 0;
});
for (const name of ['index.cjs', 'cli.cjs']) {
  const path = join(directory, name);
  const script = new Script(Module.wrap(readFileSync(path, 'utf8')), { filename: path });
  scripts.set(path, script);
  const module = new Module(path);
  module.filename = path;
  require.cache[path] = module;
  script
    .runInThisContext()
    .call(module.exports, module.exports, Module.createRequire(path), module, path, directory);
}
