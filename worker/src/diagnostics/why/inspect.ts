/**
 * What a reader would make of one entry now, in words. The judgement is `judge`, which readers call too; the entry itself tells
 * which fences it stands behind, so no key type is known here.
 */
import type { Envelope } from '../../../../supabase/functions/_shared/cache/protocol/entry.ts';
import {
  judge,
  type KeyState,
  type Miss,
  mgetFor,
  planOfEntry,
} from '../../../../supabase/functions/_shared/cache/protocol/key-state.ts';
import { duration } from '../../lib/text.ts';
import type { CacheServer } from '../../redis/upstash.ts';

/**
 *   hit    a reader answers with it
 *   young  no worker vouches for the cache: a reader answers with it only while it is younger than degradedMaxAge
 *   stale  past its time, and kept for stale-while-revalidate or stale-if-error alone
 *   miss   no reader ever answers with it again
 */
export type Verdict = 'hit' | 'young' | 'stale' | 'miss';

export interface Inspection {
  readonly verdict: Verdict;
  /** One sentence. */
  readonly why: string;
  /** The names of the fences that it stands behind; without an entry, those of a key of no type. */
  readonly fences: readonly string[];
  /** Null: there is none, or it cannot be read. */
  readonly envelope: Envelope | null;
}

/**
 * Reads twice: the entry, to learn its fences, then the entry with all of its fences in one MGET, which is judged.
 *
 * @throws CacheError INVALID_KEY; UpstashFailure when Redis is away
 */
export async function inspect(
  cache: Pick<CacheServer, 'getMany'>,
  key: string,
  now: number = Date.now(),
): Promise<Inspection> {
  const [entry = null] = await cache.getMany([key]);
  const plan = planOfEntry(key, entry);
  const { names, statesFrom } = mgetFor([plan]);
  const [state] = statesFrom(await cache.getMany(names));
  if (state === undefined) throw new Error('One plan has one state.');
  const judged = judge(state, null, now);
  const { envelope } = judged;
  const as = (verdict: Verdict, why: string): Inspection => ({ verdict, why, fences: plan.fences, envelope });
  if (!judged.hit) return as('miss', reasonOf(judged, state, now));
  const age = duration(Math.max(0, now - judged.envelope.loadedAt));
  if (state.epoch === null) return as('young', withoutWorker(state, judged.envelope, age));
  return judged.staleFor === null
    ? as('hit', `It was loaded ${age} ago, and no write that it depends on was confirmed since.`)
    : as(
        'stale',
        `Its time was over ${duration(judged.staleFor)} ago; it is kept for readers that allow stale answers.`,
      );
}

function reasonOf({ reason, fence, envelope }: Miss, state: KeyState, now: number): string {
  switch (reason) {
    case 'absent':
      return 'Nothing is stored under it.';
    case 'unreadable':
      return 'What is stored under it was not written by this version of the cache client.';
    case 'other-fences':
      return 'It was replaced a moment ago by an entry with other fences: ask again.';
    case 'epoch-over':
      return 'Its epoch is over: the whole cache was invalidated since it was loaded.';
    case 'fence-gone':
      return `${fence} is gone: an invalidation deleted it after this entry was loaded, or it expired or was evicted.`;
    case 'fence-replaced':
      return `${fence} is another one than when this entry was loaded: it was invalidated since.`;
    case 'loaded-without-worker':
      return 'It was loaded while no worker vouched for the cache.';
    case 'too-old-without-worker':
      return withoutWorker(state, envelope, duration(Math.max(0, now - (envelope?.loadedAt ?? now))));
  }
}

function withoutWorker({ heartbeat }: KeyState, envelope: Envelope | null, age: string): string {
  const which = heartbeat === null ? 'no heartbeat' : 'the heartbeat is of another epoch';
  const alone = `No worker vouches for the cache (${which})`;
  const degradedMs = envelope?.degradedMs ?? 0;
  return degradedMs === 0
    ? `${alone}, and this entry is no answer then.`
    : `${alone}: readers take only what is younger than ${duration(degradedMs)}; this was loaded ${age} ago.`;
}
