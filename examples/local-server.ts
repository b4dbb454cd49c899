/**
 * An HTTP server for one person on this machine. What it offers is as good as a root shell, so loopback alone is no fence:
 * other users of the machine reach it, and so does every web page that the person opens.
 *
 * - A token in the URL, once; then a cookie that no page of another site makes the browser send, and no script reads.
 * - The Host header must be ours: a foreign name that resolves to 127.0.0.1 (DNS rebinding) would make its page ours.
 * - What changes something, and a WebSocket, must come from our own page by its Origin: cookies do not know ports.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export type Route = (request: IncomingMessage, response: ServerResponse, url: URL) => void | Promise<void>;

export interface LocalServerOptions {
  /** By method and path, as `GET /events`. */
  readonly routes: { readonly [methodAndPath: string]: Route };
  readonly token?: string;
  /** Of a request for a WebSocket that is allowed. */
  readonly upgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
/** In a time that does not tell how much of it is right. */
const isSame = (given: string, expected: string): boolean => timingSafeEqual(digest(given), digest(expected));

export const newToken = (): string => randomBytes(32).toString('hex');

export class LocalServer {
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #routes: LocalServerOptions['routes'];
  readonly #token: string;
  #port = 0;

  constructor({ routes, token = newToken(), upgrade }: LocalServerOptions) {
    this.#routes = routes;
    this.#token = token;
    this.#server.on('upgrade', (request, socket, head) => {
      const refused = this.#refusal(request, false);
      if (refused === undefined && upgrade !== undefined) upgrade(request, socket, head);
      else socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n');
    });
  }

  /** @returns The URL to open, with the token. */
  async listen(port: number): Promise<string> {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    this.#port = typeof address === 'object' && address !== null ? address.port : port;
    return `http://127.0.0.1:${this.#port}/?token=${this.#token}`;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  /** Why a request is not answered. @param isReading It changes nothing, and its answer is hidden from foreign pages. */
  #refusal({ headers }: IncomingMessage, isReading: boolean): string | undefined {
    const { host = '', origin, authorization = '', cookie = '' } = headers;
    if (![`127.0.0.1:${this.#port}`, `localhost:${this.#port}`].includes(host)) return 'not our name';
    // No browser sends this by itself: for curl and Prometheus.
    if (isSame(authorization, `Bearer ${this.#token}`)) return undefined;
    const cookies = cookie.split(/;\s*/);
    if (!cookies.some(one => isSame(one, `${this.#cookie}=${this.#token}`)))
      return 'no token: open the URL that was printed at the start';
    if (!isReading && origin !== `http://${host}`) return 'the page of somebody else';
    return undefined;
  }

  get #cookie(): string {
    return `token-${this.#port}`;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET' } = request;
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.setHeader('Cache-Control', 'no-store');
    try {
      const url = new URL(request.url ?? '/', `http://127.0.0.1:${this.#port}`);
      if (method === 'GET' && url.pathname === '/' && url.searchParams.has('token'))
        this.#enter(url, response);
      else {
        const refused = this.#refusal(request, method === 'GET');
        const route = this.#routes[`${method} ${url.pathname}`];
        if (refused !== undefined) reply(response, 403, refused);
        else if (route === undefined) reply(response, 404, 'not here');
        else await route(request, response, url);
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (response.headersSent) response.destroy();
      else reply(response, 500, text);
    }
  }

  /** The token becomes a cookie and leaves the address bar. */
  #enter(url: URL, response: ServerResponse): void {
    if (isSame(url.searchParams.get('token') ?? '', this.#token)) {
      response.setHeader('Set-Cookie', `${this.#cookie}=${this.#token}; HttpOnly; SameSite=Strict; Path=/`);
      response.setHeader('Location', '/');
      reply(response, 303, '');
    } else reply(response, 403, 'another token');
  }
}

export function reply(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

/** A page whose own scripts run and nobody else's, and that no other page can frame. */
export function sendPage(response: ServerResponse, page: string): void {
  const nonce = randomBytes(16).toString('base64');
  const policy = [
    "default-src 'none'",
    `script-src 'self' 'nonce-${nonce}'`,
    "style-src 'self' 'unsafe-inline'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  response.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': policy.join('; '),
  });
  response.end(page.replaceAll('<script>', `<script nonce="${nonce}">`));
}
