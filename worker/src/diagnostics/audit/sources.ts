/**
 * What answers a key, as `cache_invalidation.answers(target, source)` declares it in the database. A source is one query; the
 * key's variable segments are its parameters. It runs read-only, with a time limit, under the rights of the worker's role.
 */
import type pg from 'pg';
import { errorCode } from '../../db/errors.ts';
import { isAtFault, queryReadOnly, withoutValues } from '../../db/foreign-statement.ts';

/** Longer than an answer that readers wait for may take. */
const STATEMENT_TIMEOUT_MS = 5_000;

export interface Source {
  /** A key with its variable segments in braces, such as `quota:{org}:{provider}:{model}`. */
  readonly target: string;
  readonly source: string;
}

export type Answer =
  | { readonly value: unknown }
  /** `key`: this key has no answer; `source`: no key of this source can be checked. */
  | { readonly fault: 'key' | 'source'; readonly reason: string };

/** @throws what `pg` throws */
export async function readSources(pool: Pick<pg.Pool, 'query'>): Promise<Source[]> {
  const { rows } = await pool.query<Source>(
    'select target, source from cache_invalidation.answer_sources order by target',
  );
  return rows;
}

/** The source whose target a key follows. */
export function sourceOf(sources: readonly Source[], key: string): Source | undefined {
  const parts = key.split(':');
  return sources.find(({ target }) => {
    const segments = target.split(':');
    return (
      segments.length === parts.length &&
      segments.every((segment, index) => segment.startsWith('{') || segment === parts[index])
    );
  });
}

/**
 * The values of the key's variable segments, decoded. Null when the key does not tell them: a segment is no percent-encoding,
 * or it is the hash of a long value.
 */
export function valuesOf(target: string, key: string): string[] | null {
  const parts = key.split(':');
  const variable = target.split(':').flatMap((segment, index) => {
    return segment.startsWith('{') ? [parts[index] ?? ''] : [];
  });
  if (variable.some((part) => part.startsWith('~'))) return null;
  try {
    return variable.map(decodeURIComponent);
  } catch {
    return null;
  }
}

/**
 * The database's answer for a key, now.
 *
 * @throws what `pg` throws when the database is away
 */
export async function ask(
  pool: Pick<pg.Pool, 'connect'>,
  { target, source }: Source,
  key: string,
  timeoutMs = STATEMENT_TIMEOUT_MS,
): Promise<Answer> {
  const values = valuesOf(target, key);
  if (values === null) return { fault: 'key', reason: 'the key does not tell its values' };
  const client = await pool.connect();
  try {
    // As a subquery it can be nothing but a query; the line break ends a comment at its end.
    const text = `select to_jsonb(answer.value) as value from (${source}\n) as answer (value) limit 1`;
    const rows = await queryReadOnly<{ value: unknown }>(client, timeoutMs, text, values);
    return { value: rows[0]?.value ?? null };
  } catch (error) {
    const code = errorCode(error);
    // A data exception: a segment that is no date or no number, or is too long.
    if (code.startsWith('22')) return { fault: 'key', reason: 'the database knows no such value' };
    if (code === '42501') return { fault: 'source', reason: 'the role may not read it' };
    if (code === '57014') return { fault: 'source', reason: `no answer within ${timeoutMs / 1_000} s` };
    if (isAtFault(error)) return { fault: 'source', reason: `its source fails: ${withoutValues(error)}` };
    throw error;
  } finally {
    client.release();
  }
}
