/**
 * An HTTP server inside this process, as a part: on the loopback interface, with connections that stay open between
 * requests and are cut, not waited for, at stop.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import { once, type Part, PartError } from './part.ts';
import { onFreePort } from './ports.ts';
import { type RunningProcess, startFailure } from './process.ts';

export interface HttpOptions {
  readonly name: string;
  readonly listener: RequestListener;
  /** Exactly this port. */
  readonly port?: number | undefined;
  /** This port if it is free. */
  readonly preferredPort?: number | undefined;
}

/**
 * Longer than any client keeps an idle connection: the client closes first, so a request never meets a connection that
 * the server is just closing.
 */
const KEEP_ALIVE_MS = 120_000;

/**
 * Starts listening.
 * @returns the part and its address, without a slash at the end
 * @throws PartError PORT_TAKEN
 */
export async function startHttp(options: HttpOptions): Promise<Part & { url: string; port: number }> {
  return await onFreePort({ fixed: options.port, preferred: options.preferredPort }, async (port) => {
    const server = createServer(options.listener);
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    server.requestTimeout = 0;
    await listen(server, port, options.name);
    const stop = once(async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    });
    return { name: options.name, url: `http://127.0.0.1:${port}`, port, stop };
  });
}

function listen(server: Server, port: number, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === 'EADDRINUSE' || cause.code === 'EACCES';
      const message = taken ? `${name}: port ${port} is taken.` : `${name} could not listen on port ${port}.`;
      reject(new PartError(taken ? 'PORT_TAKEN' : 'PART_START_FAILED', message, { cause }));
    });
    server.listen({ port, host: '127.0.0.1' }, resolve);
  });
}

/** How often a starting program is asked, in milliseconds. */
const ASK_EVERY_MS = 40;

/**
 * Waits until the program answers the URL with a 2xx status. Another process may have taken the port meanwhile and answer in
 * its place; only an answer that names the program's own process counts.
 * @param program whose end means that it never will
 * @param processOf reads the id of the answering process from the answer
 * @throws PartError PORT_TAKEN or PART_START_FAILED with what the program wrote
 */
export async function waitForHttp(
  url: string,
  program: RunningProcess,
  name: string,
  processOf: (answer: Response) => number,
  withinMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + withinMs;
  let ended = false;
  void program.ended.then(() => {
    ended = true;
  });
  let isForeign = false;
  let last = 'no answer';
  while (!ended && Date.now() < deadline) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
      const text = await answer.text();
      isForeign = processOf(answer) !== program.pid;
      if (answer.ok && !isForeign) return;
      last = isForeign ? 'something else' : `${answer.status} ${text.slice(0, 500)}`;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
  }
  if (ended && isForeign) {
    throw new PartError('PORT_TAKEN', `${name} did not start: port ${new URL(url).port} is taken.`);
  }
  const late = ended ? '' : `\n(not ready after ${withinMs / 1000} s: ${url} says ${last})`;
  throw startFailure(name, program.lastLines() + late);
}
