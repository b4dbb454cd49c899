/** A factory over a state root of its own and a Config; what a test leaves is destroyed with force at its end. */
import type { Config } from '../../lib/config/config.ts';
import { type Container, LinuxFactory, loadConfig, Process, type ProcessOptions } from '../../lib/index.ts';
import { type BundleOptions, containerId, makeBundle, makeStateRoot } from '../harness/bundle.ts';
import type { TestContext } from '../harness/test.ts';
import './warm.ts';

export interface Fixture {
  readonly factory: LinuxFactory;
  readonly root: string;
  readonly bundle: string;
  readonly config: Config;
  create(): Promise<Container>;
  /** The bundle's process with these options; `sh` is the shell's `-c` text. */
  process(options?: Partial<ProcessOptions>): Process;
  sh(text: string, options?: Partial<ProcessOptions>): Process;
  /** run, collect stdout, wait, destroy. */
  output(text: string, options?: Partial<ProcessOptions>): Promise<string>;
}

export async function fixture(
  t: TestContext,
  options: BundleOptions & { readonly systemdCgroup?: boolean } = {},
): Promise<Fixture> {
  const root = makeStateRoot(t);
  const bundle = makeBundle(t, options);
  const config = await loadConfig(bundle, { systemdCgroup: options.systemdCgroup ?? false });
  const factory = new LinuxFactory({ root });
  const made: string[] = [];
  // Registered after the state root's own check and therefore too late for it: so it is called first, by hand.
  const clean = async (): Promise<void> => {
    for (const id of made) {
      const left = await factory.load(id).catch(() => undefined);
      await left?.destroy({ force: true });
    }
  };
  t.after(clean);
  const process = (more: Partial<ProcessOptions> = {}): Process =>
    new Process({ args: ['/bin/true'], ...config.process, ...more });
  const sh = (text: string, more: Partial<ProcessOptions> = {}): Process =>
    process({ args: ['/bin/sh', '-c', text], ...more });
  const create = async (): Promise<Container> => {
    const id = containerId();
    made.push(id);
    return factory.create(id, config);
  };
  const output = async (text: string, more: Partial<ProcessOptions> = {}): Promise<string> => {
    const container = await create();
    const running = sh(text, { stdout: 'pipe', ...more });
    await container.run(running);
    const parts: Buffer[] = [];
    for await (const part of running.stdout ?? []) parts.push(Buffer.from(part));
    await running.wait();
    await container.destroy();
    return Buffer.concat(parts).toString();
  };
  return { factory, root, bundle, config, create, process, sh, output };
}
