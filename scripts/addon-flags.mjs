// How node-gyp compiles the addon, for who compiles it otherwise (scripts/mutants.mjs, scripts/sanitize.mjs): the flags are
// those of binding.gyp.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The directory with include/node of this very Node.js: the system's, or beside the program; else node-gyp fetches it. */
export function nodeDirectory() {
  const version = '/usr/include/node/node_version.h';
  const text = existsSync(version) ? readFileSync(version, 'utf8') : '';
  const number = name => text.match(new RegExp(`#define NODE_${name}_VERSION (\\d+)`))?.[1];
  if (`v${number('MAJOR')}.${number('MINOR')}.${number('PATCH')}` === process.version) return '/usr';
  const beside = join(dirname(process.execPath), '..');
  return existsSync(join(beside, 'include/node/node_version.h')) ? beside : undefined;
}

const target = () => JSON.parse(readFileSync('binding.gyp', 'utf8')).targets[0];

export const addonSources = () =>
  ['addon/binding', 'addon/sys'].flatMap(directory =>
    readdirSync(directory)
      .filter(name => name.endsWith('.cc'))
      .map(name => `${directory}/${name}`),
  );

export function addonFlags() {
  const headers = nodeDirectory();
  if (headers === undefined) throw new Error('addon: the headers of this Node.js are not on this machine');
  const { defines, cflags, cflags_cc: more } = target();
  return [
    '-fPIC',
    '-pthread',
    ...[...cflags, ...more].filter(flag => !flag.startsWith('<!') && flag !== '-isystem'),
    ...['NODE_GYP_MODULE_NAME=libcontainer', 'BUILDING_NODE_EXTENSION', ...defines].map(name => `-D${name}`),
    '-isystem',
    createRequire(import.meta.url)('node-addon-api').include_dir,
    `-I${join(headers, 'include/node')}`,
    '-Iaddon',
  ];
}

export const addonLinkFlags = ['-shared', '-pthread', '-Wl,-z,nodelete', '-ldl', '-lpthread'];
