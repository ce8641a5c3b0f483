/**
 * The sessions that change the database: writers with savepoints, two isolation levels and two-phase commit, a declarer, and one
 * that keeps its snapshot. Each `yield` ends a step. What would wait for a lock does not happen: every session has a lock_timeout,
 * and nobody else works meanwhile.
 */
import pg from 'pg';
import { TABLES, watchStatement } from './schedule-model.ts';
import type { Actor, Schedule } from './schedules.ts';

/** Lock timeouts, constraints of the tables themselves, and what repeatable read refuses. Anything else is the engine's fault. */
const REFUSALS = ['55P03', '23505', '23503', '40001'];

/** Runs a statement in a savepoint of its own. @returns whether it happened */
async function attempt(schedule: Schedule, client: pg.Client, statement: string): Promise<boolean> {
  try {
    await client.query(`savepoint attempt; ${statement}; release savepoint attempt`);
    schedule.note(statement);
    return true;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || !REFUSALS.includes(error.code ?? '')) throw error;
    await client.query('rollback to savepoint attempt; release savepoint attempt');
    schedule.note(`${statement}: ${error.message}`);
    return false;
  }
}

/** A random statement on a watched table. */
function statementOf({ below, pick, focus }: Schedule): string {
  const table = pick(focus.tables);
  const value = (column: string): string => {
    if (column === 'room_id') return pick(['1', '2', 'null']);
    return below(30) === 0 && column !== 'extra' ? 'null' : `'${column.slice(0, 1)}${below(3)}'`;
  };
  const ids = [...new Set([1 + below(4), 1 + below(4)])];
  const column = pick(TABLES[table]);
  const rows = ids.map((id) => `(${[id, ...TABLES[table].map(value)].join()})`).join();
  const upsert = `insert into public.${table} values ${rows} on conflict (id) do update set ${column} = excluded.${column}`;
  const update = `update public.${table} set ${column} = ${value(column)} where id in (${ids})`;
  if (table !== 'rooms' && below(40) === 0) return `truncate public.${table}`;
  return pick([
    upsert,
    upsert,
    update,
    update,
    update,
    update,
    `delete from public.${table} where id in (${ids})`,
  ]);
}

export async function* writer(schedule: Schedule, client: pg.Client): Actor {
  const { below } = schedule;
  const transaction = `schedule ${process.pid} ${schedule.actor}`;
  while (!schedule.isEnding) {
    const isolation = below(4) === 0 ? 'repeatable read' : 'read committed';
    await client.query(
      `begin isolation level ${isolation}; set local cache_invalidation.bell = off; set local lock_timeout = '2ms'`,
    );
    schedule.note(`begin ${isolation}`);
    yield;
    let savepoints = 0;
    let end: 'commit' | 'rollback' | null = null;
    while (end === null) {
      const choice = schedule.isEnding ? 10 + below(3) : below(13);
      if (choice < 8) await attempt(schedule, client, statementOf(schedule));
      else if (choice === 8) {
        savepoints += 1;
        await client.query(`savepoint s${savepoints}`);
        schedule.note(`savepoint s${savepoints}`);
      } else if (choice === 9 && savepoints > 0) {
        await client.query(`rollback to savepoint s${savepoints}`);
        schedule.note(`rollback to savepoint s${savepoints}`);
      } else if (choice >= 10) end = choice === 12 ? 'rollback' : 'commit';
      if (end === null) yield;
    }
    if (below(4) === 0) {
      await client.query(`prepare transaction '${transaction}'`);
      schedule.note('prepare transaction');
      yield;
      await client.query(`${end} prepared '${transaction}'`);
    } else await client.query(end);
    schedule.note(end);
    if (end === 'commit') await schedule.committed();
    yield;
  }
}

/** Invalidates by hand, a transaction each time. */
export async function* caller(schedule: Schedule, client: pg.Client): Actor {
  while (!schedule.isEnding) {
    const target = `kind:k0:o${schedule.below(2)}`;
    await client.query('select cache_invalidation.invalidate($1)', [target]);
    schedule.note(`invalidate ${target}`);
    schedule.model.oblige(target, schedule.step);
    await schedule.check();
    yield;
  }
}

export async function* declarer(schedule: Schedule, client: pg.Client): Actor {
  const { below, pick, model } = schedule;
  while (!schedule.isEnding) {
    await client.query(`begin; set local lock_timeout = '2ms'`);
    const changes: (() => void)[] = [];
    do {
      const declared = pick(schedule.declarations);
      const { table, target } = declared;
      const choice = below(8);
      if (choice === 0) await attempt(schedule, client, 'select cache_invalidation.refresh()');
      else if (choice <= 2) {
        if (
          await attempt(schedule, client, `select cache_invalidation.unwatch('public.${table}', '${target}')`)
        )
          changes.push(() => model.unwatch(target));
      } else if (await attempt(schedule, client, watchStatement(declared)))
        changes.push(() => model.watch(declared, schedule.step));
      yield;
    } while (below(3) === 0 && !schedule.isEnding);
    await client.query('commit');
    schedule.note('commit of declarations');
    for (const change of changes) change();
    await schedule.check();
    yield;
  }
}

/** Dead rows stay; and where it has a transaction id, this stands among those that run in every other snapshot. */
export async function* pinned(schedule: Schedule, client: pg.Client): Actor {
  while (!schedule.isEnding) {
    await client.query('begin isolation level repeatable read; select from cache_invalidation.changes');
    if (schedule.below(2) === 0) await client.query('select pg_current_xact_id()');
    schedule.note('pins a snapshot');
    do yield;
    while (!schedule.isEnding && schedule.below(6) > 0);
    await client.query('rollback');
    yield;
  }
}
