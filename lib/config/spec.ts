/**
 * The shape of config.json: OCI runtime-spec 1.3 (config.md, config-linux.md). Unknown properties are ignored, as the
 * specification demands; a known one with a wrong value is an error that names its path. What a value means is judged in
 * validate.ts, what we do not do yet in unsupported.ts. The only file that loads zod.
 */
import * as z from 'zod/mini';
import { ConfigError, type ConfigIssue } from '../errors.ts';
import type { Json } from './json.ts';

const maybe = z.exactOptional;
const list = z.array;

/** A NUL would cut the string short in every system call. */
const text = z.string().check(z.refine(value => !value.includes('\0'), 'must not contain a NUL byte'));
const name = text.check(z.minLength(1, 'must not be empty'));

/** An integer of a C type. JSON integers beyond 2^53 arrive as bigint (json.ts); they are rounded here. */
function integer(low: bigint, high: bigint) {
  return z.pipe(integerBetween(low, high), z.transform(Number));
}

function integerBetween(low: bigint, high: bigint) {
  const known = z.custom<number | bigint>(
    value => isInteger(value) && BigInt(value) >= low && BigInt(value) <= high,
    `must be an integer from ${low} to ${high}`,
  );
  // For the JSON Schema: what a function checks it cannot know.
  return known.register(z.globalRegistry, { type: 'integer', minimum: Number(low), maximum: Number(high) });
}
const isInteger = (value: unknown): value is number | bigint =>
  typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));

const i32 = integer(-(1n << 31n), (1n << 31n) - 1n);
const i64 = integer(-(1n << 63n), (1n << 63n) - 1n);
const u16 = integer(0n, (1n << 16n) - 1n);
const u32 = integer(0n, (1n << 32n) - 1n);
const u64 = integer(0n, (1n << 64n) - 1n);

/** A u64 that must stay exact: decimal digits. */
const exactU64 = z.pipe(
  integerBetween(0n, (1n << 64n) - 1n),
  z.transform(value => BigInt(value).toString()),
);

const boolean = z.boolean();
const table = <T extends z.core.SomeType>(value: T) => z.record(text, value);

const user = z.object({
  uid: maybe(u32),
  gid: maybe(u32),
  umask: maybe(u32),
  additionalGids: maybe(list(u32)),
});

const capabilities = z.object({
  bounding: maybe(list(text)),
  effective: maybe(list(text)),
  permitted: maybe(list(text)),
  inheritable: maybe(list(text)),
  ambient: maybe(list(text)),
});

const processSchema = z.object({
  terminal: maybe(boolean),
  consoleSize: maybe(z.object({ height: u16, width: u16 })),
  cwd: text,
  env: maybe(list(text)),
  args: maybe(list(text)),
  user: maybe(user),
  capabilities: maybe(capabilities),
  rlimits: maybe(list(z.object({ type: text, soft: exactU64, hard: exactU64 }))),
  noNewPrivileges: maybe(boolean),
  oomScoreAdj: maybe(i32),
  apparmorProfile: maybe(text),
  selinuxLabel: maybe(text),
  scheduler: maybe(
    z.object({
      policy: text,
      nice: maybe(i32),
      priority: maybe(i32),
      flags: maybe(list(text)),
      runtime: maybe(u64),
      deadline: maybe(u64),
      period: maybe(u64),
    }),
  ),
  ioPriority: maybe(z.object({ class: text, priority: i32 })),
  execCPUAffinity: maybe(z.object({ initial: maybe(text), final: maybe(text) })),
});

const idMappings = list(z.object({ containerID: u32, hostID: u32, size: u32 }));

const mount = z.object({
  destination: name,
  source: maybe(text),
  type: maybe(text),
  options: maybe(list(text)),
  uidMappings: maybe(idMappings),
  gidMappings: maybe(idMappings),
});

const hook = z.object({
  path: name,
  args: maybe(list(text)),
  env: maybe(list(text)),
  timeout: maybe(integer(1n, (1n << 31n) - 1n)),
});
const hooks = z.object({
  prestart: maybe(list(hook)),
  createRuntime: maybe(list(hook)),
  createContainer: maybe(list(hook)),
  startContainer: maybe(list(hook)),
  poststart: maybe(list(hook)),
  poststop: maybe(list(hook)),
});

const deviceNumber = { major: i64, minor: i64 };
const throttle = maybe(list(z.object({ ...deviceNumber, rate: u64 })));

const resourcesSchema = z.object({
  devices: maybe(
    list(
      z.object({
        allow: boolean,
        type: maybe(text),
        major: maybe(i64),
        minor: maybe(i64),
        access: maybe(text),
      }),
    ),
  ),
  memory: maybe(
    z.object({
      limit: maybe(i64),
      reservation: maybe(i64),
      swap: maybe(i64),
      kernel: maybe(i64),
      kernelTCP: maybe(i64),
      swappiness: maybe(u64),
      disableOOMKiller: maybe(boolean),
      useHierarchy: maybe(boolean),
      checkBeforeUpdate: maybe(boolean),
    }),
  ),
  cpu: maybe(
    z.object({
      shares: maybe(u64),
      quota: maybe(i64),
      burst: maybe(u64),
      period: maybe(u64),
      realtimeRuntime: maybe(i64),
      realtimePeriod: maybe(u64),
      idle: maybe(i64),
      cpus: maybe(text),
      mems: maybe(text),
    }),
  ),
  pids: maybe(z.object({ limit: maybe(i64) })),
  blockIO: maybe(
    z.object({
      weight: maybe(u16),
      leafWeight: maybe(u16),
      weightDevice: maybe(list(z.object({ ...deviceNumber, weight: maybe(u16), leafWeight: maybe(u16) }))),
      throttleReadBpsDevice: throttle,
      throttleWriteBpsDevice: throttle,
      throttleReadIOPSDevice: throttle,
      throttleWriteIOPSDevice: throttle,
    }),
  ),
  hugepageLimits: maybe(list(z.object({ pageSize: name, limit: u64 }))),
  network: maybe(
    z.object({ classID: maybe(u32), priorities: maybe(list(z.object({ name, priority: u32 }))) }),
  ),
  rdma: maybe(table(z.object({ hcaHandles: maybe(u32), hcaObjects: maybe(u32) }))),
  unified: maybe(table(text)),
});

const seccomp = z.object({
  defaultAction: text,
  defaultErrnoRet: maybe(u32),
  architectures: maybe(list(text)),
  flags: maybe(list(text)),
  listenerPath: maybe(text),
  listenerMetadata: maybe(text),
  syscalls: maybe(
    list(
      z.object({
        names: list(name).check(z.minLength(1, 'must name a system call')),
        action: text,
        errnoRet: maybe(u32),
        args: maybe(list(z.object({ index: u32, value: exactU64, valueTwo: maybe(exactU64), op: text }))),
      }),
    ),
  ),
});

const linux = z.object({
  namespaces: maybe(list(z.object({ type: text, path: maybe(text) }))),
  uidMappings: maybe(idMappings),
  gidMappings: maybe(idMappings),
  timeOffsets: maybe(table(z.object({ secs: maybe(i64), nanosecs: maybe(u32) }))),
  devices: maybe(
    list(
      z.object({
        path: name,
        type: text,
        major: maybe(i64),
        minor: maybe(i64),
        fileMode: maybe(u32),
        uid: maybe(u32),
        gid: maybe(u32),
      }),
    ),
  ),
  netDevices: maybe(table(z.object({ name: maybe(text) }))),
  cgroupsPath: maybe(text),
  resources: maybe(resourcesSchema),
  rootfsPropagation: maybe(text),
  maskedPaths: maybe(list(text)),
  readonlyPaths: maybe(list(text)),
  sysctl: maybe(table(text)),
  mountLabel: maybe(text),
  personality: maybe(z.object({ domain: text, flags: maybe(list(text)) })),
  seccomp: maybe(seccomp),
  intelRdt: maybe(
    z.object({
      closID: maybe(text),
      schemata: maybe(list(text)),
      l3CacheSchema: maybe(text),
      memBwSchema: maybe(text),
      enableMonitoring: maybe(boolean),
      enableCMT: maybe(boolean),
      enableMBM: maybe(boolean),
    }),
  ),
  memoryPolicy: maybe(z.object({ mode: text, nodes: maybe(text), flags: maybe(list(text)) })),
});

/** Sections of other platforms: an object, else it is no config.json; what it holds is none of our business. */
const foreign = maybe(table(z.unknown()));

export const specSchema = z.object({
  ociVersion: name,
  root: z.object({ path: name, readonly: maybe(boolean) }),
  process: maybe(processSchema),
  hostname: maybe(text),
  domainname: maybe(text),
  mounts: maybe(list(mount)),
  hooks: maybe(hooks),
  annotations: maybe(table(text)),
  linux: maybe(linux),
  vm: foreign,
  windows: foreign,
  solaris: foreign,
  zos: foreign,
  freebsd: foreign,
});

export type Spec = z.infer<typeof specSchema>;
export type SpecProcess = z.infer<typeof processSchema>;
export type SpecLinux = NonNullable<Spec['linux']>;
export type SpecResources = z.infer<typeof resourcesSchema>;
export type SpecSeccomp = z.infer<typeof seccomp>;
export type SpecMount = z.infer<typeof mount>;

/** @throws {ConfigError} ERR_SPEC_INVALID with every property that has a wrong shape. */
export function parseSpec(document: Json): Spec {
  return parse(specSchema, document, '');
}

/** spec.process alone: the file of `exec --process`. @throws {ConfigError} ERR_SPEC_INVALID. */
export function parseSpecProcess(document: Json): SpecProcess {
  return parse(processSchema, document, 'process');
}

/** linux.resources alone: the file of `update --resources`. @throws {ConfigError} ERR_SPEC_INVALID. */
export function parseSpecResources(document: Json): SpecResources {
  return parse(resourcesSchema, document, 'resources');
}

function parse<T extends z.ZodMiniType>(schema: T, document: Json, root: string): z.infer<T> {
  const result = z.safeParse(schema, document);
  if (result.success) return result.data;
  throw new ConfigError('ERR_SPEC_INVALID', {
    issues: result.error.issues.map(issue => describe(issue, document, root)),
  });
}

function describe(issue: z.core.$ZodIssue, document: Json, root: string): ConfigIssue {
  const path = documentPath(issue.path, root);
  if (issue.code !== 'invalid_type') return { path, message: missing(issue.path, document) ?? issue.message };
  const expected = issue.expected === 'record' ? 'object' : issue.expected;
  const article = /^[aeiou]/.test(expected) ? 'an' : 'a';
  const found = kind(valueAt(document, issue.path));
  return {
    path,
    message: found === 'nothing' ? 'is required' : `must be ${article} ${expected}, not ${found}`,
  };
}

function missing(path: readonly PropertyKey[], document: Json): string | undefined {
  return valueAt(document, path) === undefined ? 'is required' : undefined;
}

function valueAt(document: Json, path: readonly PropertyKey[]): unknown {
  let value: unknown = document;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.getOwnPropertyDescriptor(value, key)?.value;
  }
  return value;
}

function kind(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'bigint') return 'a number';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** `linux.namespaces[0].type`; a name that is no identifier is quoted: `annotations["a.b"]`. */
function documentPath(path: readonly PropertyKey[], root: string): string {
  let text = root;
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else if (/^[A-Za-z_]\w*$/.test(String(key))) text += text === '' ? String(key) : `.${String(key)}`;
    else text += `[${JSON.stringify(String(key))}]`;
  }
  return text === '' ? '(document)' : text;
}
