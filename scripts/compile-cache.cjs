// Writes V8's compiled form of the .cjs files of a directory, as lib/cli/launch.ts reads it: after some use of each, so that
// the functions which every command needs are in it. Arguments: the directory.
const { readFileSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { basename, dirname, join, resolve } = require('node:path');
const { Script } = require('node:vm');

const directory = resolve(process.argv[2]);
const scripts = new Map();
require.extensions['.cjs'] = (module, path) => {
  // The name stays in the compiled form, and is what stack traces show: not the directory of a build.
  const filename = `libcontainer/${basename(path)}`;
  const script = new Script(Module.wrap(readFileSync(path, 'utf8')), { filename });
  scripts.set(path, script);
  const body = script.runInThisContext();
  body.call(module.exports, module.exports, Module.createRequire(path), module, path, dirname(path));
};
process.on('exit', () => {
  for (const [path, script] of scripts) writeFileSync(`${path}.cache`, script.createCachedData());
  // The command itself has failed, as it must: there is no such container.
  process.exitCode = 0;
});
const { defaultSpecText } = require(join(directory, 'index.cjs'));
require(join(directory, 'spec.cjs')).parseSpec(JSON.parse(defaultSpecText()));
require(join(directory, 'encode.cjs')).encodePlan({ steps: [], cloneFlags: 0 });
process.argv = [process.execPath, join(directory, 'nrunc.cjs'), '--root', directory, 'state', 'none'];
require(join(directory, 'cli.cjs'));
