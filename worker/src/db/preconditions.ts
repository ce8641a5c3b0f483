/**
 * Checks the database once, before the worker starts: it can be reached, is Postgres 15 or newer, has the migrations, takes
 * writes, and no transaction pooler stands in between.
 */
import pg from 'pg';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { explainDatabaseError, readOnlyError, transactionPoolerError } from './errors.ts';
import { SCHEMA } from './names.ts';
import { clientOptions } from './pool.ts';

const OLDEST_POSTGRES = 150_000;

/** @throws WorkerError with one clear sentence */
export async function checkDatabase(url: string): Promise<void> {
  const first = new pg.Client(clientOptions(url, 'check'));
  const second = new pg.Client(clientOptions(url, 'check'));
  for (const client of [first, second]) client.on('error', () => undefined);
  try {
    await first.connect();
    await checkServer(first, url);
    await second.connect();
    await checkSession(first, second);
  } catch (error) {
    throw explainDatabaseError(error, url);
  } finally {
    await Promise.allSettled([first.end(), second.end()]);
  }
}

/**
 * The same check of a running worker's sessions, on two connections of its pool.
 *
 * @throws WorkerError TRANSACTION_POOLER behind one; what pg threw when the database cannot be asked
 */
export async function checkSessions(pool: pg.Pool): Promise<void> {
  const first = await pool.connect();
  try {
    const second = await pool.connect();
    try {
      await checkSession(first, second);
    } finally {
      second.release();
    }
  } finally {
    first.release();
  }
}

async function checkServer(client: pg.Client, url: string): Promise<void> {
  const { rows } = await client.query<{
    version: number;
    standby: boolean;
    read_only: boolean;
    migrated: boolean;
    usable: boolean;
  }>(
    `select current_setting('server_version_num')::int as version,
            pg_is_in_recovery() as standby, current_setting('transaction_read_only')::bool as read_only,
            exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                     where n.nspname = $1 and c.relname = 'changes') as migrated,
            coalesce(has_schema_privilege(to_regnamespace($1)::oid, 'usage'), false) as usable`,
    [SCHEMA],
  );
  const server = rows[0];
  if (server === undefined) throw new Error('The server gave no answer.');
  if (server.version < OLDEST_POSTGRES) {
    throw new WorkerError(
      'DATABASE_FAILED',
      `The database is Postgres ${Math.floor(server.version / 10_000)}; Fencepost needs 15 or newer: upgrade it.`,
      { exitCode: ExitCode.configuration },
    );
  }
  if (!server.migrated) throw Object.assign(new Error('No outbox.'), { code: '3F000' });
  if (!server.usable)
    throw Object.assign(new Error(`permission denied for schema ${SCHEMA}`), { code: '42501' });
  if (server.read_only) throw readOnlyError(server.standby, url);
}

/**
 * A session keeps its backend. A pooler in transaction mode gives the backend of a client between two transactions to another
 * client: then two connected clients share a backend, or one client changes it.
 */
async function checkSession(first: pg.ClientBase, second: pg.ClientBase): Promise<void> {
  const before = await backendOf(first);
  const other = await backendOf(second);
  await second.query('begin');
  const after = await backendOf(first);
  await second.query('rollback');
  if (before === other || before !== after) throw transactionPoolerError();
}

async function backendOf(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]?.pid ?? 0;
}
