/** The web side of the supervisor: the page, what it shows as server-sent events, its buttons, and the metrics. */
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import { LocalServer, reply, sendPage } from '../local-server.ts';
import { contentType, metrics } from './metrics.ts';
import { type Action, howItEnded, type Service } from './service.ts';
import type { News, Supervisor } from './supervisor.ts';

const page = readFileSync(new URL('dashboard.html', import.meta.url), 'utf8');
const actions: readonly Action[] = ['start', 'stop', 'restart', 'kill'];
/** A browser that does not read any more gets no further lines and samples: its next connection begins with what is then. */
const mostUnsentBytes = 16 << 20;

export function dashboard(supervisor: Supervisor, token: string): LocalServer {
  return new LocalServer({
    token,
    routes: {
      'GET /': (_, response) => sendPage(response, page),
      'GET /events': (_, response) => follow(supervisor, response),
      'GET /metrics': (_, response) => {
        response.writeHead(200, { 'Content-Type': contentType }).end(metrics(supervisor.services.values()));
      },
      ...Object.fromEntries(
        actions.map(action => [
          `POST /${action}`,
          async (_: unknown, response: ServerResponse, url: URL) => {
            const service = supervisor.services.get(url.searchParams.get('service') ?? '');
            await service?.act(action);
            if (service === undefined) reply(response, 404, 'no such service');
            else response.writeHead(204).end();
          },
        ]),
      ),
    },
  });
}

function follow(supervisor: Supervisor, response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const send = (message: object): void => {
    if (response.writableLength < mostUnsentBytes) response.write(`data: ${JSON.stringify(message)}\n\n`);
    else response.destroy();
  };
  send({ type: 'hello', host: hostname(), pid: process.pid });
  for (const service of supervisor.services.values()) {
    const { name, history, log } = service;
    send(seen(service));
    send({ type: 'history', service: name, samples: history, lines: log.lines });
  }
  for (const incident of supervisor.incidents) send({ type: 'incident', incident });
  const stop = supervisor.listen((news: News) => send(news.type === 'service' ? seen(news.service) : news));
  response.once('close', stop);
}

function seen({ name, definition, phase, pid, startedAt, restarts, lastExit, report }: Service): object {
  return {
    type: 'service',
    service: {
      name,
      phase,
      pid,
      startedAt,
      restarts,
      policy: definition.restart,
      command: definition.args.join(' '),
      lastExit: lastExit === undefined ? undefined : howItEnded(lastExit),
      report,
    },
  };
}
