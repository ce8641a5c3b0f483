/**
 * Composition: builds a function's dependencies from the environment, once per isolate, at the first request. A missing setting
 * is then an answer that names the setting, and not an isolate that fails to start.
 *
 * Imports run downwards only: functions > this file > auth > http > cache/protocol, and auth > cache.ts. Code that takes only the
 * cache module needs neither http nor auth.
 */
import { type Authenticate, createAuthenticate } from './auth/authenticate.ts';
import { createDatabase, type Database } from './auth/database.ts';
import { type Cache, createCache } from './cache.ts';
import { createEndpoint, type Handler } from './http/endpoint.ts';
import { type FunctionSettings, readSettings } from './http/settings.ts';

/** What a function works with. Tests and benchmarks pass their own. */
export interface FunctionDependencies {
  readonly settings: Pick<FunctionSettings, 'allowedOrigins'>;
  readonly authenticate: Authenticate;
  readonly database: Database;
  readonly cache: Cache;
  /** The time, in milliseconds since 1970. */
  readonly now: () => number;
}

/** The dependencies that the environment describes. @throws Problem MISCONFIGURED */
function dependenciesFromEnvironment(): FunctionDependencies {
  const settings = readSettings();
  return {
    settings,
    authenticate: createAuthenticate(settings),
    database: createDatabase(settings),
    cache: createCache({ timeout: settings.cacheTimeoutMs }),
    now: Date.now,
  };
}

/** The fetch handler of a function. It is built at the first request; a failed build is tried again at the next one. */
export function startFunction(create: (dependencies: FunctionDependencies) => Handler): Handler {
  let handler: Handler | undefined;
  return async (request) => {
    try {
      handler ??= create(dependenciesFromEnvironment());
      return await handler(request);
    } catch (error) {
      // The endpoint turns the error into an answer. Without a query, so that no parameter is refused first.
      const endpoint = createEndpoint({
        name: 'start',
        parameters: [],
        allowedOrigins: ['*'],
        answer: () => Promise.reject(error),
      });
      return endpoint(new Request(request.url.split('?')[0] ?? request.url));
    }
  };
}
