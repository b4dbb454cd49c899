/** The rules that only the host can answer: is the rootfs a directory and no link, do namespace paths name namespaces. */
import { readlink, realpath, stat } from 'node:fs/promises';
import { ConfigError, type ConfigIssue } from '../errors.ts';
import { namespaceFiles } from '../plan/numbers.ts';
import type { Config } from './config.ts';

/**
 * The path must be its own real path: a link in it could be turned between this check and the start (CVE-2021-30465).
 * @throws {ConfigError} ERR_ROOTFS.
 */
export async function checkRootfs(rootfs: string): Promise<void> {
  let resolved: string;
  let directory: boolean;
  try {
    resolved = await realpath(rootfs);
    directory = (await stat(rootfs)).isDirectory();
  } catch (cause) {
    throw new ConfigError('ERR_ROOTFS', { detail: rootfs, cause });
  }
  if (resolved !== rootfs) {
    throw new ConfigError('ERR_ROOTFS', {
      message: `invalid rootfs: not an absolute path, or a symlink: ${rootfs} is ${resolved}`,
    });
  }
  if (!directory) throw new ConfigError('ERR_ROOTFS', { detail: `${rootfs} is not a directory` });
}

/**
 * Paths in /proc name their kind in the link's text (namespaces(7)); a bind-mounted one does not, and there setns(2)
 * with the type refuses a wrong kind at the start.
 * @throws {ConfigError} ERR_NAMESPACE_KIND, ERR_SPEC_INVALID.
 */
export async function checkNamespacePaths(config: Config): Promise<void> {
  for (const { type, path } of config.namespaces) {
    if (path === undefined) continue;
    const issuePath = `linux.namespaces (${type}).path`;
    try {
      await stat(path);
    } catch (cause) {
      const message = `namespace path ${path} cannot be used`;
      throw new ConfigError('ERR_SPEC_INVALID', { issues: [{ path: issuePath, message }], cause });
    }
    const kind = /^([a-z]+):\[[0-9]+\]$/.exec(await linkText(path))?.[1];
    if (kind !== undefined && kind !== namespaceFiles[type]) {
      const issue: ConfigIssue = { path: issuePath, message: `${path} is a ${kind} namespace` };
      throw new ConfigError('ERR_NAMESPACE_KIND', { issues: [issue] });
    }
  }
}

async function linkText(path: string): Promise<string> {
  try {
    return await readlink(path);
  } catch {
    // Not a link: a namespace that is bind-mounted on a file.
    return '';
  }
}
