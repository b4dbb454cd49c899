/**
 * What the tests of container engines share: nrunc as one executable file (as docs/engines.md installs it), an image made
 * without a registry, commands, and facts that are the same under both runtimes.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { rootfs } from '../harness/bundle.ts';
import { waitFor } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import { nruncPath, type Result, type RunOptions, start } from '../integration/cli-fixture.ts';

export type Runtime = 'runc' | 'nrunc';
/** The control first: what it cannot do here is no fault of ours. */
export const runtimes: readonly Runtime[] = ['runc', 'nrunc'];
export const image = 'localhost/test:1';

const closers: (() => unknown)[] = [];
/** At the end of the file, the last one first: an engine serves all tests of its file. */
export const atEnd = (close: () => unknown): void => void closers.push(close);
after(async () => {
  for (const close of closers.reverse()) await close();
});

/** Parents that engines make for their containers' cgroups and leave behind, as pods theirs; what was there before is not ours. */
const parents = ['docker', 'libpod_parent', 'test-engines'];
function cgroupParents(): string[] {
  const hierarchies = readdirSync('/sys/fs/cgroup').map(name => join('/sys/fs/cgroup', name));
  return ['/sys/fs/cgroup', ...hierarchies]
    .flatMap(at => parents.map(name => join(at, name)).filter(path => existsSync(path)))
    .flatMap(path => [path, ...cgroupsIn(path)]);
}
const cgroupsIn = (directory: string): string[] =>
  readdirSync(directory, { withFileTypes: true }).flatMap(entry =>
    entry.isDirectory() ? [join(directory, entry.name)] : [],
  );
const others = cgroupParents();
function removeCgroups(directory: string): void {
  for (const below of cgroupsIn(directory)) removeCgroups(below);
  rmdirSync(directory);
}
// The first here is the last to be done.
atEnd(() => {
  // cpu and cpuacct may be two names of one directory.
  for (const path of cgroupParents()) if (!others.includes(path) && existsSync(path)) removeCgroups(path);
});

/** A directory on tmpfs, gone at the end of the file, with what may still be mounted in it. */
export function engineDirectory(word: string): string {
  const parent = process.geteuid?.() === 0 ? '/run' : tmpdir();
  const directory = mkdtempSync(join(parent, `test-${word}-`));
  atEnd(() => {
    unmountBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** Storage drivers bind-mount their own directories; the latest mount goes first. */
export function unmountBelow(directory: string): void {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${directory}/`));
  for (const point of points.reverse()) execFileSync('umount', ['-l', point]);
}

/**
 * conmon starts the runtime with an environment that has no PATH, so `#!/usr/bin/env node` finds node only in /usr/bin:
 * the file names its interpreter.
 */
export function installNrunc(directory: string): string {
  const file = join(directory, 'nrunc');
  const script = throughFront ? `${file}-node` : file;
  writeFileSync(script, `#!${process.execPath}\nrequire(${JSON.stringify(nruncPath)});\n`, { mode: 0o755 });
  if (throughFront) {
    copyFileSync(join(projectRoot, 'build/front/nrunc-front'), file);
    chmodSync(file, 0o755);
    serve();
  }
  return file;
}

/** LIBCONTAINER_TEST_FRONT=1: engines get the front, with a server where it looks by itself: conmon passes no environment. */
const throughFront = process.env.LIBCONTAINER_TEST_FRONT === '1';
let serving = false;
function serve(): void {
  if (serving) return;
  serving = true;
  const log = join(engineDirectory('server'), 'log');
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, ...env } = process.env;
  const server = spawn(process.execPath, [nruncPath, '--debug', '--log', log, 'serve'], {
    env,
    stdio: 'inherit',
  });
  atEnd(async () => {
    server.kill('SIGTERM');
    await waitFor(server, 'exit');
    const said = readFileSync(log, 'utf8');
    const count = (word: string): number => said.split(`msg="${word}: `).length - 1;
    console.log(`# the server has answered ${count('answered')} and declined ${count('declined')}`);
    if (count('answered') === 0) throw new Error('no engine has reached the server');
  });
  const until = 'until [ -S /run/libcontainer/@serve ]; do sleep 0.1; done';
  execFileSync('sh', ['-c', until], { timeout: 60_000 });
}

export const runcPath = (): string => execFileSync('which', ['runc'], { encoding: 'utf8' }).trim();

/** An archive as `docker save` makes it: one layer with the test rootfs. */
export function imageArchive(directory: string, command: readonly string[] = ['/bin/sh']): string {
  const tree = mkdtempSync(join(directory, 'image-'));
  const tar = (file: string, from: string, ...names: string[]): void => {
    execFileSync('tar', [
      ...['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'],
      ...['-C', from, '-cf', file, ...names],
    ]);
  };
  tar(join(tree, 'layer.tar'), rootfs, '.');
  const digest = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
  const created = '2020-01-01T00:00:00Z';
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    created,
    config: { Env: ['PATH=/bin:/usr/bin'], Cmd: command },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest(readFileSync(join(tree, 'layer.tar')))}`] },
    history: [{ created, created_by: 'test' }],
  });
  const name = `${digest(config)}.json`;
  writeFileSync(join(tree, name), config);
  writeFileSync(
    join(tree, 'manifest.json'),
    JSON.stringify([{ Config: name, RepoTags: [image], Layers: ['layer.tar'] }]),
  );
  const archive = `${tree}.tar`;
  tar(archive, tree, 'manifest.json', name, 'layer.tar');
  rmSync(tree, { recursive: true });
  return archive;
}

export type Engine = (words: readonly string[], options?: RunOptions) => Promise<Result>;

/** The command's output; anything but success is an error that says what was said. */
export async function output(
  engine: Engine,
  words: readonly string[],
  options?: RunOptions,
): Promise<string> {
  const { code, stdout, stderr } = await engine(words, options);
  if (code !== 0) throw new Error(`${words.join(' ')}: exit code ${code}: ${stderr}${stdout}`);
  return stdout.trim();
}

export const run = (file: string, words: readonly string[], options?: RunOptions): Promise<Result> =>
  start(file, words, options).ended();

/** In a terminal of its own (script(1)): exit code and what was shown. */
export function inTerminal(file: string, words: readonly string[], options?: RunOptions): Promise<Result> {
  const line = [file, ...words].map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  return run('script', ['-qefc', line, '/dev/null'], { ...options, openInput: true });
}

/** A container's limits as the kernel has them, on either version of cgroups. */
export class Cgroup {
  readonly #directories = new Map<string, string>();
  readonly #v2: boolean;

  constructor(pid: number) {
    const text = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    this.#v2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
    for (const [, controllers = '', path = ''] of text.matchAll(/^\d+:([^:]*):(.*)$/gm))
      for (const controller of controllers.split(','))
        this.#directories.set(controller, join('/sys/fs/cgroup', controller.replace(/^name=/, ''), path));
  }

  directory(controller: string): string {
    return this.#directories.get(this.#v2 ? '' : controller) ?? '';
  }

  #read(controller: string, file: string): string {
    return readFileSync(join(this.directory(controller), file), 'utf8').trim();
  }

  /** Bytes of memory, number of processes, microseconds of processor time in a period. */
  limits(): readonly string[] {
    if (this.#v2) return ['memory.max', 'pids.max', 'cpu.max'].map(file => this.#read('', file));
    const [quota, period] = ['quota', 'period'].map(word => this.#read('cpu', `cpu.cfs_${word}_us`));
    return [
      this.#read('memory', 'memory.limit_in_bytes'),
      this.#read('pids', 'pids.max'),
      `${quota === '-1' ? 'max' : quota} ${period}`,
    ];
  }

  frozen(): boolean {
    if (this.#v2) return /frozen 1/.test(this.#read('', 'cgroup.events'));
    return this.#read('freezer', 'freezer.state') === 'FROZEN';
  }

  gone(): boolean {
    return !existsSync(this.directory('memory'));
  }
}

export const underSystemd = existsSync('/run/systemd/system');

/** State of containers that nrunc keeps where engines that give no --root look for it. */
export function keptStates(root = '/run/libcontainer'): string[] {
  return existsSync(root) ? readdirSync(root).filter(name => !name.startsWith('@serve')) : [];
}

/** What a process in the container sees; host names, numbers of mounts and layers differ by nature. */
export const factsScript = [
  "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status",
  'cat /proc/self/uid_map /proc/self/gid_map /proc/self/oom_score_adj',
  'cat /proc/self/attr/current 2>/dev/null | tr -d "\\000"',
  "cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/ (shared|master|propagate_from):[0-9]+//g; s/^[^ ]* //'",
  'ls -ln /dev | tail -n +2 | sed -E "s/ [A-Z][a-z]{2} .* / /"',
  'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight 2>/dev/null',
  'env | sort | grep -vE "^(HOSTNAME|container|SHLVL|_)="',
  'ulimit -a; umask; pwd; cat /proc/self/limits',
  'for n in cgroup ipc mnt net pid uts user; do [ "$(readlink /proc/self/ns/$n)" = "$(readlink /proc/1/ns/$n)" ] && echo same $n; done',
].join('; ');

/**
 * What is different by intent: a masked directory of ours holds nothing (size, nr_inodes), a tmpfs has the mode of the
 * directory below it from its mount on (runc changes it afterwards).
 */
const intended = /(?:,size=4k,nr_inodes=1|,mode=755)(?=(?:,inode64)?$)/;
/** runc 1.1 leaves the directory of the hierarchies of cgroup v1 writable when the mount is to be read-only. */
const cgroupDirectory = /^(\/sys\/fs\/cgroup) r[ow],(.* - tmpfs )/;

/** Lines in an order of their own: Podman gives its mounts in another one each time. @param names What is different in each container, and what stands for it. */
export function comparable(facts: string, names: { readonly [text: string]: string }): string[] {
  let text = facts;
  for (const [name, word] of Object.entries(names)) if (name !== '') text = text.replaceAll(name, word);
  return text
    .replace(/lowerdir=\S+/g, 'lowerdir=…')
    .replace(/\b[0-9a-f]{64}\b/g, '<id>')
    .split('\n')
    .map(line => line.replace(intended, '').replace(cgroupDirectory, '$1 $2'))
    .sort();
}

export function makeTree(...directories: readonly string[]): void {
  for (const directory of directories) mkdirSync(directory, { recursive: true });
}
