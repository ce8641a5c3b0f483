/**
 * What every function does around its own question: methods, CORS, parameters, problems, and the headers that tell a caller
 * where the answer came from (`x-cache`) and where the time went (`server-timing`).
 */
import { type Parameters, readParameters } from './parameters.ts';
import { asProblem, describeForLog, Problem } from './problem.ts';

/** Where an answer came from. `BYPASS`: asked of the database because the cache is off, away, or may not be used. */
export type CacheHeader = 'HIT' | 'MISS' | 'STALE' | 'BYPASS';

export interface Answer {
  readonly body: unknown;
  readonly status?: number;
  readonly cache?: CacheHeader;
}

/** In this order whatever came first: the order of events is nobody's business. */
const PARTS = ['auth', 'read', 'db'] as const;

/** Collects how long the parts of one request took. */
export class Timing {
  readonly #startedAt = performance.now();
  readonly #parts = new Map<(typeof PARTS)[number], number>();

  /** Runs `work` and adds its duration, in milliseconds, to the part called `name`. */
  async measure<T>(name: (typeof PARTS)[number], work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      this.#parts.set(name, (this.#parts.get(name) ?? 0) + performance.now() - startedAt);
    }
  }

  /**
   * The value of a `server-timing` header.
   * @param names which parts to tell, in this order, as far as they were measured; `total` always ends it
   */
  toHeader(names: readonly (typeof PARTS)[number][] = PARTS): string {
    const told = names.flatMap((name) => {
      const duration = this.#parts.get(name);
      return duration === undefined ? [] : [[name, duration] as const];
    });
    const parts = [...told, ['total', performance.now() - this.#startedAt] as const];
    return parts.map(([name, duration]) => `${name};dur=${duration.toFixed(1)}`).join(', ');
  }
}

export interface EndpointRequest {
  readonly request: Request;
  /**
   * Reads the parameters, which may mean a body. Ask who is calling first: a stranger's body is not worth reading.
   * @throws Problem INVALID_PARAMETER, INVALID_BODY, BODY_TOO_LARGE or UNSUPPORTED_MEDIA_TYPE
   */
  readonly readParameters: () => Promise<Parameters>;
  readonly timing: Timing;
}

export interface EndpointOptions {
  /** The function's name, for its log. */
  readonly name: string;
  /** Names of the parameters it takes; others are refused. */
  readonly parameters: readonly string[];
  /** Origins that browsers may call from, or `*`. */
  readonly allowedOrigins: readonly string[];
  readonly answer: (request: EndpointRequest) => Promise<Answer>;
  /** Where failures are reported; a function's log is what it writes to the console. */
  readonly log?: (line: string) => void;
}

const METHODS = 'GET, HEAD, POST, OPTIONS';
/** `x-region` is what supabase-js adds for a caller who chooses a region. */
const REQUEST_HEADERS = 'authorization, apikey, content-type, x-client-info, x-region';
const EXPOSED_HEADERS = 'x-cache, server-timing, retry-after';

/** A fetch handler, as Deno.serve and the platform call it. */
export type Handler = (request: Request) => Promise<Response>;

/** Makes a fetch handler of an endpoint. It never throws and never answers without the common headers. */
export function createEndpoint(options: EndpointOptions): Handler {
  const log = options.log ?? ((line: string) => console.error(line));
  return async (request) => {
    const timing = new Timing();
    const headers = commonHeaders(request, options.allowedOrigins);
    if (request.method === 'OPTIONS') return preflight(headers);
    try {
      if (!['GET', 'HEAD', 'POST'].includes(request.method)) {
        throw new Problem('METHOD_NOT_ALLOWED', 'Use GET or POST.', { headers: { allow: METHODS } });
      }
      const answer = await options.answer({
        request,
        timing,
        readParameters: async () => {
          const parameters = await readParameters(request);
          parameters.allowOnly(options.parameters);
          return parameters;
        },
      });
      if (answer.cache !== undefined) headers.set('x-cache', answer.cache);
      headers.set('server-timing', timing.toHeader());
      return respond(request, answer.body, answer.status ?? 200, 'application/json', headers);
    } catch (error) {
      const problem = asProblem(error);
      if (problem.status >= 500) {
        const cause = describeForLog(problem.cause ?? problem);
        log(JSON.stringify({ function: options.name, code: problem.code, status: problem.status, cause }));
      }
      for (const [name, value] of Object.entries(problem.headers)) headers.set(name, value);
      if (problem.outcome !== undefined) headers.set('x-cache', problem.outcome);
      // Where there is nothing for this caller, which parts were at work would tell whether there is something for another.
      headers.set('server-timing', problem.status === 404 ? timing.toHeader([]) : timing.toHeader());
      return respond(request, problem.toDocument(), problem.status, 'application/problem+json', headers);
    }
  };
}

function respond(request: Request, body: unknown, status: number, type: string, headers: Headers): Response {
  headers.set('content-type', `${type}; charset=utf-8`);
  return new Response(request.method === 'HEAD' ? null : JSON.stringify(body), { status, headers });
}

function commonHeaders(request: Request, allowedOrigins: readonly string[]): Headers {
  const headers = new Headers({
    // Answers belong to one caller; the only cache that may keep them is ours, which checks who asks.
    'cache-control': 'private, no-store',
    'x-content-type-options': 'nosniff',
  });
  if (allowedOrigins.includes('*')) {
    headers.set('access-control-allow-origin', '*');
  } else {
    headers.set('vary', 'origin');
    const origin = request.headers.get('origin');
    if (origin === null || !allowedOrigins.includes(origin)) return headers;
    headers.set('access-control-allow-origin', origin);
  }
  headers.set('access-control-expose-headers', EXPOSED_HEADERS);
  return headers;
}

function preflight(headers: Headers): Response {
  if (headers.has('access-control-allow-origin')) {
    headers.set('access-control-allow-methods', METHODS);
    headers.set('access-control-allow-headers', REQUEST_HEADERS);
    headers.set('access-control-max-age', '600');
  }
  return new Response(null, { status: 204, headers });
}
