// lib/rootfs/tar.ts replaces one function of tar-stream, in a module of it that its package.json does not export.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
export const tarStreamAlias = {
  'tar-stream/headers.js': join(root, 'node_modules/tar-stream/headers.js'),
};
