/**
 * A small worker without Redis for tests and benchmarks of the SQL. It delivers and sleeps as docs/protocol.md#wakeup says;
 * `invalidate` takes the place of the DEL.
 *
 *   awake      WAKE_LOCK is free; claims one batch after the other; polls with growing pauses while nothing comes
 *   settling   took WAKE_LOCK after a quiet time; claims until `drained`; a notification wakes it
 *   asleep     holds WAKE_LOCK; waits for a notification or the fallback poll
 *
 * Promise: it never sleeps without having seen `drained` from a claim whose snapshot began after WAKE_LOCK was granted.
 */
import pg from 'pg';

export interface ClaimedRow {
  readonly xid: string;
  readonly id: string;
  readonly target: string;
  readonly watch_id: number | null;
  readonly op: string | null;
  readonly error: string | null;
}

export interface Batch {
  readonly position: string;
  readonly drained: boolean;
  readonly rests: boolean;
  readonly rows: readonly ClaimedRow[];
}

/** One claim, with resume() before it when the position is null, and rest() after it when the batch has throttled targets. */
export async function claim(client: pg.Client, position: string | null, maxRows: number): Promise<Batch> {
  await prepare(client);
  if (position === null) await client.query('select cache_invalidation.resume()');
  const { rows } = await client.query<{
    position: string;
    drained: boolean;
    rests: boolean;
    xids: string[] | null;
    ids: string[];
    targets: string[];
    watch_ids: (number | null)[];
    ops: (string | null)[];
    errors: (string | null)[] | null;
  }>({
    name: 'claim',
    text: `select next_position::text as position, drained, rests, xids::text[], ids::text[], targets, watch_ids, ops::text[], errors
             from cache_invalidation.claim($1, $2)`,
    values: [position, maxRows],
  });
  const batch = rows[0];
  if (batch === undefined) throw new Error('claim() gave no row at all.');
  const claimed = (batch.xids ?? []).map((xid, index) => ({
    xid,
    id: batch.ids[index] ?? '',
    target: batch.targets[index] ?? '',
    watch_id: batch.watch_ids[index] ?? null,
    op: batch.ops[index] ?? null,
    error: batch.errors?.[index] ?? null,
  }));
  const moved = batch.rests ? await rest(client, claimed) : [];
  return {
    position: batch.position,
    drained: batch.drained,
    rests: batch.rests,
    rows: claimed.filter((row) => !moved.includes(row.id)),
  };
}

const prepared = new WeakSet<pg.Client>();

/** The settings of a session that claims. */
async function prepare(client: pg.Client): Promise<void> {
  if (prepared.has(client)) return;
  prepared.add(client);
  await client.query(
    'set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off',
  );
}

/** Moves claimed rows whose targets must wait into deferred; returns their ids. */
async function rest(client: pg.Client, rows: readonly ClaimedRow[]): Promise<readonly string[]> {
  const result = await client.query<{ moved: string[] }>({
    name: 'rest',
    text: 'select cache_invalidation.rest($1::xid8[], $2::bigint[])::text[] as moved',
    values: [rows.map((row) => row.xid), rows.map((row) => row.id)],
  });
  return result.rows[0]?.moved ?? [];
}

/** Removes confirmed rows; gives how many there were. */
export async function acknowledge(
  client: pg.Client,
  rows: readonly ClaimedRow[],
  rests = true,
): Promise<number> {
  const result = await client.query<{ removed: string }>({
    name: 'acknowledge',
    text: 'select cache_invalidation.acknowledge($1::xid8[], $2::bigint[], $3) as removed',
    values: [rows.map((row) => row.xid), rows.map((row) => row.id), rests],
  });
  return Number(result.rows[0]?.removed ?? 0);
}

export interface SqlWorkerOptions {
  readonly url: string;
  readonly invalidate: (rows: readonly ClaimedRow[]) => Promise<void> | void;
  readonly maxRows?: number;
  /** Vacuum after so many acknowledged rows; 0: never. */
  readonly vacuumEvery?: number;
  /** Called with the milliseconds of a claim and of an acknowledgement. */
  readonly onTiming?: (claimMs: number, acknowledgeMs: number, rows: number) => void;
}

export interface SqlWorker {
  stop(): Promise<void>;
  /** Waits until the worker is asleep: everything committed before the call has been handed out. */
  asleep(): Promise<void>;
}

const QUIET_POLLS = 5;
const LONGEST_PAUSE_MS = 8;
const FALLBACK_POLL_MS = 5_000;

export async function startSqlWorker(options: SqlWorkerOptions): Promise<SqlWorker> {
  const client = new pg.Client({ connectionString: options.url, application_name: 'sql-worker' });
  await client.connect();
  const cleaner = new pg.Client({ connectionString: options.url, application_name: 'sql-worker-vacuum' });
  await cleaner.connect();
  const maxRows = options.maxRows ?? 1000;

  let wakeFlag = false;
  let wake: (() => void) | undefined;
  let isAsleep = false;
  let stopping = false;
  const sleepers: (() => void)[] = [];
  client.on('notification', () => {
    wakeFlag = true;
    wake?.();
  });
  await client.query('listen cache_invalidation');
  const leading = await client.query<{ held: boolean }>('select pg_try_advisory_lock(461870002) as held');
  if (leading.rows[0]?.held !== true) throw new Error('Another worker leads.');

  let position: string | null = null;
  let sinceVacuum = 0;
  let vacuumAfter = options.vacuumEvery ?? 20_000;
  let vacuuming = Promise.resolve();
  let lastSize = 0;

  async function step(): Promise<Batch> {
    const started = performance.now();
    const batch = await claim(client, position, maxRows);
    const claimed = performance.now();
    position = batch.position;
    if (batch.rows.length > 0) {
      await options.invalidate(batch.rows);
      const confirmed = performance.now();
      await acknowledge(client, batch.rows, batch.rests);
      options.onTiming?.(claimed - started, performance.now() - confirmed, batch.rows.length);
      sinceVacuum += batch.rows.length;
      if (vacuumAfter > 0 && sinceVacuum >= vacuumAfter) {
        sinceVacuum = 0;
        vacuuming = vacuuming.then(vacuum);
      }
    }
    return batch;
  }

  async function vacuum(): Promise<void> {
    await cleaner.query('vacuum (skip_locked, truncate false) cache_invalidation.outbox');
    const { rows } = await cleaner.query<{ size: string }>(
      `select pg_relation_size('cache_invalidation.outbox') as size`,
    );
    const size = Number(rows[0]?.size);
    // An old snapshot keeps the rows: vacuum more rarely.
    vacuumAfter = size > lastSize * 1.5 && lastSize > 0 ? vacuumAfter * 2 : (options.vacuumEvery ?? 20_000);
    lastSize = size;
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      function done(): void {
        clearTimeout(timer);
        wake = undefined;
        resolve();
      }
      wake = done;
      if (wakeFlag || stopping) done();
    });
  }

  async function run(): Promise<void> {
    let quiet = 0;
    while (!stopping) {
      const batch = await step();
      if (batch.rows.length > 0) {
        quiet = 0;
        continue;
      }
      quiet += 1;
      if (quiet < QUIET_POLLS) {
        wakeFlag = false;
        await pause(Math.min(2 ** quiet, LONGEST_PAUSE_MS));
        continue;
      }
      const lock = await client.query<{ held: boolean }>('select pg_try_advisory_lock(461870001) as held');
      if (lock.rows[0]?.held !== true) {
        wakeFlag = false;
        await pause(LONGEST_PAUSE_MS);
        continue;
      }
      for (;;) {
        wakeFlag = false;
        while (!(await step()).drained) if (stopping) break;
        if (wakeFlag || stopping) break;
        isAsleep = true;
        for (const resolve of sleepers.splice(0)) resolve();
        await pause(FALLBACK_POLL_MS);
        isAsleep = false;
        if (wakeFlag) break;
      }
      await client.query('select pg_advisory_unlock(461870001)');
      quiet = 0;
    }
  }

  const running = run();
  return {
    async stop() {
      stopping = true;
      wake?.();
      await running;
      await vacuuming;
      await client.end();
      await cleaner.end();
    },
    async asleep() {
      if (isAsleep && !wakeFlag) return;
      await new Promise<void>((resolve) => sleepers.push(resolve));
    },
  };
}
