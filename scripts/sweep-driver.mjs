// The process under `sweep`: for each line on stdin it starts a container (or a process in one) and says what became of it.
// It runs the built library, as a daemon would.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [dist, root] = process.argv.slice(2);
const { LinuxFactory, loadConfig, Process } = await import(pathToFileURL(dist).href);
const factory = new LinuxFactory({ root });

const text = async stream => {
  const parts = [];
  for await (const part of stream ?? []) parts.push(part);
  return Buffer.concat(parts).toString();
};

async function once({ id, bundle, enter }) {
  const config = await loadConfig(bundle);
  const container = await factory.create(id, config);
  let output = '';
  try {
    // A container that is entered stands still; else its own process is the one that looks.
    const standing = { ...config.process, args: ['/bin/sleep', '1000'], cwd: '/', user: { uid: 0, gid: 0 } };
    const first = new Process(
      enter
        ? { ...standing, stdout: 'ignore', stderr: 'ignore' }
        : { ...config.process, stdout: 'pipe', stderr: 'ignore' },
    );
    if (enter) {
      await container.run(first);
      process.stdout.write(`${JSON.stringify({ standing: true })}\n`);
      await go();
    }
    const looking = enter ? new Process({ ...config.process, stdout: 'pipe', stderr: 'ignore' }) : first;
    await (enter ? container.start(looking) : container.run(looking));
    output = await text(looking.stdout);
    await looking.wait();
    return { outcome: 'ran', output };
  } catch (error) {
    return {
      outcome: 'refused',
      code: error?.code ?? String(error),
      message: String(error?.message ?? error),
    };
  } finally {
    await container.destroy({ force: true });
  }
}

let goOn = () => undefined;
const go = () =>
  new Promise(resolve => {
    goOn = resolve;
  });

const lines = createInterface({ input: process.stdin });
lines.on('line', line => {
  if (line === 'go') goOn();
  else once(JSON.parse(line)).then(result => process.stdout.write(`${JSON.stringify(result)}\n`));
});
lines.on('close', () => process.exit(0));
