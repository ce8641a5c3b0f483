/**
 * The state of an installation, read from what all its workers share: Postgres and Redis. `fencepost status` and the
 * dashboard show the same.
 */
import type pg from 'pg';
import { HEARTBEAT_KEY } from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { describeForeignSession, leaderOf, lockHolders, workerSessions } from '../../db/lock-holders.ts';
import { Outbox } from '../../db/outbox.ts';
import { Pending } from '../../db/pending.ts';
import { describe } from '../../lib/errors.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import { AUDIT_KEY, type AuditResult } from '../audit/audit.ts';
import { type HitRate, hitRates } from './hit-rates.ts';
import type { RecordedDay } from './recorded-day.ts';

/** What the database says. */
export interface DatabaseState {
  readonly leader: { readonly pid: number | null; readonly silentMs: number } | null;
  /** A foreign session holds the leader lock, and the workers deliver without it. */
  readonly contested: boolean;
  readonly workers: number;
  /** Standbys whose Redis would not let them take over. */
  readonly unfit: number;
  readonly outbox: { readonly rows: number; readonly oldestMs: number };
  readonly throttled: { readonly waiting: number; readonly dueInMs: number | null };
  /** One sentence each. */
  readonly problems: readonly string[];
}

/** What Redis says; null where it is away. */
export interface CacheState {
  readonly heartbeat: 'alive' | 'missing' | null;
  readonly hitRates: readonly HitRate[] | null;
  /** Null also when no audit ran in the last week. */
  readonly consistency: AuditResult | null;
  readonly problems: readonly string[];
}

/**
 * @param countTo changes in the outbox, and throttled targets, to count at most
 * @throws what `pg` throws when the database is away
 */
export async function readDatabaseState(pool: pg.Pool, countTo: number): Promise<DatabaseState> {
  const pending = new Pending(pool);
  const holders = await lockHolders(pool);
  const leader = leaderOf(holders);
  const foreign = holders.find((holder) => holder.lock === 'leader' && holder.foreign);
  const { running, alive, unfit } = await workerSessions(pool);
  return {
    leader: leader === undefined ? null : { pid: leader.pid, silentMs: Math.round(leader.silentMs) },
    contested: leader === undefined && foreign !== undefined && alive > 0,
    workers: running,
    unfit,
    outbox: await new Outbox(pool).backlog(countTo),
    throttled: { waiting: await pending.throttled(countTo), dueInMs: await pending.nextDueMs('throttled') },
    problems: foreign === undefined ? [] : [describeForeignSession(foreign)],
  };
}

/** Sends one command for the heartbeat and the last audit, and those of the hit rates. Never throws. */
export async function readCacheState(
  cache: Pick<CacheServer, 'getMany'>,
  day: RecordedDay,
): Promise<CacheState> {
  const problems: string[] = [];
  const attempt = async <T>(work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      problems.push(describe(error));
      return null;
    }
  };
  const found = await attempt(() => cache.getMany([HEARTBEAT_KEY, AUDIT_KEY]));
  return {
    heartbeat: found === null ? null : found[0] == null ? 'missing' : 'alive',
    hitRates: found === null ? null : await attempt(async () => hitRates(await day.read())),
    consistency: parseAudit(found?.[1] ?? null),
    problems,
  };
}

/** Null for anything that is no audit result: anybody who has the token can write this key. */
function parseAudit(text: string | null): AuditResult | null {
  if (text === null) return null;
  try {
    const { at, compared, stale, skipped } = JSON.parse(text) ?? {};
    const isSound =
      Number.isFinite(Date.parse(at)) &&
      Number.isInteger(compared) &&
      Array.isArray(stale) &&
      stale.every((key) => typeof key === 'string');
    return isSound ? { at, compared, stale, skipped } : null;
  } catch {
    return null;
  }
}
