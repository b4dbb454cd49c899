/**
 * A root file system of layers, overlayfs: what the container changes goes into the upper one. Not in the specification, so
 * an option of loadConfig() and of sandboxes. init mounts it in the container's mount namespace: the host never sees it, and
 * it goes with the last process.
 */
import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ConfigError, type ConfigIssue } from '../errors.ts';
import type { Config } from './config.ts';

/** What a caller asks for. Paths are the host's; relative ones (of loadConfig) lie in the bundle. */
export interface OverlayOptions {
  /** Directories that are only read, the topmost first. Default: the root file system of the configuration alone. */
  readonly lower?: readonly string[];
  /**
   * The directory that takes what is changed, for one container at a time; it stays when the container is gone, and may be a
   * lower one of the next. Default: in memory (accounted to the container), and gone with it.
   */
  readonly upper?: string;
  /** An empty directory in the same mount as `upper`, for the kernel alone. Goes with `upper`, and only with it. */
  readonly work?: string;
  /** Of the layer in memory. Default: half of the machine's memory, tmpfs(5). */
  readonly sizeBytes?: number;
}

/** Resolved: paths are absolute and free of links. */
export interface Overlay {
  readonly lower: readonly string[];
  readonly upper?: string;
  readonly work?: string;
  readonly sizeBytes?: number;
}

/** As init can pass to mount(2) in one page. */
const mostLayers = 256;

function* wrong(options: OverlayOptions, config: Config): Generator<ConfigIssue> {
  const { lower, upper, work, sizeBytes } = options;
  if (!config.namespaces.some(({ type }) => type === 'mount'))
    yield { path: 'overlay', message: 'needs a mount namespace' };
  if (lower !== undefined && (lower.length === 0 || lower.length > mostLayers))
    yield { path: 'overlay.lower', message: `must have 1 to ${mostLayers} directories` };
  if ((upper === undefined) !== (work === undefined))
    yield { path: 'overlay', message: 'upper and work go together' };
  if (sizeBytes !== undefined && !(Number.isSafeInteger(sizeBytes) && sizeBytes >= 4096))
    yield { path: 'overlay.sizeBytes', message: `${sizeBytes} is not an integer from 4096 on` };
  if (sizeBytes !== undefined && upper !== undefined)
    yield { path: 'overlay.sizeBytes', message: 'is for the layer in memory, which there is without upper' };
}

/** A link in a path could be turned between now and the start, as in that of the rootfs. */
async function directory(path: string, issuePath: string, bundle: string): Promise<string> {
  const absolute = resolve(bundle, path);
  let cause: unknown;
  try {
    const found = await realpath(absolute);
    if ((await stat(found)).isDirectory()) return found;
  } catch (error) {
    cause = error;
  }
  const issue = { path: issuePath, message: `${absolute} is not a directory` };
  throw new ConfigError('ERR_SPEC_INVALID', { issues: [issue], ...(cause === undefined ? {} : { cause }) });
}

/** @throws {ConfigError} ERR_SPEC_INVALID */
export async function resolveOverlay(options: OverlayOptions, config: Config): Promise<Overlay> {
  const issues = [...wrong(options, config)];
  if (issues.length > 0) throw new ConfigError('ERR_SPEC_INVALID', { issues });
  const { lower = [config.rootfs], upper, work, sizeBytes } = options;
  const found: string[] = [];
  for (const [index, path] of lower.entries())
    found.push(await directory(path, `overlay.lower[${index}]`, config.bundle));
  return {
    lower: found,
    ...(upper === undefined ? {} : { upper: await directory(upper, 'overlay.upper', config.bundle) }),
    ...(work === undefined ? {} : { work: await directory(work, 'overlay.work', config.bundle) }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  };
}
