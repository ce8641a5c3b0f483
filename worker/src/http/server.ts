/**
 * The worker's HTTP server: /healthz says that the process lives, /readyz whether invalidations flow, /metrics is for
 * Prometheus, / for people.
 */
import type { AddressInfo } from 'node:net';
import { type ServerType, serve } from '@hono/node-server';
import { Hono } from 'hono';
import { asWorkerError, ExitCode, WorkerError } from '../lib/errors.ts';
import type { Overview } from './dashboard/overview.ts';
import { dashboardPage } from './dashboard/page.ts';
import { PAGE_HEADERS } from './dashboard/page-assets.ts';
import type { Readiness } from './readiness.ts';

export interface HttpParts {
  readonly host: string;
  readonly port: number;
  readiness(): Promise<Readiness>;
  metrics(): Promise<{ contentType: string; text: string }>;
  overview(): Promise<Overview>;
  /** A request failed. */
  onError(error: WorkerError): void;
}

export interface HttpServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** @throws WorkerError CONFIGURATION when the port is taken */
export async function startHttpServer(parts: HttpParts): Promise<HttpServer> {
  const app = new Hono();
  // Two workers may be given one port. Whoever started them can tell here which of the two has it.
  app.use(async (context, next) => {
    await next();
    context.header('fencepost-process', String(process.pid));
  });
  app.get('/healthz', (context) => context.json({ status: 'ok' }));
  app.get('/readyz', async (context) => {
    const state = await parts.readiness();
    return context.json(state, state.ready ? 200 : 503);
  });
  app.get('/metrics', async (context) => {
    const { contentType, text } = await parts.metrics();
    return context.body(text, 200, { 'content-type': contentType });
  });
  app.get('/', async (context) => context.html(dashboardPage(await parts.overview()), 200, PAGE_HEADERS));
  app.onError((error, context) => {
    parts.onError(asWorkerError(error));
    return context.json({ status: 'error' }, 500);
  });

  const server = await listen(app, parts);
  const address = server.address() as AddressInfo;
  const host = parts.host === '0.0.0.0' || parts.host === '::' ? '127.0.0.1' : parts.host;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // An idle keep-alive connection must not delay the end of the process.
        if ('closeAllConnections' in server) server.closeAllConnections();
      }),
  };
}

function listen(app: Hono, { host, port }: HttpParts): Promise<ServerType> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, () => resolve(server));
    server.once('error', (error) => {
      const taken = 'code' in error && (error.code === 'EADDRINUSE' || error.code === 'EACCES');
      reject(
        new WorkerError(
          'CONFIGURATION',
          taken
            ? `Port ${port} is taken or not allowed: set PORT to another one, or to 0 for any that is free.`
            : `The HTTP server could not start on ${host}:${port}: set HOST and PORT to an address of this machine.`,
          { exitCode: ExitCode.configuration, cause: error },
        ),
      );
    });
  });
}
