/** Hands an HTTP request on to another server of the stack and streams the answer back. */
import { Agent, type IncomingMessage, request, type ServerResponse } from 'node:http';

/**
 * Connections to the parts stay open, since a new one for every request would show in what is measured, and are closed
 * here before the parts do (PostgREST after 30 s), so that no request meets one that is just ending.
 */
const agent = new Agent({ keepAlive: true, timeout: 15_000 });

/** Headers that belong to one connection and are not passed on. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'proxy-authorization',
  'te',
]);

/**
 * @param target where to send it, with the path to use there
 * @param headers set on top of the request's own
 * @param onFailure answers when the target cannot be reached or breaks off before it has answered
 */
export function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  target: URL,
  headers: Readonly<Record<string, string>>,
  onFailure: () => void,
): void {
  const kept = Object.entries(incoming.headers).filter(([name]) => !hopByHop.has(name));
  const onward = request(
    target,
    { agent, method: incoming.method ?? 'GET', headers: { ...Object.fromEntries(kept), ...headers } },
    (answer) => {
      const answerHeaders = Object.entries(answer.headers).filter(([name]) => !hopByHop.has(name));
      outgoing.writeHead(answer.statusCode ?? 502, Object.fromEntries(answerHeaders));
      answer.pipe(outgoing);
      answer.on('error', () => outgoing.destroy());
      answer.on('end', letGo);
    },
  );
  // An answer may come before the request was read to its end. The rest is read and dropped: otherwise the caller's next
  // request on the same connection would wait behind it for ever.
  const letGo = () => {
    incoming.unpipe(onward);
    incoming.resume();
  };
  onward.on('error', () => {
    letGo();
    if (outgoing.headersSent) outgoing.destroy();
    else onFailure();
  });
  // When the caller gives up, the request to the target ends too.
  outgoing.on('close', () => {
    if (!outgoing.writableEnded) onward.destroy();
  });
  incoming.pipe(onward);
}

/** Answers with JSON. */
export function answerJson(outgoing: ServerResponse, status: number, body: unknown): void {
  outgoing.writeHead(status, { 'content-type': 'application/json' });
  outgoing.end(JSON.stringify(body));
}
