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

export interface ClaimedTarget {
  readonly target: string;
  readonly watch_id: number | null;
  readonly op: string | null;
  readonly error: string | null;
  /** The min_interval of its watch. */
  readonly interval_ms: number | null;
}

export interface Batch {
  readonly position: string;
  readonly drained: boolean;
  /** Whole transactions, and how many rows of changes they have. */
  readonly xids: readonly string[];
  readonly changes: number;
  readonly rows: readonly ClaimedTarget[];
}

/** One claim. */
export async function claim(client: pg.Client, position: string | null, maxRows: number): Promise<Batch> {
  const { rows } = await client.query<{
    position: string;
    drained: boolean;
    xids: string[] | null;
    changes: string;
    targets: string[] | null;
    watch_ids: (number | null)[] | null;
    ops: (string | null)[] | null;
    errors: (string | null)[] | null;
    intervals_ms: string[] | null;
  }>({
    name: 'claim',
    text: `select next_position::text as position, drained, xids::text[], changes, targets, watch_ids, ops::text[], errors, intervals_ms::text[]
             from cache_invalidation.claim($1, $2)`,
    values: [position, maxRows],
  });
  const batch = rows[0];
  if (batch === undefined) throw new Error('claim() gave no row at all.');
  return {
    position: batch.position,
    drained: batch.drained,
    xids: batch.xids ?? [],
    changes: Number(batch.changes),
    rows: (batch.targets ?? []).map((target, index) => ({
      target,
      watch_id: batch.watch_ids?.[index] ?? null,
      op: batch.ops?.[index] ?? null,
      error: batch.errors?.[index] ?? null,
      interval_ms: batch.intervals_ms?.[index] === undefined ? null : Number(batch.intervals_ms[index]),
    })),
  };
}

/** Removes the changes of confirmed transactions; gives how many there were. */
export async function acknowledge(client: pg.Client, xids: readonly string[]): Promise<number> {
  const result = await client.query<{ removed: string }>({
    name: 'acknowledge',
    text: 'select cache_invalidation.acknowledge($1::xid8[]) as removed',
    values: [xids],
  });
  return Number(result.rows[0]?.removed ?? 0);
}

export interface SqlWorkerOptions {
  readonly url: string;
  readonly invalidate: (rows: readonly ClaimedTarget[]) => Promise<void> | void;
  readonly maxRows?: number;
  /** Vacuum after so many acknowledged rows; 0: never. */
  readonly vacuumEvery?: number;
  /** Called with the milliseconds of a claim and of an acknowledgement, and the changes of the batch. */
  readonly onTiming?: (claimMs: number, acknowledgeMs: number, changes: number) => void;
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
    if (batch.xids.length > 0) {
      await options.invalidate(batch.rows);
      const confirmed = performance.now();
      await acknowledge(client, batch.xids);
      options.onTiming?.(claimed - started, performance.now() - confirmed, batch.changes);
      sinceVacuum += batch.changes;
      if (vacuumAfter > 0 && sinceVacuum >= vacuumAfter) {
        sinceVacuum = 0;
        vacuuming = vacuuming.then(vacuum);
      }
    }
    return batch;
  }

  async function vacuum(): Promise<void> {
    await cleaner.query('vacuum (skip_locked, truncate false) cache_invalidation.changes');
    const { rows } = await cleaner.query<{ size: string }>(
      `select pg_relation_size('cache_invalidation.changes') as size`,
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
      if (batch.xids.length > 0) {
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
