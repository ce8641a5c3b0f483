/** What a reader would make of one entry of the cache now, and why: snapshot.ts's judgement, in words. */

import { type Envelope, readEnvelope } from '../../../../supabase/functions/_shared/cache/protocol/entry.ts';
import {
  DEGRADED_MAX_AGE_SECONDS,
  EPOCH_KEY,
  HEARTBEAT_KEY,
} from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { fencesOf } from '../../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { typeOf } from '../../../../supabase/functions/_shared/cache/protocol/key-types.ts';
import { duration } from '../../lib/text.ts';
import type { CacheServer } from '../../redis/upstash.ts';

/**
 *   hit    a reader answers with it
 *   young  no worker vouches for the cache: a reader answers with it only while it is younger than degradedMaxAge
 *   stale  past its time, and kept for stale-while-revalidate or stale-if-error alone
 *   miss   no reader ever answers with it again
 */
export type Verdict = 'hit' | 'young' | 'stale' | 'miss';

export interface Look {
  readonly verdict: Verdict;
  /** One sentence. */
  readonly why: string;
  /** Null: there is none, or not one of ours. */
  readonly envelope: Envelope | null;
}

/** As in snapshot.ts: an entry from further in the future has no age to rely on. */
const CLOCK_TOLERANCE_MS = 2_000;

/**
 * Rule 5: one MGET.
 *
 * @throws CacheError INVALID_KEY; UpstashFailure when Redis is away
 */
export async function lookAt(
  cache: Pick<CacheServer, 'getMany'>,
  key: string,
  now: number = Date.now(),
): Promise<Look> {
  const fences = [...fencesOf(key, typeOf(key)?.entity), EPOCH_KEY];
  const [entry, ...rest] = await cache.getMany([key, ...fences, HEARTBEAT_KEY]);
  const heartbeat = rest.at(-1) ?? null;
  const epoch = rest.at(-2) ?? null;
  if (typeof entry !== 'string')
    return { verdict: 'miss', why: 'Nothing is stored under it.', envelope: null };
  const envelope = readEnvelope(entry);
  const is = (verdict: Verdict, why: string): Look => ({ verdict, why, envelope });
  if (envelope === null)
    return is('miss', 'What is stored under it was not written by this version of cache.ts.');
  if (envelope.fences.length !== fences.length)
    return is('miss', 'It was stored under another catalogue, which gave this key other fences.');
  for (const [index, fence] of fences.entries()) {
    if (rest[index] === envelope.fences[index]) continue;
    if (fence === EPOCH_KEY)
      return is('miss', 'Its epoch is over: the whole cache was invalidated since it was loaded.');
    return is(
      'miss',
      rest[index] === null
        ? `${fence} is gone: an invalidation deleted it after this entry was loaded, or it expired or was evicted.`
        : `${fence} is another one than when this entry was loaded: it was invalidated since.`,
    );
  }
  const ageMs = now - envelope.loadedAt;
  const age = duration(Math.max(0, ageMs));
  if (heartbeat === null || heartbeat !== epoch) {
    const alone = `No worker vouches for the cache (${heartbeat === null ? 'no heartbeat' : 'the heartbeat is of another epoch'})`;
    if (typeOf(key)?.degraded === false)
      return is('miss', `${alone}, and this type is never answered from it then.`);
    const isYoung = ageMs >= -CLOCK_TOLERANCE_MS && ageMs <= DEGRADED_MAX_AGE_SECONDS * 1_000;
    return is(
      isYoung ? 'young' : 'miss',
      `${alone}: readers take only what is younger than ${DEGRADED_MAX_AGE_SECONDS} s, unless their degradedMaxAge says otherwise; this was loaded ${age} ago.`,
    );
  }
  if (envelope.epoch !== epoch) return is('miss', 'It was loaded while no worker vouched for the cache.');
  if (envelope.staleAt !== null && envelope.staleAt <= now)
    return is(
      'stale',
      `Its time was over ${duration(now - envelope.staleAt)} ago; it is kept for readers that allow stale answers.`,
    );
  return is('hit', `It was loaded ${age} ago, and no write that it depends on was confirmed since.`);
}
