/**
 * An audit reads entries as a reader would, asks the database for the same answers, and counts those that differ and stay so. With
 * all triggers in place none differs. One that does shows a table that is not watched, a trigger that was disabled, or a value that
 * does not come from rows.
 *
 * One difference proves nothing: the row may have changed between the two reads. An entry counts as stale only if it is still a hit
 * 1 s later and still differs from what the database says then.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import type { CacheServer } from '../../redis/upstash.ts';
import { inspect } from '../why/inspect.ts';
import { isSame } from './same.ts';
import { ask, readSources, type Source, sourceOf } from './sources.ts';

export interface AuditResult {
  readonly at: string;
  /** Entries that are hits and were compared. */
  readonly compared: number;
  readonly stale: readonly string[];
  /** First segments, declared targets and single keys that could not be checked, with the reason. */
  readonly skipped: Readonly<Record<string, string>>;
}

export interface AuditParts {
  readonly cache: Pick<CacheServer, 'scan' | 'getMany' | 'set'>;
  readonly pool: Pick<pg.Pool, 'query' | 'connect'>;
}

/** Where the last audit's result is kept for `fencepost status`. */
export const AUDIT_KEY = 'fencepost:audit';
const KEPT_SECONDS = 7 * 86_400;
const RECHECK_MS = 1_000;
const PAGES_MOST = 50;
/** Reasons that are named: keys without a source may begin with anything. */
const SKIPPED_MOST = 40;
const SERIALIZED = "the application's serializer wrote its value";
const UNDECLARED = 'no cache_invalidation.answers() covers its keys';

/**
 * @param sample entries to compare at most
 * @throws WorkerError when Redis is away; what `pg` throws when the database is
 */
export async function audit(parts: AuditParts, sample: number): Promise<AuditResult> {
  const sources = await readSources(parts.pool);
  const skipped = new Map<string, string>();
  const suspects: Entry[] = [];
  let compared = 0;
  for (const entry of await sampleEntries(parts, sources, sample, skipped)) {
    const verdict = await compare(parts, entry, skipped);
    if (verdict === null) continue;
    compared++;
    if (verdict === 'differs') suspects.push(entry);
  }
  const stale: string[] = [];
  if (suspects.length > 0) await pause(RECHECK_MS);
  for (const entry of suspects)
    if ((await compare(parts, entry, skipped)) === 'differs') stale.push(entry.key);

  const at = new Date().toISOString();
  const result: AuditResult = { at, compared, stale, skipped: Object.fromEntries(skipped) };
  await parts.cache.set(AUDIT_KEY, JSON.stringify(result), KEPT_SECONDS);
  return result;
}

interface Entry {
  readonly key: string;
  readonly source: Source;
}

async function sampleEntries(
  { cache }: AuditParts,
  sources: readonly Source[],
  sample: number,
  skipped: Map<string, string>,
): Promise<Entry[]> {
  const found: Entry[] = [];
  let cursor = '0';
  for (let page = 0; page < PAGES_MOST && found.length < sample; page++) {
    const answer = await cache.scan(cursor, '*', 1_000);
    for (const key of answer.keys) {
      if (key.startsWith('fence:') || key.startsWith('fencepost:')) continue;
      const source = sourceOf(sources, key);
      if (source === undefined) nameOne(skipped, key.split(':')[0] ?? key, UNDECLARED);
      else if (found.length < sample) found.push({ key, source });
    }
    cursor = answer.cursor;
    if (cursor === '0') break;
  }
  return found;
}

/** Null when the entry is no hit, or cannot be checked. */
async function compare(
  { cache, pool }: AuditParts,
  { key, source }: Entry,
  skipped: Map<string, string>,
): Promise<'same' | 'differs' | null> {
  if (skipped.has(source.target)) return null;
  const { verdict, envelope } = await inspect(cache, key);
  // An entry past its time stands behind the same fences.
  if ((verdict !== 'hit' && verdict !== 'stale') || envelope === null) return null;
  if (envelope.serializer !== null) {
    nameOne(skipped, key, SERIALIZED);
    return null;
  }
  const answer = await ask(pool, source, key);
  if ('value' in answer) return isSame(envelope.value, answer.value) ? 'same' : 'differs';
  if (answer.fault === 'source') skipped.set(source.target, answer.reason);
  else nameOne(skipped, key, answer.reason);
  return null;
}

function nameOne(skipped: Map<string, string>, what: string, reason: string): void {
  if (skipped.size < SKIPPED_MOST) skipped.set(what, reason);
}
