/** The dashboard of examples/supervisor in a real browser, with real containers. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../harness/bundle.ts';
import { eventually } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import { browse, isForDocumentation, screenshot } from './chromium.ts';
import { runExample } from './example-process.ts';
import './warm.ts';

test('the dashboard shows live values of a container and drives it', {
  requires: ['root', 'chromium', 'controller:memory', 'lane:host'],
  timeoutMs: isForDocumentation ? 240_000 : 90_000,
}, async t => {
  const directory = makeDirectory(t);
  const running = await runExample(
    t,
    'node scripts/example.mjs supervisor',
    ['--directory', directory, '--port', '0', ...(isForDocumentation ? [] : ['--sample-ms', '200'])],
    join(directory, 'state'),
  );
  const { page, problems } = await browse(t, running.url);
  assert.equal(page.url(), `${running.origin}/`, 'the token left the address bar');
  const text = (selector: string) => page.$eval(selector, element => element.textContent ?? '');
  const until = (what: string, selector: string, pattern: RegExp) =>
    eventually(what, async () => pattern.exec(await text(selector).catch(() => '')) ?? undefined, 20_000);

  await until('the connection', '#link', /live/);
  await page.click('[data-service=worker]');
  const pid = Number((await until('the pid', '#facts', /pid (\d+)/))[1]);
  assert.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), /worker/);

  // The plots follow what the container does: the curve and the number change by themselves.
  await until('processor time', '#cpu .now', /^(?!0\.0)[\d.]+ %$/);
  await until('memory', '#memory .now', /^[\d.]+ [KM]iB$/);
  const curve = () => page.$eval('#cpu path.curve', element => element.getAttribute('d') ?? '');
  const before = await curve();
  await eventually('a curve that moves', async () => (await curve()).length > before.length + 10);
  const limit = Number(
    [`/sys/fs/cgroup/memory`, '/sys/fs/cgroup']
      .map(root =>
        join(root, /memory:(\S+)|^0::(\S+)/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''),
      )
      .flatMap(path => ['memory.limit_in_bytes', 'memory.max'].map(name => join(path, name)))
      .filter(path => existsSync(path))
      .map(path => readFileSync(path, 'utf8'))[0],
  );
  assert.equal(limit, 32 << 20);
  await until('the limit that the cgroup has', '#memory .legend', /^of 32\.0 MiB$/);
  if (existsSync('/proc/pressure/cpu')) await until('pressure', '#pressure .now', /^[\d.]+ %$/);
  else await until('the word that there is none', '#pressure', /no pressure information/);

  // The start plan with times, and the log.
  const plan = await page.$$eval('#plan li', rows => rows.map(row => row.textContent ?? ''));
  assert.ok(
    plan.some(row => /pivotRoot/.test(row)) && plan.some(row => /\d+\.\d (µs|ms)$/.test(row)),
    plan.join('\n'),
  );
  await until('a line of the log', '#log', /batch \d+ done/);

  // A click restarts it: seen in the page and by the kernel.
  await page.click('[data-action=restart]');
  const next = await eventually('another pid', async () => {
    const found = Number(/pid (\d+)/.exec(await text('#facts'))?.[1] ?? pid);
    return found !== pid && found;
  });
  assert.equal(existsSync(`/proc/${pid}`), false);
  assert.match(readFileSync(`/proc/${next}/cgroup`, 'utf8'), /worker/);
  await until('the event', '#events', new RegExp(`workerstartedpid ${next}`));

  // A kill by somebody else is told too, and the policy answers.
  process.kill(next, 'SIGKILL');
  await until('the end', '#events', /workerexitedsignal SIGKILL/);
  await until('its restart', '#facts', /1 restart /);

  await page.click('[data-action=stop]');
  await until('the stop', '#phase', /^stopped$/);
  await page.click('[data-action=start]');
  await until('the start', '#phase', /^running$/);

  const isLong = () => page.evaluate('services.get("worker").samples.length > 105') as Promise<boolean>;
  if (isForDocumentation) await eventually('long curves', isLong, 150_000);
  await screenshot(page, 'dashboard');
  assert.deepEqual(problems, []);
  assert.equal(await running.end(), 0);
  await until('the word that it is gone', '#link', /connection lost/);
});
