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

/** SQLSTATEs whose text is about names, syntax and time. That of all others may repeat a row's values. */
const NAMES_ONLY = /^(?:0A|25|3F|42|55P03|57014)/;

/** In place of such a text, by the SQLSTATE's class. */
const REASONS: Readonly<Record<string, string>> = {
  '21': 'a subquery gives more than one row',
  '22': 'a value does not fit its type or function: run it in psql to see which',
  '23': 'a constraint refuses a row',
  P0: 'a function raised an error of its own: run it in psql to read it',
};

/** RAISE takes any SQLSTATE. */
function isRaised(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.routine === 'exec_stmt_raise';
}

/** Whether the statement failed by its own fault, and not the database. */
export function isAtFault(error: unknown): boolean {
  return AT_FAULT.test(errorCode(error)) || isRaised(error);
}

/** What may be shown, and kept, of Postgres's error: no value of a row. */
export function withoutValues(error: unknown): string {
  const state = errorCode(error);
  if (NAMES_ONLY.test(state) && !isRaised(error)) return describe(error);
  const reason = REASONS[isRaised(error) ? 'P0' : state.slice(0, 2)] ?? 'run it in psql to read why';
  return `SQLSTATE ${state}: ${reason}`;
}

/**
 * What Postgres said against the statement, with a remedy; any other error as it is.
 * @param remedies by SQLSTATE, before Postgres's own hint
 * @param isOurs the statement calls a function of the engine, whose own messages are shown whole
 */
export function refusal(
  error: unknown,
  code: ErrorCode,
  intro: string,
  remedies: Readonly<Record<string, string>>,
  isOurs = false,
): unknown {
  const state = errorCode(error);
  if (!(error instanceof pg.DatabaseError) || !isAtFault(error)) return error;
  const text = isOurs ? describe(error) : withoutValues(error);
  const isWhole = text === describe(error);
  const words = [
    `${text.replace(/\.$/, '')}.`,
    isWhole ? error.detail : '',
    remedies[state] ?? (isWhole ? error.hint : ''),
  ];
  const isTransient = state === '55P03' || state === '57014';
  const exitCode = state === '42501' ? ExitCode.denied : isTransient ? ExitCode.unavailable : ExitCode.usage;
  return new WorkerError(code, `${intro}: ${words.filter(Boolean).join(' ')}`, { exitCode, cause: error });
}
