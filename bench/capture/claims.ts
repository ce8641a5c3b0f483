/**
 * The processor time of claiming and acknowledging, and how large the table of the changes becomes: alone, and while another session
 * keeps a transaction open, so that no acknowledged change can be vacuumed away.
 *
 *     npx tsx bench/capture/claims.ts [--against ../before] [--changes 100000] [--passes 3]
 *
 * Each change is an UPDATE of its own and has a target of its own. A pass writes so many and claims them, 1 000 at a time, from the
 * position of the pass before. The other session's transaction begins after the first pass. `--against` is that of throughput.ts.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { createTables, type Engine, startEngines } from '../support/database.ts';

const { values: options } = parseArgs({
  options: {
    against: { type: 'string' },
    changes: { type: 'string', default: '100000' },
    passes: { type: 'string', default: '3' },
  },
});

interface Batch {
  readonly position: string;
  readonly drained: boolean;
  readonly targets: number;
  /** What acknowledge() takes; null when the batch is empty. */
  readonly acknowledged: string[] | null;
}

/** Claims and acknowledges until nothing is left. */
async function drain(engine: Engine, position: string | null) {
  // The engine before 29 November 2026 acknowledges rows, this one transactions.
  const byRow = engine.table.endsWith('outbox');
  const sum = { position, targets: 0, claimMs: 0, acknowledgeMs: 0 };
  for (;;) {
    const startedAt = await engine.processorMs();
    const [batch] = await engine.query<Batch>(
      `select next_position::text as position, drained, cardinality(targets) as targets,
          case when xids is not null then array[xids::text${byRow ? ', ids::text' : ''}] end as acknowledged
        from cache_invalidation.claim($1, 1000)`,
      [sum.position],
    );
    const claimedAt = await engine.processorMs();
    if (batch === undefined) throw new Error('claim() gave no row at all.');
    if (batch.acknowledged !== null) {
      await engine.query(
        `select cache_invalidation.acknowledge($1${byRow ? ', $2, false' : ''})`,
        batch.acknowledged,
      );
    }
    sum.position = batch.position;
    sum.targets += batch.targets;
    sum.claimMs += claimedAt - startedAt;
    sum.acknowledgeMs += (await engine.processorMs()) - claimedAt;
    if (batch.drained) return sum;
  }
}

async function measure(engine: Engine): Promise<void> {
  await createTables(engine, ['one'], Number(options.changes), 'i');
  const other = new pg.Client({ connectionString: engine.url });
  await other.connect();
  await engine.query('set synchronous_commit = off');
  let { position } = await drain(engine, null);
  for (let pass = 0; pass <= Number(options.passes); pass += 1) {
    await engine.query(
      `do $$ begin for i in 1..${options.changes} loop update public.one set used = used + 1 where id = i; commit; end loop; end $$`,
    );
    const sum = await drain(engine, position);
    position = sum.position;
    const [size] = await engine.query<{ mb: number }>(`select pg_total_relation_size($1) / 1048576.0 as mb`, [
      engine.table,
    ]);
    const each = [sum.claimMs, sum.acknowledgeMs].map((ms) => ((ms / sum.targets) * 1000).toFixed(1));
    console.log(
      `${engine.name.padEnd(8)} ${pass === 0 ? 'alone ' : 'pinned'}  ${sum.targets} targets: claim ${each[0]} us, acknowledge ${each[1]} us a target; ${Number(size?.mb).toFixed(0)} MB`,
    );
    if (pass === 0) {
      await other.query(
        'begin isolation level repeatable read; create temporary table holds_an_id (a integer)',
      );
    }
  }
  await other.end();
}

const engines = await startEngines(options.against);
try {
  for (const engine of engines.all) await measure(engine);
} finally {
  await engines.stop();
}
process.exit(0);
