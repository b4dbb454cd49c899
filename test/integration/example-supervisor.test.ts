/** examples/supervisor: policies, logs, metrics, who may drive it, and what happens when it is killed. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { Log } from '../../examples/supervisor/log.ts';
import { makeDirectory, rootfs } from '../harness/bundle.ts';
import { eventually, waitFor } from '../harness/deadline.ts';
import { type TestContext, test } from '../harness/test.ts';
import { type Message, receive } from './event-source.ts';
import { type RunningExample, runExample } from './example-process.ts';
import { parseOpenMetrics } from './openmetrics.ts';
import './warm.ts';

const command = 'node scripts/example.mjs supervisor';
const steady = { args: ['sh', '-c', "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1 & wait $!; done"] };
const ends = (code: number) => ({ args: ['sh', '-c', `echo ends; exit ${code}`], backoffMs: 20 });

interface Daemon {
  readonly directory: string;
  start(): Promise<RunningExample>;
}

function daemon(t: TestContext, services: { readonly [name: string]: object }): Daemon {
  const directory = makeDirectory(t);
  const file = join(directory, 'services.json');
  const withRootfs = Object.entries(services).map(([name, service]) => [name, { rootfs, ...service }]);
  writeFileSync(file, JSON.stringify({ services: Object.fromEntries(withRootfs) }));
  const more = [file, '--directory', join(directory, 'data'), '--port', '0', '--sample-ms', '100'];
  return {
    directory: join(directory, 'data'),
    start: () => runExample(t, command, more, join(directory, 'data/state')),
  };
}

interface Seen {
  readonly name: string;
  readonly phase: string;
  readonly pid: number;
  readonly restarts: number;
  readonly lastExit?: string;
  readonly report?: {
    readonly durationMs: number;
    readonly steps: readonly { readonly step: string; readonly durationNs: number }[];
  };
}
const serviceOf = (message: Message, name: string): Seen | undefined => {
  const service = message.type === 'service' ? (message.service as Seen) : undefined;
  return service?.name === name ? service : undefined;
};
const incidentOf = (message: Message, name: string, kind: string): string | undefined => {
  const { incident } = message as { readonly incident?: { service: string; kind: string; text: string } };
  return incident?.service === name && incident.kind === kind ? incident.text : undefined;
};

const get = (path: string, { origin, token }: RunningExample) =>
  fetch(`${origin}${path}`, { headers: { authorization: `Bearer ${token}` } });
const post = (path: string, { origin, token }: RunningExample) =>
  fetch(`${origin}${path}`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });

test('supervisor: restart policies, logs, metrics, start plan, clean end', {
  requires: ['root', 'controller:memory', 'controller:pids', 'lane:host'],
  timeoutMs: 60_000,
}, async t => {
  const { directory, start } = daemon(t, {
    steady: { ...steady, memoryBytes: 32 << 20, pids: 16 },
    good: { ...ends(0), restart: 'on-failure' },
    bad: { ...ends(3), restart: 'on-failure' },
    never: { ...ends(4), restart: 'never' },
    always: { ...ends(0), restart: 'always' },
    hungry: {
      args: ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=64M count=1'],
      memoryBytes: 8 << 20,
      restart: 'never',
    },
    broken: { args: ['/no/such/program'], restart: 'never' },
  });
  const running = await start();
  const events = await receive(t, running);
  for (const name of ['bad', 'always'])
    await events.until(
      `the second restart of ${name}`,
      message => (serviceOf(message, name)?.restarts ?? 0) >= 2,
    );
  for (const name of ['good', 'never', 'hungry']) {
    const end = await events.until(`the end of ${name}`, message => {
      const seen = serviceOf(message, name);
      return seen?.phase === 'stopped' && seen.lastExit !== undefined && seen;
    });
    assert.equal(end.restarts, 0);
    assert.match(
      end.lastExit ?? '',
      { good: /^status 0$/, never: /^status 4$/, hungry: /out of memory$/ }[name] ?? /^$/,
    );
  }
  await events.until('the word about a program that is not there', message =>
    incidentOf(message, 'broken', 'error'),
  );

  const seen = await events.until('steady runs', message => {
    const service = serviceOf(message, 'steady');
    return service?.phase === 'running' && service;
  });
  const kinds = seen.report?.steps.map(({ step }) => step) ?? [];
  assert.ok(kinds.includes('pivotRoot') && kinds.at(-1) === 'exec', kinds.join(' '));
  assert.ok(seen.report?.steps.some(({ durationNs }) => durationNs > 0));
  assert.match(readFileSync(`/proc/${seen.pid}/cgroup`, 'utf8'), /steady/);

  await events.until(
    'a line',
    message => message.type === 'line' && message.service === 'steady' && message.line === 'tick',
  );
  assert.match(readFileSync(join(directory, 'logs/bad.log'), 'utf8'), /^ends\nends\n/);
  assert.equal(statSync(join(directory, 'token')).mode & 0o777, 0o600);

  const response = await eventually('metrics of steady', async () => {
    const answer = await get('/metrics', running);
    const text = await answer.text();
    return text.includes('container_memory_bytes{service="steady"}') && { answer, text };
  });
  assert.equal(
    response.answer.headers.get('content-type'),
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
  );
  const families = parseOpenMetrics(response.text);
  const value = (family: string, service: string) =>
    families.get(family)?.samples.find(({ labels }) => labels.service === service)?.value;
  assert.equal(value('supervisor_service_up', 'steady'), 1);
  assert.equal(value('supervisor_service_up', 'never'), 0);
  assert.ok((value('supervisor_service_restarts', 'bad') ?? 0) >= 2);
  assert.equal(value('supervisor_service_oom_kills', 'hungry'), 1);
  assert.equal(value('container_memory_limit_bytes', 'steady'), 32 << 20);
  assert.ok((value('container_memory_bytes', 'steady') ?? 0) > 0);
  assert.ok((value('container_cpu_seconds', 'steady') ?? 0) > 0);

  assert.equal((await post('/stop?service=steady', running)).status, 204);
  assert.equal(existsSync(`/proc/${seen.pid}`), false);
  assert.equal(await running.end(), 0);
  assert.deepEqual(readdirSync(join(directory, 'state')), []);
});

test('supervisor: a killed one leaves its containers running, and the next one takes them over', {
  requires: ['root', 'lane:host'],
  timeoutMs: 60_000,
}, async t => {
  const { directory, start } = daemon(t, {
    steady,
    short: { args: ['sleep', '1000'], stopSignal: 'KILL', backoffMs: 20, restart: 'on-failure' },
  });
  const first = await start();
  const before = await receive(t, first);
  const pidOf = (events: typeof before, name: string) =>
    events.until(`${name} runs`, message => {
      const service = serviceOf(message, name);
      return service?.phase === 'running' && service.pid;
    });
  const [steadyPid, shortPid] = [await pidOf(before, 'steady'), await pidOf(before, 'short')];
  await assert.rejects(start(), /another supervisor/);

  first.child.kill('SIGKILL');
  await waitFor(first.child, 'exit');
  const log = join(directory, 'logs/steady.log');
  const size = statSync(log).size;
  await eventually('output without a daemon', () => statSync(log).size > size);
  process.kill(shortPid, 'SIGKILL');

  const second = await start();
  assert.equal(second.token, first.token);
  const after = await receive(t, second);
  assert.equal(
    await after.until('adopted', message => incidentOf(message, 'steady', 'adopted')),
    `pid ${steadyPid}`,
  );
  assert.equal(
    await after.until('how it ended meanwhile', message => incidentOf(message, 'short', 'exited')),
    'signal SIGKILL',
  );
  assert.notEqual(await pidOf(after, 'short'), shortPid);
  assert.ok(
    (await after.until('the plan of the start before', message => serviceOf(message, 'steady')?.report)).steps
      .length > 10,
  );
  await after.until('a sample', message => message.type === 'sample' && message.service === 'steady');
  assert.equal((await post('/restart?service=steady', second)).status, 204);
  assert.equal(existsSync(`/proc/${steadyPid}`), false);
  assert.equal((await post('/stop?service=short', second)).status, 204);
  assert.equal(await second.end(), 0);
  assert.deepEqual(readdirSync(join(directory, 'state')), []);
});

test('supervisor: nobody else drives it', { requires: ['root', 'lane:host'] }, async t => {
  const running = await daemon(t, { steady }).start();
  const { origin, token, url } = running;
  const { port, host } = new URL(origin);
  const entry = await fetch(url, { redirect: 'manual' });
  const cookie = (entry.headers.get('set-cookie') ?? '').split(';')[0] ?? '';
  assert.match(entry.headers.get('set-cookie') ?? '', /HttpOnly; SameSite=Strict/);
  assert.equal(entry.headers.get('location'), '/');
  // fetch() sets Host and Origin by itself.
  const ask = (method: string, path: string, headers: { readonly [name: string]: string }) =>
    new Promise<number | undefined>((give, fail) => {
      const sent = request(
        { host: '127.0.0.1', port, method, path, headers: { host, ...headers } },
        response => {
          response.resume();
          give(response.statusCode);
        },
      );
      sent.on('error', fail).end();
    });
  const stop = '/stop?service=steady';
  assert.equal(await ask('GET', '/', {}), 403);
  assert.equal(await ask('GET', '/?token=wrong', {}), 403);
  assert.equal(await ask('GET', '/metrics', { cookie: `token-${port}=wrong` }), 403);
  assert.equal(await ask('GET', '/', { cookie }), 200);
  assert.equal(await ask('GET', '/', { cookie, host: `evil.example:${port}` }), 403, 'DNS rebinding');
  assert.equal(await ask('POST', stop, {}), 403);
  assert.equal(await ask('POST', stop, { cookie }), 403, 'a form of another page');
  assert.equal(await ask('POST', stop, { cookie, origin: 'http://127.0.0.1:1' }), 403, 'another port');
  assert.equal(await ask('POST', stop, { cookie, origin: 'null' }), 403);
  assert.equal(await ask('GET', stop, { cookie, origin }), 404);
  assert.equal(await ask('POST', '/stop?service=none', { authorization: `Bearer ${token}` }), 404);
  assert.equal(await ask('POST', stop, { cookie, origin }), 204);
  assert.equal(await running.end(), 0);
});

// Node keeps the descriptor of inotify(7) that its first watch has opened.
test('supervisor: a log that has grown begins anew, and a line has a limit', {
  requires: ['root', 'lane:host'],
  leaks: false,
}, async t => {
  const path = join(makeDirectory(t), 'service.log');
  writeFileSync(path, 'from before\n');
  const heard: string[] = [];
  const log = await Log.open(path, line => heard.push(line));
  t.after(() => log.close());
  assert.deepEqual([log.lines, heard], [['from before'], []]);
  const mebibyte = `${'x'.repeat(1023)}\n`.repeat(1024);
  for (let count = 0; count < 9; count += 1) writeSync(log.fd, mebibyte);
  writeSync(log.fd, 'the last of them\n');
  await eventually('the last line', () => heard.at(-1) === 'the last of them');
  await eventually('an empty file', () => statSync(path).size === 0);
  assert.ok(statSync(`${path}.1`).size > 9 << 20);
  assert.equal(log.lines.length, 500);
  writeSync(log.fd, 'y'.repeat(10_000));
  await eventually('a line without an end', () => heard.at(-1) === 'y'.repeat(4096));
});
