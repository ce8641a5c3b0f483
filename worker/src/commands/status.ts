/**
 * `fencepost status`: who drains, how far behind it is, what waits, how well each key type is served, what failed.
 */
import type pg from 'pg';
import { catalogueTypes } from '../../../supabase/functions/_shared/catalogue.ts';
import { HEARTBEAT_KEY } from '../../../supabase/functions/_shared/heartbeat.ts';
import { type Counts, statisticsKey, sumStatistics } from '../../../supabase/functions/_shared/statistics.ts';
import type { CacheServer } from '../apply/upstash.ts';
import { AUDIT_KEY, type AuditResult } from '../audit/audit.ts';
import { ALIVE_MS, describeStranger, leaderOf, lockHolders, workerSessions } from '../doorbell/holders.ts';
import { Outbox } from '../drain/outbox.ts';
import { describe } from '../errors.ts';
import { ExitCode } from '../exit-codes.ts';
import type { QueueCounts } from '../queue/work-queue.ts';
import { UNFIT } from '../self-checks/self-checks.ts';
import { withContext } from './command-context.ts';
import { duration, paint, print, printJson, table } from './output.ts';

const COUNT_TO = 1_000_000;
const HOURS = 24;

interface HitRate {
  readonly type: string;
  readonly reads: number;
  readonly hitRate: number | null;
  readonly target: number | null;
}

export interface Status {
  readonly leader: { readonly pid: number | null; readonly silentMs: number } | null;
  /** A stranger holds the leadership lock; the workers drain without it. */
  readonly contested: boolean;
  readonly workers: number;
  /** Standbys whose Redis would not let them take over. */
  readonly unfit: number;
  readonly outbox: { readonly rows: number; readonly oldestMs: number };
  readonly deferred: { readonly waiting: number; readonly dueInMs: number | null };
  /** Null: Redis is away. */
  readonly heartbeat: 'alive' | 'missing' | null;
  readonly hitRates: readonly HitRate[] | null;
  readonly queue: QueueCounts | null;
  readonly consistency: AuditResult | null;
  readonly problems: readonly string[];
}

export function status(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ pool, cache, configuration, queue }) => {
    const problems: string[] = [];
    const attempt = async <T>(work: () => Promise<T>): Promise<T | null> => {
      try {
        return await work();
      } catch (error) {
        problems.push(describe(error));
        return null;
      }
    };
    const prefix = configuration.cachePrefix;
    const outbox = new Outbox(pool);
    const holders = await lockHolders(pool);
    const leader = leaderOf(holders);
    const stranger = holders.find((holder) => holder.lock === 'S' && holder.stranger);
    if (stranger !== undefined) problems.push(describeStranger(stranger));
    const { running, alive } = await workerSessions(pool);
    const redis = await attempt(() => cache.getMany([prefix + HEARTBEAT_KEY, prefix + AUDIT_KEY]));
    const result: Status = {
      leader: leader === undefined ? null : { pid: leader.pid, silentMs: Math.round(leader.silentMs) },
      contested: leader === undefined && stranger !== undefined && alive > 0,
      workers: running,
      unfit: await countUnfit(pool),
      outbox: await outbox.backlog(COUNT_TO),
      deferred: { waiting: await countDeferred(pool), dueInMs: await outbox.nextDue() },
      heartbeat: redis === null ? null : redis[0] == null ? 'missing' : 'alive',
      hitRates: redis === null ? null : await attempt(() => hitRates(cache, prefix)),
      queue: await attempt(() => queue().counts()),
      consistency: parseAudit(redis?.[1] ?? null),
      problems,
    };
    if (json) printJson(result);
    else show(result);
    return ExitCode.ok;
  });
}

async function countUnfit(pool: pg.Pool): Promise<number> {
  const result = await pool.query<{ count: number }>(
    `select count(*)::int as count from pg_catalog.pg_stat_activity
      where application_name = $1 and datname = current_database()`,
    [UNFIT],
  );
  return result.rows[0]?.count ?? 0;
}

async function countDeferred(pool: pg.Pool): Promise<number> {
  const result = await pool.query<{ count: number }>(
    'select count(*)::int as count from cache_invalidation.deferred where waiting',
  );
  return result.rows[0]?.count ?? 0;
}

/** Sums what the isolates wrote down in the last day. */
async function hitRates(cache: CacheServer, prefix: string): Promise<HitRate[]> {
  const fields: string[] = [];
  for (let hour = 0; hour < HOURS; hour++) {
    fields.push(...(await cache.hashValues(prefix + statisticsKey(Date.now() - hour * 3_600_000))));
  }
  const sums = sumStatistics(fields);
  const rate = (type: string, target: number | null): HitRate => {
    const counts: Counts | undefined = sums.get(type);
    const reads = counts === undefined ? 0 : counts.hits + counts.misses;
    return { type, reads, hitRate: counts === undefined || reads === 0 ? null : counts.hits / reads, target };
  };
  return catalogueTypes().map((type) => rate(type.name, type.hitRate ?? null));
}

function parseAudit(text: string | null): AuditResult | null {
  if (text === null) return null;
  try {
    return JSON.parse(text) as AuditResult;
  } catch {
    return null;
  }
}

function show(state: Status): void {
  const { leader, outbox, deferred, queue, consistency } = state;
  const rows: string[][] = [
    [
      'worker',
      leader === null && !state.contested
        ? paint('fail', 'none drains: start one with "fencepost run"')
        : `${leadership(state)}, ${state.workers} running${
            state.unfit === 0
              ? ''
              : `, ${paint('fail', `${state.unfit} of them could not take over`)}: see its /readyz or log`
          }`,
    ],
    [
      'outbox',
      outbox.rows === 0 ? 'empty' : `${outbox.rows} rows, the oldest ${duration(outbox.oldestMs)} old`,
    ],
    [
      'deferred',
      deferred.waiting === 0
        ? 'none waits'
        : `${deferred.waiting} wait${deferred.dueInMs === null ? '' : `, the next is due in ${duration(Math.max(0, deferred.dueInMs))}`}`,
    ],
    [
      'heartbeat',
      state.heartbeat === 'alive'
        ? paint('ok', 'alive')
        : paint('warn', state.heartbeat ?? 'unknown: Redis is away'),
    ],
    [
      'queue',
      queue === null
        ? 'unknown'
        : `${queue.waiting} waiting, ${queue.active} active, ${queue.delayed} delayed, ${
            queue.failed === 0
              ? 'no dead letters'
              : paint('warn', `${queue.failed} dead letters: "fencepost retry"`)
          }`,
    ],
    [
      'consistency',
      consistency === null
        ? 'not audited in the last week: "fencepost audit"'
        : consistency.stale.length === 0
          ? `${consistency.compared} entries compared ${duration(Date.now() - Date.parse(consistency.at))} ago, none stale`
          : paint('fail', `${consistency.stale.length} of ${consistency.compared} entries stale`),
    ],
  ];
  print(table(rows));
  if (state.hitRates !== null) {
    print();
    print(table([['TYPE', 'READS', 'HIT RATE', 'TARGET'], ...state.hitRates.map(hitRateRow)]));
  }
  for (const problem of state.problems) print(`\n${paint('fail', 'problem')}  ${problem}`);
}

function leadership({ leader }: Status): string {
  if (leader === null) return paint('warn', 'draining without leadership');
  return leader.silentMs > ALIVE_MS ? paint('warn', 'silent') : paint('ok', 'draining');
}

function hitRateRow({ type, reads, hitRate, target }: HitRate): string[] {
  const percent = (share: number | null) => (share === null ? '-' : `${(share * 100).toFixed(1)} %`);
  const met = hitRate === null || target === null || hitRate >= target;
  return [type, String(reads), met ? percent(hitRate) : paint('warn', percent(hitRate)), percent(target)];
}
