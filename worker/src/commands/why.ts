/**
 * `fencepost why KEY`: whether a reader would be answered from the cache now, and if not, why not; which invalidations of the
 * key are on their way; and which watched tables reach it at all. Shows no value.
 */
import type pg from 'pg';
import { CacheError } from '../../../supabase/functions/_shared/cache/protocol/errors.ts';
import {
  checkKey,
  fencesOf,
  scopeOfFence,
} from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { covers, targetFor } from '../diagnostics/why/coverage.ts';
import { type Inspection, inspect, type Verdict } from '../diagnostics/why/inspect.ts';
import { asWorkerError, describe, ExitCode, WorkerError } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson, table } from './output.ts';

/** Rows of the outbox, and of `pending`, that are read at most. Both are nearly empty when all is well. */
const ROWS_MOST = 100_000;

interface Pending {
  readonly target: string;
  /** Of the watched table; null when by hand, or unknown. */
  readonly table: string | null;
  readonly ageMs: number;
  /** Of a throttled target: when it runs. */
  readonly dueInMs: number | null;
  /** Of a target that has left the outbox: why it is not confirmed; else null. */
  readonly unconfirmed: string | null;
}

interface Watch {
  readonly table: string;
  readonly target: string;
  readonly columns: readonly string[] | null;
  readonly minInterval: string | null;
  /** What keeps it from invalidating, with the remedy; null in good order. */
  readonly problem: string | null;
}

export interface Why {
  readonly key: string;
  /** The key's first segment. */
  readonly type: string;
  /** Those that the entry stands behind; empty without an entry, since only the reader's key types name them then. */
  readonly fences: readonly string[];
  /** The scopes of the fences that it stands behind because of what its loader depends on. */
  readonly dependsOn: readonly string[];
  readonly verdict: Verdict | 'unknown';
  readonly why: string;
  readonly loadedAt: string | null;
  readonly pending: readonly Pending[];
  /** Places that were not searched, where an invalidation of the key may wait too. */
  readonly unseen: readonly string[];
  readonly watches: readonly Watch[];
}

export function why(variables: NodeJS.ProcessEnv, key: string, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ pool, cache }) => {
    refuseWhatIsNoKey(key);
    // Read before the entry, so that an invalidation confirmed in between shows as a miss.
    const rows = await outboxRows(pool);
    const unconfirmed = await unconfirmedTargets(pool);
    const unseen = [
      ...(rows.length < ROWS_MOST ? [] : [`rows of the outbox after the first ${ROWS_MOST}`]),
      ...(unconfirmed.length < ROWS_MOST ? [] : [`pending targets after the first ${ROWS_MOST}`]),
    ];
    let exitCode: ExitCode = ExitCode.ok;
    const found = await inspect(cache, key).catch((error: unknown) => {
      exitCode = asWorkerError(error).exitCode;
      return unknown(key, error);
    });
    const { verdict, fences, envelope } = found;
    // Without an entry nobody knows the depth of its entity, so it may be any.
    const behind = envelope === null ? [...fences, ...fencesOf(key, 2)] : fences;
    const dependencies = (envelope?.dependencies ?? []).map((fence) => scopeOfFence(fence) ?? fence);
    const result: Why = {
      key,
      type: key.split(':')[0] ?? key,
      fences: envelope === null ? [] : fences,
      dependsOn: dependencies,
      verdict,
      why: found.why,
      loadedAt: envelope === null ? null : new Date(envelope.loadedAt).toISOString(),
      pending: [...rows, ...unconfirmed].filter(({ target }) => covers(target, key, behind)),
      unseen,
      watches: (await watches(pool)).filter(({ target }) =>
        [key, ...dependencies].some((scope) => covers(targetFor(target, scope), key, behind)),
      ),
    };
    if (json) printJson(result);
    else show(result);
    return exitCode;
  });
}

/** @throws WorkerError INVALID_TARGET */
function refuseWhatIsNoKey(key: string): void {
  try {
    checkKey(key);
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    throw new WorkerError('INVALID_TARGET', `${error.message} Name one key, such as order:42:total.`, {
      exitCode: ExitCode.usage,
      cause: error,
    });
  }
}

/** While Redis is away the command still shows what the database says. */
function unknown(key: string, error: unknown): Omit<Inspection, 'verdict'> & { verdict: 'unknown' } {
  const why = `Redis could not be asked. ${describe(error)}`;
  return { verdict: 'unknown', why, fences: fencesOf(key), envelope: null };
}

async function outboxRows(pool: pg.Pool): Promise<Pending[]> {
  const { rows } = await pool.query<Pending>(
    `select o.target, w.rel::text as "table", null as "dueInMs", null as unconfirmed,
            (1000 * extract(epoch from clock_timestamp() - o.written_at))::float8 as "ageMs"
       from cache_invalidation.outbox as o left join cache_invalidation.watches as w on w.id = o.watch_id
      order by o.xid limit $1`,
    [ROWS_MOST],
  );
  return rows;
}

/** What has left the outbox without a confirmation, or waits for its second deletion. */
async function unconfirmedTargets(pool: pg.Pool): Promise<Pending[]> {
  const { rows } = await pool.query<Pending>(
    `select p.target, null as "table",
            (1000 * extract(epoch from clock_timestamp() - p.since))::float8 as "ageMs",
            case when p.why = 'throttled'
              then greatest(0, 1000 * extract(epoch from p.due_at - clock_timestamp()))::float8 end as "dueInMs",
            p.why || case when p.failed_at is null then '' else ', a dead letter: "fencepost retry"' end as unconfirmed
       from cache_invalidation.pending as p order by p.id limit $1`,
    [ROWS_MOST],
  );
  return rows;
}

async function watches(pool: pg.Pool): Promise<Watch[]> {
  const { rows } = await pool.query<Watch>(
    `with p as materialized (select * from cache_invalidation.problems())
     select w.rel::text as "table", w.target, w.columns, w.min_interval::text as "minInterval",
            (select string_agg(p.problem || ': ' || p.remedy, '; ') from p where p.watch_id = w.id) as problem
       from cache_invalidation.watches as w order by w.id`,
  );
  return rows;
}

const TONES = { hit: 'ok', young: 'warn', stale: 'warn', miss: 'warn', unknown: 'fail' } as const;

function show(result: Why): void {
  const rows: string[][] = [
    ['now', `${paint(TONES[result.verdict], result.verdict)}: ${result.why}`],
    ['behind', result.fences.join('  ') || 'not known: an entry tells its fences, and none can be read'],
  ];
  if (result.dependsOn.length > 0) rows.push(['depends on', result.dependsOn.join('  ')]);
  for (const { target, table: from, ageMs, dueInMs, unconfirmed } of result.pending) {
    const runs = dueInMs === null ? '' : `, and runs in ${duration(dueInMs)}`;
    const state =
      unconfirmed === null
        ? `written ${duration(ageMs)} ago by ${from ?? 'hand'}, not confirmed yet`
        : `pending for ${duration(ageMs)}: ${unconfirmed}${runs}`;
    rows.push(['on its way', `${target}, ${state}`]);
  }
  if (result.pending.length === 0 && result.unseen.length === 0)
    rows.push(['on its way', 'no invalidation of it waits']);
  for (const place of result.unseen) rows.push(['not searched', paint('warn', place)]);
  for (const watch of result.watches) {
    const columns =
      watch.columns === null
        ? ''
        : `, updates only when ${watch.columns.join(', ')} or a column of the target changes`;
    const interval = watch.minInterval === null ? '' : `, at most every ${watch.minInterval}`;
    rows.push(['watched', `${watch.table}  ${watch.target}${columns}${interval}`]);
    if (watch.problem !== null) rows.push(['', paint('fail', watch.problem)]);
  }
  if (result.watches.length === 0) {
    rows.push(['watched', paint('fail', 'no watched table invalidates it: see cache_invalidation.watch()')]);
  }
  print(table(rows));
}
