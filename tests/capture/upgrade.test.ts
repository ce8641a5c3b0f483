/**
 * A later migration changes the engine (a column of changes, the text of all capture functions, claim itself) while
 * writers write and a worker delivers: no write fails, and no invalidation is lost.
 */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { startSqlWorker } from './sql-worker.ts';

let database: ClonedDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(async () => {
  await database?.drop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

/**
 * What such a migration looks like. The new column comes first, so that rewritten functions find it; functions are replaced, never
 * dropped; refresh() comes last. Everything commits at once: a writer uses the old function or the new one, and claim reads the
 * changes of both by their versions. lock_timeout bounds how long writers can queue behind the migration.
 */
const migration = `
  set local lock_timeout = '3s';
  alter table cache_invalidation.changes add column written_by text;
  do $$
  declare
    changed record;
    source text;
  begin
    for changed in
      select * from (values
        -- a changed generator: capture functions also note who wrote
        ('capture_body', '(version, change) values ($body$, version, $body$, change)',
          '(version, change, written_by) values ($body$, version, $body$, change, session_user)'),
        -- a changed claim: the worker's statement stays the same
        ('claim', 'total constant integer', 'upgraded constant boolean := true; total constant integer')
      ) as changes(name, piece, replacement)
    loop
      source := pg_get_functiondef(('cache_invalidation.' || changed.name)::regproc);
      if strpos(source, changed.piece) = 0 then
        raise exception '% has not: %', changed.name, changed.piece;
      end if;
      execute replace(source, changed.piece, changed.replacement);
    end loop;
  end
  $$;
  select cache_invalidation.refresh();
`;

test('no write fails and none is lost while a migration changes the engine', async () => {
  const admin = await connect();
  await admin.query(`create table public.jobs (name text, org_id text);
    select cache_invalidation.watch('public.jobs', 'job:{name}');
    select cache_invalidation.watch('public.jobs', 'jobs-of:{org_id}:*')`);
  const seen = new Set<string>();
  const worker = await startSqlWorker({
    url: database.url,
    invalidate: (rows) => {
      for (const row of rows) seen.add(row.target);
    },
    vacuumEvery: 500,
  });

  const committed: string[] = [];
  let writing = true;

  async function write(number: number): Promise<void> {
    const client = await connect();
    for (let round = 0; writing; round += 1) {
      const name = `w${number}-${round}`;
      await client.query('insert into jobs values ($1, $2)', [name, `org-${number}`]);
      committed.push(`job:${name}`);
    }
    await client.end();
  }
  const writers = Promise.all([0, 1, 2, 3].map(write));
  const reached = async (count: number): Promise<void> => {
    while (committed.length < count) await new Promise((resolve) => setImmediate(resolve));
  };

  await reached(300);
  await admin.query('begin');
  await admin.query(migration);
  await admin.query('commit');
  const sinceUpgrade = committed.length;
  await reached(sinceUpgrade + 300);
  writing = false;
  await writers;
  await worker.asleep();
  // A notification may still be on its way when the worker last fell asleep.
  await worker.stop();
  const last = await startSqlWorker({
    url: database.url,
    invalidate: (rows) => {
      for (const row of rows) seen.add(row.target);
    },
    vacuumEvery: 0,
  });
  await last.asleep();
  await last.stop();

  expect(committed.filter((target) => !seen.has(target))).toEqual([]);
  await admin.query(`insert into jobs values ('after', 'x')`);
  const { rows } = await admin.query('select target, error from cache_invalidation.outbox order by target');
  expect(rows).toEqual([
    { target: 'job:after', error: null },
    { target: 'jobs-of:x:*', error: null },
  ]);
  const { rows: changes } = await admin.query('select written_by from cache_invalidation.changes');
  expect(changes).toEqual([{ written_by: 'postgres' }]);
  await admin.end();
});
