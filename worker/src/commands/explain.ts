/**
 * `fencepost explain "UPDATE …"`: which keys a statement would invalidate. It runs the statement in a transaction, reads what the
 * triggers wrote into the outbox (deferred triggers included), and rolls back. The extended protocol takes exactly one statement,
 * so nothing can follow it. Limits on locks and time keep it from blocking the application.
 */
import type pg from 'pg';
import { deletionsFor } from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { errorCode } from '../db/errors.ts';
import { refusal } from '../db/foreign-statement.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson, table } from './output.ts';

const LOCK_TIMEOUT = '2s';
const STATEMENT_TIMEOUT = '10s';
/** Pages of 1 000 keys that are scanned to count entries. */
const PAGES_MOST = 20;

/** An empty text, and statements that would end the transaction or do what no rollback undoes. */
const NOT_ALLOWED =
  /^(?:--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/|[\s;])*(?:$|(?:begin|start|commit|end|rollback|abort|savepoint|release|prepare|set|reset|discard|listen|unlisten|notify|vacuum|copy)\b)/i;

interface Effect {
  readonly target: string;
  readonly table: string;
  /** Of a throttled target, such as `1 minute`; else null. */
  readonly minInterval: string | null;
}

export interface Explained extends Effect {
  readonly kind: 'key' | 'group' | 'everything' | 'sweep';
  /** Cached entries that it would invalidate. */
  readonly entries: number;
  /** False: only a part of the cache was scanned, and the text shows a `+`. */
  readonly entriesComplete: boolean;
}

export function explain(variables: NodeJS.ProcessEnv, statement: string, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ pool, cache }) => {
    if (NOT_ALLOWED.test(statement)) {
      throw invalid(
        'It must be one INSERT, UPDATE, DELETE, MERGE, TRUNCATE, SELECT or CALL, without transaction control.',
      );
    }
    const { rows, effects } = await rehearse(pool, statement);
    const explained: Explained[] = [];
    for (const effect of effects) explained.push(await touched(cache, effect));
    if (json) printJson({ rows, targets: explained });
    else show(rows, explained);
    return ExitCode.ok;
  });
}

async function rehearse(
  pool: pg.Pool,
  statement: string,
): Promise<{ rows: number | null; effects: Effect[] }> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    await client.query(
      `set local lock_timeout = '${LOCK_TIMEOUT}'; set local statement_timeout = '${STATEMENT_TIMEOUT}'; set local cache_invalidation.bell = off`,
    );
    const before = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
    let rows: number | null;
    try {
      rows = (await client.query({ text: statement, queryMode: 'extended' } as pg.QueryConfig)).rowCount;
    } catch (error) {
      throw refused(error, 'Postgres refused it');
    }
    try {
      // The commit never comes, so deferred triggers and constraints run now.
      await client.query('set constraints all immediate');
    } catch (error) {
      throw refused(error, 'It would fail at its commit');
    }
    const effects = await client.query<Effect>(
      `select o.target, coalesce(w.rel::text, '-') as "table", min(w.min_interval)::text as "minInterval"
         from cache_invalidation.outbox as o left join cache_invalidation.watches as w on w.id = o.watch_id
        where o.xid = pg_current_xact_id() and o.xid = $1::xid8
        group by 1, 2 order by 2, 1`,
      [before.rows[0]?.xid],
    );
    return { rows, effects: effects.rows };
  } finally {
    await client.query('rollback').catch(() => undefined);
    client.release();
  }
}

async function touched(cache: CacheServer, effect: Effect): Promise<Explained> {
  const { keys, newEpoch, sweep } = deletionsFor(effect.target);
  const kind = newEpoch
    ? 'everything'
    : sweep !== null
      ? 'sweep'
      : effect.target.includes('*')
        ? 'group'
        : 'key';
  if (kind === 'key') {
    const [entry] = await cache.getMany([keys[0] ?? '']);
    return { ...effect, kind, entries: entry === null ? 0 : 1, entriesComplete: true };
  }
  let cursor = '0';
  let entries = 0;
  for (let page = 0; page < PAGES_MOST; page++) {
    const answer = await cache.scan(cursor, effect.target, 1_000);
    entries += answer.keys.filter((key) => !/^fence(post)?:/.test(key)).length;
    cursor = answer.cursor;
    if (cursor === '0') break;
  }
  return { ...effect, kind, entries, entriesComplete: cursor === '0' };
}

function show(rows: number | null, targets: readonly Explained[]): void {
  print(
    `${rows ?? 0} rows; rolled back. ${paint('warn', 'What it did outside the transaction (sequences, calls to other systems) stays.')}`,
  );
  if (targets.length === 0) {
    print('It would invalidate nothing: no watched table is written, or no watched column changes.');
    return;
  }
  print();
  print(
    table([
      ['TARGET', 'KIND', 'TABLE', 'CACHED ENTRIES', ''],
      ...targets.map((target) => [
        target.target,
        target.kind,
        target.table,
        `${target.entries}${target.entriesComplete ? '' : '+'}`,
        target.minInterval === null ? '' : `at once, then at most every ${target.minInterval}`,
      ]),
    ]),
  );
}

const INTRO = 'This statement cannot be explained.';

const REMEDIES = {
  '55P03': 'A session holds a lock that it needs: try again.',
  '57014': `It took longer than ${STATEMENT_TIMEOUT}.`,
};

/** A database that takes no writes, or is away, is not the statement's fault. */
function refused(error: unknown, what: string): unknown {
  return errorCode(error) === '25006'
    ? error
    : refusal(error, 'INVALID_STATEMENT', `${INTRO} ${what}`, REMEDIES);
}

function invalid(message: string): WorkerError {
  return new WorkerError('INVALID_STATEMENT', `${INTRO} ${message}`, { exitCode: ExitCode.usage });
}
