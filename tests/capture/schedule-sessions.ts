import pg from 'pg';
import { type Row, type Rows, TABLES } from './schedule-model.ts';

/** The sessions of all schedules, and their tables. The first one looks from outside. */
export class Sessions {
  readonly #clients: pg.Client[] = [];

  async open(url: string, actors: number): Promise<void> {
    for (let index = 0; index <= actors; index++) {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      this.#clients.push(client);
    }
    await this.query(`
      select cache_invalidation.unwatch(rel) from (select distinct rel from cache_invalidation.watches) as watched;
      create table public.items (id integer primary key, org text, kind text, note text, extra text);
      create table public.rooms (id integer primary key, org text, extra text);
      create table public.seats (id integer primary key, room_id integer references public.rooms, extra text)`);
  }

  get(index: number): pg.Client {
    const client = this.#clients[index];
    if (client === undefined) throw new Error('no session');
    return client;
  }

  async query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]> {
    return (await this.get(0).query<R>(text, values)).rows;
  }

  /** What is committed. Of a table that somebody has locked exclusively nobody else can have committed anything. */
  async rows(former: Rows): Promise<Rows> {
    const rows = new Map<string, Row>();
    for (const table of Object.keys(TABLES)) {
      const query = `select id, to_jsonb(t) - 'id' as row from public.${table} as t`;
      try {
        for (const { id, row } of await this.query<{ id: number; row: Row }>(query))
          rows.set(`${table} ${id}`, row);
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || error.code !== '55P03') throw error;
        for (const [name, row] of former) if (name.startsWith(`${table} `)) rows.set(name, row);
      }
    }
    return rows;
  }

  /** As before the first schedule. */
  async reset(): Promise<void> {
    for (const client of this.#clients) await client.query('rollback; set lock_timeout = 0');
    const prepared = await this.query<{ gid: string }>(
      'select gid from pg_prepared_xacts where database = current_database()',
    );
    for (const { gid } of prepared) await this.query(`rollback prepared '${gid}'`);
    await this.query(`
      select cache_invalidation.unwatch(rel) from (select distinct rel from cache_invalidation.watches where implied_by is null) as watched;
      truncate public.items, public.rooms, public.seats;
      insert into public.items select id, 'o' || id % 3, 'k0', 'n0', 'e0' from generate_series(1, 4) as id;
      insert into public.rooms select id, 'o' || id % 3, 'e0' from generate_series(1, 4) as id;
      insert into public.seats select id, 1 + id % 2, 'e0' from generate_series(1, 4) as id;
      delete from cache_invalidation.changes;
      delete from cache_invalidation.pending;
      set lock_timeout = '2ms'`);
  }

  async close(): Promise<void> {
    await this.reset();
    await Promise.all(this.#clients.map((client) => client.end()));
  }
}
