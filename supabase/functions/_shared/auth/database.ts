/**
 * Questions to the database with the identity of the caller, through supabase-js and PostgREST, so that row-level security
 * decides. One question is one round trip, one transaction and one snapshot; nothing is retried (a caller who waits twice as
 * long for a database in trouble makes its trouble worse) and nothing outlasts the timeout.
 */
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import { Problem } from '../http/problem.ts';
import type { FunctionSettings } from '../http/settings.ts';
import type { Caller } from './authenticate.ts';

/** What a question comes back with: a part of PostgREST's reply. */
interface Reply {
  readonly data: unknown;
  readonly status: number;
  readonly error: { readonly code?: string; readonly details?: string | null } | null;
}

/** A question under construction: as much of supabase-js's builder as is needed to send it. */
export interface Question extends PromiseLike<Reply> {
  setHeader(name: string, value: string): this;
  retry(enabled: boolean): this;
}

export interface Database {
  /**
   * Asks as the caller.
   * @param build Builds the question, for example `(client) => client.rpc('quota_answer', { … })`.
   * @returns the rows or the function's result; null where a single row was asked for and row-level security shows none.
   * @throws Problem TOKEN_INVALID, FORBIDDEN, RATE_LIMITED or DATABASE_UNAVAILABLE
   */
  ask(caller: Caller, build: (client: SupabaseClient) => Question): Promise<unknown>;
  /** Asks as nobody in particular, with the public key. Same errors. */
  askPublic(build: (client: SupabaseClient) => Question): Promise<unknown>;
}

type DatabaseSettings = Pick<FunctionSettings, 'supabaseUrl' | 'publicKey' | 'databaseTimeoutMs'>;

/** One client serves an isolate; whose identity a question has is said question by question, never kept. */
export function createDatabase(settings: DatabaseSettings): Database {
  const client = createClient(settings.supabaseUrl, settings.publicKey, {
    // No session is ever held: an Authorization header is set on each question below.
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    db: { timeout: settings.databaseTimeoutMs },
    global: { fetch: fetchKeepingRetryAfter },
  });

  return {
    ask: (caller, build) => {
      const question = build(client).setHeader('authorization', `Bearer ${caller.token}`);
      // The platform's gateway wants a secret key in `apikey` too, and swaps it for a token of the service role.
      if (caller.kind === 'service') question.setHeader('apikey', caller.token);
      return send(question);
    },
    askPublic: (build) => send(build(client)),
  };
}

async function send(question: Question): Promise<unknown> {
  const reply = await question.retry(false);
  if (reply.error === null) return reply.data;
  throw asDatabaseProblem(reply);
}

/** PostgREST's reply as a problem. Its message and hint stay here: they may quote values and name tables. */
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
  return new Problem('DATABASE_UNAVAILABLE', 'The database did not answer. Try again.', {
    headers: { 'retry-after': '1' },
    cause,
  });
}

/**
 * fetch, except that a 429's `retry-after` is put where supabase-js hands it on: its replies have no headers.
 */
async function fetchKeepingRetryAfter(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, init);
  if (response.status !== 429) return response;
  await response.body?.cancel();
  const seconds = /^\d{1,6}$/.exec(response.headers.get('retry-after') ?? '')?.[0] ?? '1';
  const body = { code: 'RATE_LIMITED', message: 'rate limited', details: seconds, hint: null };
  return new Response(JSON.stringify(body), { status: 429, headers: { 'content-type': 'application/json' } });
}
