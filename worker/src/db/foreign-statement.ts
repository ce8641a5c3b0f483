/** Runs SQL that a command's caller or the database's owner wrote, read-only, and explains how it failed. */
import pg from 'pg';
import { describe, type ErrorCode, ExitCode, WorkerError } from '../lib/errors.ts';
import { errorCode } from './errors.ts';

/**
 * Runs one query alone in a read-only transaction, which is over when this returns. Values arrive in ISO form and in UTC.
 * @throws what `pg` throws
 */
export async function queryReadOnly<Row extends pg.QueryResultRow>(
  client: pg.ClientBase,
  timeoutMs: number,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  await client.query(`begin read only; set local statement_timeout = ${timeoutMs};
    set local lock_timeout = 5000; set local datestyle = iso; set local timezone = 'UTC'`);
  try {
    // The extended protocol takes exactly one statement, so the text cannot end the transaction.
    const query = { text, values: [...values], queryMode: 'extended' } as pg.QueryConfig;
    return (await client.query<Row>(query)).rows;
  } finally {
    await client.query('rollback').catch(() => undefined);
  }
}

/** SQLSTATEs that are the statement's fault: its text, names, types, rights, data, constraints, locks and time, and that it would write. */
const AT_FAULT = /^(?:0A|20|21|22|23|25|2F|3F|42|55|P0|57014)/;

/**
 * What Postgres said against the statement, with a remedy; any other error as it is.
 * @param remedies by SQLSTATE, before Postgres's own hint
 */
export function refusal(
  error: unknown,
  code: ErrorCode,
  intro: string,
  remedies: Readonly<Record<string, string>>,
): unknown {
  const state = errorCode(error);
  if (!(error instanceof pg.DatabaseError) || !AT_FAULT.test(state)) return error;
  const words = [`${describe(error).replace(/\.$/, '')}.`, error.detail, remedies[state] ?? error.hint];
  const isTransient = state === '55P03' || state === '57014';
  const exitCode = state === '42501' ? ExitCode.denied : isTransient ? ExitCode.unavailable : ExitCode.usage;
  return new WorkerError(code, `${intro}: ${words.filter(Boolean).join(' ')}`, { exitCode, cause: error });
}
