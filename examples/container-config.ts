/**
 * The configuration of a container in a few words: the starter configuration of `nrunc spec`, a root file system, a command,
 * limits. What the examples beside this file have in common; copy it with them.
 *
 * In a program of yours the import is from 'libcontainer'.
 */
import { existsSync } from 'node:fs';
import { type Config, configFromSpec, defaultSpecText, type OverlayOptions } from '../lib/index.ts';

export interface ContainerWish {
  /** Absolute path. Read-only; /tmp, /run and /root are in memory. */
  readonly rootfs: string;
  readonly args: readonly string[];
  /** Beside PATH, HOME and TERM. */
  readonly env?: { readonly [name: string]: string };
  readonly cwd?: string;
  readonly hostname?: string;
  readonly annotations?: { readonly [name: string]: string };
  readonly memoryBytes?: number | undefined;
  readonly pids?: number | undefined;
  /** 0.5 is half of one processor's time. */
  readonly cpus?: number | undefined;
  /** `own` (default): a loopback of its own and nothing else. */
  readonly network?: 'own' | 'host';
  readonly terminal?: boolean;
  /** The rootfs is layers then, and writable: what the container changes goes into the upper one. */
  readonly overlay?: OverlayOptions;
}

/** What is changed of the starter configuration. */
interface Starter {
  readonly process: object;
  readonly mounts: readonly object[];
  readonly linux: { readonly namespaces: readonly { readonly type: string }[]; readonly resources: object };
}

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Microseconds. */
const cpuPeriod = 100_000;

const tmpfs = (destination: string, mode: string) => ({
  destination,
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', 'nodev', `mode=${mode}`, 'size=16m'],
});

export async function containerConfig(wish: ContainerWish): Promise<Config> {
  const { rootfs, args, cwd = '/', hostname = 'container', annotations = {}, network = 'own' } = wish;
  const { memoryBytes, pids, cpus, terminal = false, overlay } = wish;
  const starter: Starter = JSON.parse(defaultSpecText());
  const env = { PATH: path, HOME: '/root', TERM: 'xterm-256color', ...wish.env };
  const inMemory = [tmpfs('/tmp', '1777'), tmpfs('/run', '755'), tmpfs('/root', '700')];
  const document = {
    ...starter,
    hostname,
    annotations,
    root: { path: rootfs, readonly: overlay === undefined },
    process: {
      ...starter.process,
      args,
      cwd,
      terminal,
      env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    },
    mounts: [
      ...starter.mounts,
      ...(overlay === undefined
        ? inMemory.filter(({ destination }) => existsSync(rootfs + destination))
        : []),
    ],
    linux: {
      ...starter.linux,
      namespaces: starter.linux.namespaces.filter(({ type }) => type !== 'network' || network === 'own'),
      resources: {
        ...starter.linux.resources,
        ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes } }),
        ...(pids === undefined ? {} : { pids: { limit: pids } }),
        ...(cpus === undefined ? {} : { cpu: { period: cpuPeriod, quota: Math.round(cpus * cpuPeriod) } }),
      },
    },
  };
  const options = overlay === undefined ? {} : { overlay };
  return configFromSpec(JSON.parse(JSON.stringify(document)), rootfs, options);
}
