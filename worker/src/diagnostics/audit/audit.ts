/**
 * An audit: takes entries out of the cache as a reader would, asks the database for the same answers, and counts those
 * that differ and stay so. With triggers in place none should; one that does shows a table that is not watched, a
 * trigger that was disabled, or a value whose truth is not a row.
 *
 * A difference at one moment proves nothing: the row may have changed between the two looks, and its invalidation be on
 * its way. An entry counts as stale only if, one second later, it is still a hit, still the same, and still differs
 * from what the database says then.
 */
import type pg from 'pg';
import { typeOf } from '../../../../supabase/functions/_shared/cache/protocol/key-types.ts';
import { errorCode } from '../../db/errors.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import { lookAt } from '../why/inspect.ts';
import { isSame } from './same.ts';
import { AUDIT_SOURCES } from './sources.ts';

export interface AuditResult {
  readonly at: string;
  /** Entries that are hits and were compared. */
  readonly compared: number;
  readonly stale: readonly string[];
  /** Key types, and single keys, that could not be checked, with the reason. */
  readonly skipped: Readonly<Record<string, string>>;
}

export interface AuditParts {
  readonly cache: Pick<CacheServer, 'scan' | 'getMany' | 'set'>;
  readonly pool: Pick<pg.Pool, 'query'>;
}

/** Where the last audit's result is kept for `fencepost status`. */
export const AUDIT_KEY = 'fencepost:audit';
const KEPT_SECONDS = 7 * 86_400;
const RECHECK_MS = 1_000;
const PAGES_MOST = 50;
const KEYS_NAMED_MOST = 20;
const NO_SUCH_VALUE = 'the database knows no such value';

/**
 * @param sample entries to look at, at most
 * @throws WorkerError when Redis or the database is away
 */
export async function audit(parts: AuditParts, sample: number): Promise<AuditResult> {
  const skipped: Record<string, string> = {};
  const suspects: string[] = [];
  let compared = 0;
  for (const key of await sampleKeys(parts, sample, skipped)) {
    const verdict = await compare(parts, key, skipped);
    if (verdict === null) continue;
    compared++;
    if (verdict === 'differs') suspects.push(key);
  }
  const stale: string[] = [];
  if (suspects.length > 0) await new Promise((resolve) => setTimeout(resolve, RECHECK_MS));
  for (const key of suspects) if ((await compare(parts, key, skipped)) === 'differs') stale.push(key);

  const result: AuditResult = { at: new Date().toISOString(), compared, stale, skipped };
  await parts.cache.set(AUDIT_KEY, JSON.stringify(result), KEPT_SECONDS);
  return result;
}

async function sampleKeys(
  parts: AuditParts,
  sample: number,
  skipped: Record<string, string>,
): Promise<string[]> {
  const found: string[] = [];
  let cursor = '0';
  for (let page = 0; page < PAGES_MOST && found.length < sample; page++) {
    const answer = await parts.cache.scan(cursor, '*', 1_000);
    for (const key of answer.keys) {
      if (key.startsWith('fence:') || key.startsWith('fencepost:')) continue;
      const type = typeOf(key);
      if (type === undefined) continue;
      if (AUDIT_SOURCES[type.name] === undefined) skipped[type.name] = 'no audit source';
      else if (found.length < sample) found.push(key);
    }
    cursor = answer.cursor;
    if (cursor === '0') break;
  }
  return found;
}

/** Null when the entry is no hit, or its type cannot be checked. */
async function compare(
  parts: AuditParts,
  key: string,
  skipped: Record<string, string>,
): Promise<'same' | 'differs' | null> {
  const type = typeOf(key);
  const source = type === undefined ? undefined : AUDIT_SOURCES[type.name];
  if (type === undefined || source === undefined || skipped[type.name] !== undefined) return null;
  const { verdict, envelope } = await lookAt(parts.cache, key);
  // What is past its time has the same fences to answer for.
  if ((verdict !== 'hit' && verdict !== 'stale') || envelope === null) return null;
  const values = variableSegments(key, type.segments);
  const current = values === null ? NO_SUCH_VALUE : await currentValue(parts, source.sql, values);
  if (current === NO_SUCH_VALUE) {
    // The key's own fault, not its type's.
    if (Object.keys(skipped).length < KEYS_NAMED_MOST) skipped[key] = NO_SUCH_VALUE;
    return null;
  }
  if (typeof current === 'string') {
    skipped[type.name] = current;
    return null;
  }
  return isSame(envelope.value, current.value) ? 'same' : 'differs';
}

/** What the database says, or why it cannot be asked. */
async function currentValue(
  parts: AuditParts,
  sql: string,
  values: readonly string[],
): Promise<{ value: unknown } | string> {
  try {
    const result = await parts.pool.query<{ value: unknown }>(sql, [...values]);
    return { value: result.rows[0]?.value ?? null };
  } catch (error) {
    const code = errorCode(error);
    // A data exception: a segment that is no date, no number, or not of its length.
    if (code.startsWith('22')) return NO_SUCH_VALUE;
    if (code === '42501') return 'the role may not read it';
    if (code === '42883' || code === '42P01' || code === '42703')
      return 'its tables or functions do not exist here';
    throw error;
  }
}

/** Null: not a key that a builder makes. */
function variableSegments(key: string, segments: readonly object[]): string[] | null {
  const parts = key.split(':');
  try {
    return segments.flatMap((segment, index) =>
      'name' in segment ? [decodeURIComponent(parts[index] ?? '')] : [],
    );
  } catch {
    return null;
  }
}
