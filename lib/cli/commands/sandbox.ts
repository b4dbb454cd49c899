/** `nrunc sandbox`: a command in a sandbox of its own, in the foreground. Its exit code is the command's. */
import { isatty } from 'node:tty';
import type { SandboxMount, SandboxOptions } from '../../sandbox/sandbox.ts';
import { exitCode } from '../exit-code.ts';
import { Foreground } from '../foreground.ts';
import type { Invocation } from '../invocation.ts';
import type { Options } from '../options.ts';
import { sizeBytes } from '../size.ts';
import { UsageError } from '../usage-error.ts';

/** As timeout(1). */
const timedOut = 124;

export async function run(invocation: Invocation): Promise<number> {
  const { options, arguments: argv, globals } = invocation;
  const { newContainer } = await import('../../sandbox/sandbox.ts');
  const wanted = sandboxOptions(options);
  const root = globals.has('root') ? { root: invocation.root } : {};
  const { container, config } = await newContainer({ ...wanted, ...root });
  const terminal = options.flag('tty') || (isatty(0) && isatty(1));
  using foreground = new Foreground({ ...config.process, args: argv, terminal });
  let timer: NodeJS.Timeout | undefined;
  let late = false;
  try {
    await container.run(foreground.process);
    const timeoutMs = options.durationMs('timeout');
    if (timeoutMs !== undefined)
      timer = setTimeout(() => {
        late = true;
        foreground.process.signal('SIGKILL');
      }, timeoutMs);
    foreground.started();
    const status = await foreground.ended();
    return late ? timedOut : exitCode(status);
  } finally {
    clearTimeout(timer);
    await container.destroy({ force: true });
  }
}

/** Exported for its test. */
export function sandboxOptions(options: Options): SandboxOptions {
  const memory = options.text('memory');
  const rootfs = options.text('rootfs');
  const cwd = options.text('cwd');
  const hostname = options.text('hostname');
  return {
    ...(rootfs === undefined ? {} : { rootfs }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(memory === undefined ? {} : { memoryBytes: sizeBytes(memory) }),
    ...(options.has('pids') ? { pids: options.number('pids') } : {}),
    ...(options.has('cpus') ? { cpus: Number(options.text('cpus')) } : {}),
    network: options.flag('network'),
    mounts: [
      ...options.list('ro').map(text => mountOf(text, false)),
      ...options.list('rw').map(text => mountOf(text, true)),
    ],
    env: Object.fromEntries(options.list('env').map(variable)),
  };
}

/** `SOURCE` or `SOURCE:DESTINATION`. */
function mountOf(text: string, writable: boolean): SandboxMount {
  const [source = '', destination] = text.split(/:(.*)/s);
  return { source, ...(destination === undefined ? {} : { destination }), writable };
}

/** `NAME=value`, or `NAME` for this process's own value. */
function variable(text: string): readonly [string, string] {
  const [name = '', value = process.env[name]] = text.split(/=(.*)/s);
  if (name === '' || value === undefined)
    throw new UsageError(`--env: ${JSON.stringify(text)} is not NAME=value`);
  return [name, value];
}
