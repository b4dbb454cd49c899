/** Containers as units of systemd, and what systemd says of them. */
import { execFileSync } from 'node:child_process';
import { type Container, LinuxFactory, loadConfig, Process } from '../../lib/index.ts';
import './fixture.ts';
import { containerId, makeBundle, makeStateRoot, type SpecDocument } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import type { TestContext } from '../harness/test.ts';

/** `systemctl show`: the named properties of a unit. */
export function show(unit: string, ...names: readonly string[]): { [name: string]: string } {
  const text = execFileSync('systemctl', ['show', unit, `--property=${names.join(',')}`], {
    encoding: 'utf8',
  });
  const found: { [name: string]: string } = {};
  for (const line of text.split('\n')) {
    const [, name, value = ''] = /^(\w+)=(.*)$/.exec(line) ?? [];
    // A list has a line for each of its values.
    if (name !== undefined) found[name] = found[name] === undefined ? value : `${found[name]}, ${value}`;
  }
  return found;
}

/** Units of ours that systemd knows, in whatever state. */
export function units(pattern: string): string[] {
  const words = ['list-units', '--all', '--plain', '--no-legend', '--full', pattern];
  const text = execFileSync('systemctl', words, { encoding: 'utf8' });
  return text.split('\n').flatMap(line => line.trim().split(/\s+/)[0] || []);
}

/** A unit without job and processes goes when systemd next looks. */
export const noUnits = () => eventually('no unit of ours', () => units('test-sd-*').length === 0);

interface Setup {
  readonly factory: LinuxFactory;
  readonly id: string;
  readonly unit: string;
  readonly container: Container;
  readonly run: (text: string) => Promise<Process>;
}

export async function setup(
  t: TestContext,
  options: {
    readonly resources?: object;
    readonly annotations?: object;
    readonly slice?: string;
    /** In place of the id; one that ends in `.slice` is the unit. */
    readonly name?: string;
    readonly patch?: (spec: SpecDocument) => void;
  } = {},
): Promise<Setup> {
  const id = containerId('sd');
  const bundle = makeBundle(t, {
    process: { args: ['/bin/sleep', '1000'] },
    patch: (spec: SpecDocument) => {
      spec.linux.cgroupsPath = `${options.slice ?? ''}:test:${options.name ?? id}`;
      Object.assign(spec.linux.resources, options.resources);
      options.patch?.(spec);
      if (options.annotations !== undefined) spec.annotations = { ...options.annotations };
      return spec;
    },
  });
  const factory = new LinuxFactory({ root: makeStateRoot(t) });
  const config = await loadConfig(bundle, { systemdCgroup: true });
  const container = await factory.create(id, config);
  t.after(() => container.destroy({ force: true }));
  const run = async (text: string): Promise<Process> => {
    const process = new Process({ ...config.process, args: ['/bin/sh', '-c', text], cwd: '/' });
    await container.run(process);
    return process;
  };
  const unit = options.name?.endsWith('.slice') === true ? options.name : `test-${options.name ?? id}.scope`;
  return { factory, id, unit, container, run };
}

export const pathOf = (container: { readonly cgroup_paths: { readonly [name: string]: string } }): string =>
  container.cgroup_paths[''] ?? container.cgroup_paths.pids ?? '';
