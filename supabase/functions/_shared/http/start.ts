/**
 * Composition: makes a function's dependencies from the environment, once an isolate and at its first request, so that a
 * setting that is missing is an answer with a remedy and not an isolate that fails to boot.
 */
import { type Authenticate, createAuthenticate } from '../auth/authenticate.ts';
import { createDatabase, type Database } from '../auth/database.ts';
import { type Cache, createCache } from '../cache.ts';
import { createEndpoint } from './endpoint.ts';
import { type FunctionSettings, readSettings } from './settings.ts';

export interface FunctionDependencies {
  readonly settings: Pick<FunctionSettings, 'allowedOrigins'>;
  readonly authenticate: Authenticate;
  readonly database: Database;
  readonly cache: Cache;
  /** The time, in milliseconds since 1970. */
  readonly now: () => number;
}

export type Handler = (request: Request) => Promise<Response>;

/** Dependencies as the environment describes them. @throws Problem MISCONFIGURED */
export function dependenciesFromEnvironment(): FunctionDependencies {
  const settings = readSettings();
  return {
    settings,
    authenticate: createAuthenticate(settings),
    database: createDatabase(settings),
    cache: createCache({ timeout: settings.cacheTimeoutMs }),
    now: Date.now,
  };
}

/** The fetch handler of a function, composed when it is first called. */
export function startFunction(create: (dependencies: FunctionDependencies) => Handler): Handler {
  let handler: Handler | undefined;
  return async (request) => {
    try {
      handler ??= create(dependenciesFromEnvironment());
      return await handler(request);
    } catch (error) {
      return createEndpoint({
        name: 'start',
        parameters: [],
        allowedOrigins: ['*'],
        answer: () => Promise.reject(error),
      })(new Request(request.url.split('?')[0] ?? request.url));
    }
  };
}
