/**
 * Queries the database with the identity of the caller, through supabase-js and PostgREST, so that row-level security decides.
 *
 * One query is one round trip, one transaction and one snapshot. It ends within the timeout. It is never retried, because a retry
 * adds load to a database that is already slow.
 */
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import { Problem } from '../http/problem.ts';
import type { FunctionSettings } from '../http/settings.ts';
import type { Caller } from './authenticate.ts';

/** The part of PostgREST's reply that is used here. */
interface Reply {
  readonly data: unknown;
  readonly status: number;
  readonly error: { readonly code?: string; readonly details?: string | null } | null;
}

/** A query that is not sent yet: the part of supabase-js's builder that is used here. */
export interface Query extends PromiseLike<Reply> {
  setHeader(name: string, value: string): this;
  retry(enabled: boolean): this;
}

export type BuildQuery = (client: SupabaseClient) => Query;

export interface Database {
  /**
   * Queries as the caller.
   * @param build builds the query, for example `(client) => client.rpc('quota_answer', { … })`
   * @returns the rows or the function's result; null for a single row that row-level security does not show
   * @throws Problem TOKEN_INVALID, FORBIDDEN, RATE_LIMITED, MISCONFIGURED or DATABASE_UNAVAILABLE
   */
  query(caller: Caller, build: BuildQuery): Promise<unknown>;
  /** Queries as an anonymous caller, with the public key. @throws as query() */
  queryPublic(build: BuildQuery): Promise<unknown>;
}

type DatabaseSettings = Pick<FunctionSettings, 'supabaseUrl' | 'publicKey' | 'databaseTimeoutMs'>;

/** One client serves all requests of an isolate. It holds no identity: each query sets its own. */
export function createDatabase(settings: DatabaseSettings): Database {
  const client = createClient(settings.supabaseUrl, settings.publicKey, {
    // No session: query() sets the Authorization header of each query.
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    db: { timeout: settings.databaseTimeoutMs },
    global: { fetch: fetchKeepingRetryAfter },
  });

  return {
    query: (caller, build) => {
      const query = build(client).setHeader('authorization', `Bearer ${caller.token}`);
      // The platform's gateway needs a secret key in `apikey` too. It replaces the key by a token of the service role.
      if (caller.kind === 'service') query.setHeader('apikey', caller.token);
      return send(query);
    },
    queryPublic: (build) => send(build(client)),
  };
}

async function send(query: Query): Promise<unknown> {
  const reply = await query.retry(false);
  if (reply.error === null) return reply.data;
  throw asDatabaseProblem(reply);
}

/**
 * What no second try mends: a function, column, table or schema that PostgREST (PGRST106, PGRST2xx) or Postgres does not know, or
 * knows with other parameters or types (class 42 but for 42501, a right that lacks).
 */
const LACKS = /^(?:PGRST106|PGRST2\d\d|3F000|42(?!501)\w{3})$/;

/** Makes a problem of PostgREST's error. Message and hint are dropped, because they may hold values and names of tables. */
function asDatabaseProblem(reply: Reply): Problem {
  const cause = Object.assign(new Error('PostgREST refused'), {
    code: reply.error?.code ?? String(reply.status),
  });
  if (reply.status === 401) {
    return new Problem('TOKEN_INVALID', 'The database did not accept the token. Sign in again.', {
      headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      cause,
    });
  }
  if (reply.status === 403) return new Problem('FORBIDDEN', 'You may not read this.', { cause });
  if (reply.status === 429) {
    return new Problem('RATE_LIMITED', 'Too many requests. Wait and try again.', {
      headers: { 'retry-after': reply.error?.details ?? '1' },
      cause,
    });
  }
  if (LACKS.test(reply.error?.code ?? '')) {
    return new Problem(
      'MISCONFIGURED',
      'The database lacks something that this function asks for: apply the migrations, then reload the API with "notify pgrst, \'reload schema\'".',
      { cause },
    );
  }
  return new Problem('DATABASE_UNAVAILABLE', 'The database did not answer. Try again.', {
    headers: { 'retry-after': '1' },
    cause,
  });
}

/** fetch, but with the `retry-after` of a 429 copied into the body: supabase-js returns the body and drops the headers. */
async function fetchKeepingRetryAfter(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, init);
  if (response.status !== 429) return response;
  await response.body?.cancel();
  const seconds = /^\d{1,6}$/.exec(response.headers.get('retry-after') ?? '')?.[0] ?? '1';
  const body = { code: 'RATE_LIMITED', message: 'rate limited', details: seconds, hint: null };
  return new Response(JSON.stringify(body), { status: 429, headers: { 'content-type': 'application/json' } });
}
