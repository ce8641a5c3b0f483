/**
 * In front of the gateway: answers as a troubled Upstash does, which a healthy gateway cannot be made to. Everything
 * else goes through unchanged.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Which requests a fault concerns: those whose body matches. */
type Matching = Pick<RegExp, 'test'>;

export type Fault =
  | { readonly kind: 'none' }
  /** Answers with this status and body and does nothing. */
  | { readonly kind: 'answer'; readonly status: number; readonly body: string; readonly only?: Matching }
  /** Never answers. */
  | { readonly kind: 'silent'; readonly only?: Matching }
  /** Breaks the connection. */
  | { readonly kind: 'break' }
  /** Carries the request out, then says nothing: Redis did it, the worker cannot know. */
  | { readonly kind: 'swallow-answer'; readonly only?: Matching };

export interface UpstashFaults {
  readonly url: string;
  set(fault: Fault): void;
  /** Resolves when a request whose body matches arrives from now on. */
  request(pattern: RegExp): Promise<string>;
  /** Bodies of all requests so far. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

export async function startUpstashFaults(gatewayUrl: string): Promise<UpstashFaults> {
  let fault: Fault = { kind: 'none' };
  const requests: string[] = [];
  const waiting = new Set<(body: string) => void>();
  const server = createServer((incoming, outgoing) => {
    void handle(incoming, outgoing).catch(() => outgoing.destroy());
  });

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    requests.push(body);
    for (const look of [...waiting]) look(body);
    const now = fault;
    const concerned =
      now.kind !== 'none' && (!('only' in now) || now.only === undefined || now.only.test(body));
    if (concerned && now.kind === 'answer') {
      outgoing.writeHead(now.status, { 'content-type': 'application/json' }).end(now.body);
      return;
    }
    if (concerned && now.kind === 'silent') return;
    if (concerned && now.kind === 'break') {
      outgoing.destroy();
      return;
    }
    const headers = Object.fromEntries(
      Object.entries(incoming.headers).filter(
        ([name]) => !['host', 'connection', 'content-length'].includes(name),
      ),
    ) as Record<string, string>;
    const answer = await fetch(`${gatewayUrl}${incoming.url === '/' ? '' : (incoming.url ?? '')}`, {
      method: incoming.method ?? 'POST',
      headers,
      ...(body === '' ? {} : { body }),
    });
    const text = await answer.text();
    if (concerned && now.kind === 'swallow-answer') return;
    outgoing.writeHead(answer.status, { 'content-type': 'application/json' }).end(text);
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    set: (next) => {
      fault = next;
    },
    request: (pattern) =>
      new Promise((resolve) => {
        const look = (body: string) => {
          if (!pattern.test(body)) return;
          waiting.delete(look);
          resolve(body);
        };
        waiting.add(look);
      }),
    requests,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
