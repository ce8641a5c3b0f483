/**
 * Installs and upgrades the tables of BullMQ's Postgres backend with the runner that bullmq exports.
 *
 * Promises: everything happens in one transaction, so a crash leaves nothing behind. Two workers at once are safe: the
 * runner takes an advisory lock and reads the recorded version under it. Every wait ends: locks after 5 s, statements
 * after 20 s. All objects belong to `fencepost_worker`, so that any of its members can upgrade them later. A database
 * that has the version already is only read.
 *
 * The schema itself comes from our migration. The runner's `CREATE SCHEMA IF NOT EXISTS` is not sent: Postgres refuses it
 * without CREATE on the database, even where the schema exists.
 */
import { createHash } from 'node:crypto';
import {
  assertSchemaCompatibility,
  BULLMQ_MAJOR_VERSION,
  LATEST_SCHEMA_VERSION,
  runMigrations,
  SchemaMigrationRequiredError,
} from 'bullmq';
import pg from 'pg';
import { errorCode } from '../db/errors.ts';
import { QUEUE_SCHEMA, WORKER_ROLE } from '../db/names.ts';
import { clientOptions, withClient } from '../db/pool.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import { explainPostgresQueue } from './errors.ts';
import { QUEUE_NAME } from './jobs.ts';

/** The client gives up after the server's own limits. */
const ANSWER_WITHIN_MS = 25_000;
const LIMITS = `
  set lock_timeout = 5000;
  set statement_timeout = 20000;
  set idle_in_transaction_session_timeout = 20000;
  set default_transaction_isolation = 'read committed'`;

/** The one statement of the runner that is not sent. */
const CREATE_SCHEMA = `CREATE SCHEMA IF NOT EXISTS "${QUEUE_SCHEMA}"`;

/**
 * Sent before the runner's COMMIT. BullMQ makes a queue's sequence at its first job, as whoever adds that job; made here it
 * belongs to the same role as the tables. Some of its functions have no search_path of their own, which Supabase's advisors ask for. The grants
 * count where somebody else than the worker's role runs this.
 */
const FINISH = `
create sequence if not exists bullmq_jid_${createHash('md5').update(QUEUE_NAME).digest('hex')};
do $$
declare
  unset regprocedure;
begin
  for unset in
    select p.oid from pg_catalog.pg_proc as p
    where p.pronamespace = '${QUEUE_SCHEMA}'::regnamespace
      and not exists (select from unnest(p.proconfig) as s(setting) where s.setting like 'search_path=%')
  loop
    execute format('alter function %s set search_path = ${QUEUE_SCHEMA}', unset);
  end loop;
end
$$;
revoke all on all functions in schema ${QUEUE_SCHEMA} from public;
grant select, insert, update, delete on all tables in schema ${QUEUE_SCHEMA} to ${WORKER_ROLE};
grant usage, select, update on all sequences in schema ${QUEUE_SCHEMA} to ${WORKER_ROLE};
grant execute on all functions in schema ${QUEUE_SCHEMA} to ${WORKER_ROLE};`;

type Queryable = Parameters<typeof runMigrations>[0];

interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** @throws WorkerError QUEUE_UNAVAILABLE with the remedy */
export async function installQueue(url: string): Promise<void> {
  try {
    await recordMigrations();
    await withClient(clientOptions(url, 'queue-install', ANSWER_WITHIN_MS), async (client) => {
      await client.query(LIMITS);
      if (await isUpToDate(client)) return;
      await client.query(`set role ${WORKER_ROLE}`);
      await runMigrations(withOurChanges(client), QUEUE_SCHEMA);
    });
  } catch (error) {
    throw explained(error, url);
  }
}

/** Whether the database records the version that this worker's bullmq installs, or a newer one that it can use. */
export async function isUpToDate(client: Pick<pg.Client, 'query'>): Promise<boolean> {
  return (await installedVersion(client)) >= LATEST_SCHEMA_VERSION;
}

/** The version that the database records; 0 when nothing is installed. */
async function installedVersion(client: Pick<pg.Client, 'query'>): Promise<number> {
  try {
    return await assertSchemaCompatibility(client as Queryable, QUEUE_SCHEMA);
  } catch (error) {
    if (error instanceof SchemaMigrationRequiredError) return 0;
    throw error;
  }
}

function withOurChanges(client: pg.Client): Queryable {
  const query = async (text: string, values?: readonly unknown[]) => {
    if (text === CREATE_SCHEMA) return { rows: [] };
    if (text === 'COMMIT') await client.query(FINISH);
    return await client.query(text, values as unknown[] | undefined);
  };
  return { query } as Queryable;
}

/**
 * What the runner sends to a database that has no tables yet, and the version that this leads to. Sends nothing.
 *
 * @throws Error when bullmq's text is no longer the one that `withOurChanges` knows
 */
async function recordMigrations(): Promise<{
  readonly version: number;
  readonly statements: readonly Statement[];
}> {
  const statements: Statement[] = [];
  const query = async (text: string, values: readonly unknown[] = []) => {
    statements.push({ text, values });
    return { rows: [{ num: '150000', ver: '15', version: 0, min_client_version: BULLMQ_MAJOR_VERSION }] };
  };
  const version = await runMigrations({ query } as Queryable, QUEUE_SCHEMA);
  const known =
    statements.filter(({ text }) => /^\s*create\s+schema/i.test(text)).length === 1 &&
    statements.some(({ text }) => text === CREATE_SCHEMA) &&
    statements.findIndex(({ text }) => text === 'COMMIT') === statements.length - 1;
  if (!known)
    throw new Error('bullmq installs its tables in another way than worker/src/queue/install.ts expects');
  return { version, statements };
}

/**
 * The same SQL as one script, for an owner whose worker may create nothing. It may be run again, and after an upgrade of
 * the worker: steps that the database records are passed over.
 */
export async function queueSql(): Promise<string> {
  const { statements } = await recordMigrations();
  const parts: string[] = [];
  for (const { text, values } of statements) {
    const step = /^\s*INSERT INTO migration/.test(text) ? parts.pop() : undefined;
    if (text === CREATE_SCHEMA || /^\s*SELECT (?!pg_advisory_xact_lock)/.test(text)) continue;
    if (text === 'COMMIT') parts.push(FINISH.trim());
    const inlined = text.trim().replace(/\$(\d)\b/g, (whole, place: string) => {
      const value = values[Number(place) - 1];
      return value === undefined
        ? whole
        : typeof value === 'number'
          ? `${value}`
          : pg.escapeLiteral(String(value));
    });
    parts.push(step === undefined ? `${inlined.replace(/;$/, '')};` : guarded(step, inlined, values[0]));
  }
  return `-- Run this as the owner of schema ${QUEUE_SCHEMA}. The text of each step is bullmq's own.\n\n${parts.join('\n\n')}\n`;
}

/** A step that is passed over where the database records it. */
function guarded(step: string, record: string, version: unknown): string {
  return `do $fencepost_step$
begin
  if exists (select from migration where version >= ${version}) then return; end if;
  execute $fencepost_sql$
${step}
$fencepost_sql$;
  ${record};
end
$fencepost_step$;`;
}

function explained(error: unknown, url: string): WorkerError {
  if (errorCode(error) !== '42501') return explainPostgresQueue(error, url);
  return new WorkerError(
    'QUEUE_UNAVAILABLE',
    `The queue’s tables are missing or too old, and the user of DATABASE_URL may not install them (${describe(error)}). Let the owner of the database run "grant ${WORKER_ROLE} to <user>; grant usage, create on schema ${QUEUE_SCHEMA} to ${WORKER_ROLE};", or install them with "npx fencepost queue-sql | psql <DATABASE_URL of the owner>".`,
    { exitCode: ExitCode.denied, cause: error },
  );
}
