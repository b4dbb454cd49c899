/**
 * From a file to a Config: read, parse, check the shape, refuse what we do not do, check the meaning, convert, check the
 * host, freeze. The order decides which error a user sees first: the most basic one.
 */
import { readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../errors.ts';
import type { Config, ProcessConfig, Resources } from './config.ts';
import { type ConfigOptions, convertProcess, convertResources, convertSpec } from './convert.ts';
import { checkNamespacePaths, checkRootfs } from './host-checks.ts';
import { type Json, parseJson } from './json.ts';
import { resolveOverlay } from './overlay.ts';
import type { Spec } from './spec.ts';
import { refuseUnsupported, refuseUnsupportedProcess } from './unsupported.ts';
import { inUserNamespace, rootlessIssues } from './user-namespace.ts';
import { specWarnings, validateSpec } from './validate.ts';
import { processIssues, processWarnings, validateProcess } from './validate-process.ts';

/** No real config.json comes near; a device file or a log given by mistake must not fill the memory. */
const maxBytes = 16 << 20;

export interface LoadOptions extends ConfigOptions {
  /** Hears what is accepted but deserves a word: unknown capabilities, deprecated forms. Default: nobody. */
  readonly onWarning?: (message: string) => void;
}

/**
 * Reads `config.json` of a bundle and returns it validated, resolved and deeply frozen.
 *
 * @throws {ConfigError} ERR_SPEC_NOT_FOUND, ERR_SPEC_JSON (line, column), ERR_SPEC_INVALID and ERR_UNSUPPORTED (`issues`
 *   with the paths in the document), ERR_ROOTFS, ERR_NAMESPACE_KIND.
 */
export async function loadConfig(bundle: string, options: LoadOptions = {}): Promise<Config> {
  let directory: string;
  let text: string;
  try {
    directory = await realpath(bundle);
    text = await readText(join(directory, 'config.json'));
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const absent = isErrno(cause, 'ENOENT') || isErrno(cause, 'ENOTDIR');
    const detail = join(bundle, 'config.json');
    throw new ConfigError('ERR_SPEC_NOT_FOUND', {
      ...(absent ? {} : { message: `${detail} cannot be read` }),
      cause,
    });
  }
  return configFromSpec(parseJson(text), directory, options);
}

/**
 * The same for a document that is in memory already.
 * @param bundle Existing directory; the rootfs and bind sources are relative to it.
 */
export async function configFromSpec(
  document: Json,
  bundle: string,
  options: LoadOptions = {},
): Promise<Config> {
  const { parseSpec } = await shapes();
  return resolveSpec(parseSpec(document), bundle, options);
}

/** The same for one whose shape is known to be right, so that zod need not be loaded. */
export async function resolveSpec(spec: Spec, bundle: string, options: LoadOptions = {}): Promise<Config> {
  refuseUnsupported(spec);
  const rootlessEuid = options.rootlessEuid ?? process.geteuid?.() !== 0;
  const config = convertSpec(spec, await realpath(bundle), {
    ...options,
    rootlessEuid,
    rootlessCgroups: options.rootlessCgroups ?? (rootlessEuid || inUserNamespace()),
  });
  if (config.process !== undefined) refuseUnsupportedProcess(config.process);
  const issues = config.process === undefined ? [] : processIssues(config.process, 'process');
  validateSpec(spec, rootlessEuid ? [...issues, ...rootlessIssues(spec)] : issues);
  await checkRootfs(config.rootfs);
  await checkNamespacePaths(config);
  for (const message of [...specWarnings(spec), ...processWarnings(spec.process)]) {
    options.onWarning?.(message);
  }
  if (options.overlay === undefined) return freeze(config);
  return freeze({ ...config, overlay: await resolveOverlay(options.overlay, config) });
}

/**
 * Reads a file that holds spec.process alone (`nrunc exec --process`).
 * @throws {ConfigError} ERR_ARGUMENT when it cannot be read; ERR_SPEC_JSON, ERR_SPEC_INVALID, ERR_UNSUPPORTED.
 */
export async function loadProcess(file: string, options: LoadOptions = {}): Promise<ProcessConfig> {
  let text: string;
  try {
    text = await readText(file);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError('ERR_ARGUMENT', { detail: `process file ${file} cannot be read`, cause });
  }
  const { parseSpecProcess } = await shapes();
  const spec = parseSpecProcess(parseJson(text, file));
  const process = convertProcess(spec);
  refuseUnsupportedProcess(process);
  validateProcess(process);
  for (const message of processWarnings(spec)) options.onWarning?.(message);
  return freeze(process);
}

/**
 * linux.resources alone (`nrunc update --resources`), without the default device rules.
 * @throws {ConfigError} ERR_SPEC_JSON, ERR_SPEC_INVALID.
 */
export async function resourcesFromJson(text: string, name: string): Promise<Resources> {
  const { parseSpecResources } = await shapes();
  return freeze(convertResources(parseSpecResources(parseJson(text, name))));
}

/** zod is loaded by the first document, so that commands that read none (state, kill, delete) start without it. */
const shapes = () => import('./spec.ts');

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > maxBytes) {
    throw new ConfigError('ERR_SPEC_INVALID', {
      detail: `${path} has ${size} bytes; the limit is ${maxBytes}`,
    });
  }
  return await readFile(path, 'utf8');
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** A Config is shared by the plan cache and by every start: nobody may change it under them. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) freeze(member);
  }
  return value;
}
