/**
 * `fencepost watch TABLE TARGET`: declares a watch, and prints the statement to keep in a migration. Whether it can be
 * watched is the SQL's knowledge (cache_invalidation.watch()), whose words are passed on. Only the table's owner may.
 */
import pg from 'pg';
import { errorCode } from '../db/errors.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson } from './output.ts';

export interface WatchDeclaration {
  readonly table: string;
  readonly target: string;
  readonly columns?: readonly string[] | undefined;
  readonly minInterval?: string | undefined;
  readonly join?: string | undefined;
}

/** Of classes 22 (data), 3F (no such schema), 42 (names, types and rights), 0A (not supported) and 55 (not in this state): the declaration's fault. */
const DECLARATION_AT_FAULT = /^(22|3F|42|0A|55)/;
const PRIVILEGE = '42501';
/** Somebody uses the table: the same call may succeed a moment later. */
const LOCK_TIMEOUT = '55P03';

export function watch(
  variables: NodeJS.ProcessEnv,
  declaration: WatchDeclaration,
  json: boolean,
): Promise<ExitCode> {
  return withContext(variables, async ({ pool }) => {
    const client = await pool.connect();
    const warnings: string[] = [];
    client.on('notice', ({ message }) => {
      if (message !== undefined) warnings.push(message);
    });
    try {
      await client.query(
        'select cache_invalidation.watch($1::text::regclass, $2, $3, $4::text::interval, $5)',
        [
          declaration.table,
          declaration.target,
          declaration.columns ?? null,
          declaration.minInterval ?? null,
          declaration.join ?? null,
        ],
      );
    } catch (error) {
      throw refusal(error);
    } finally {
      client.release();
    }
    const statement = statementFor(declaration);
    if (json) printJson({ watched: declaration, statement, warnings });
    else {
      print(`${paint('ok', 'watched')}  ${declaration.table}  ${declaration.target}`);
      for (const warning of warnings) print(`${paint('warn', 'note')}  ${warning}`);
      print('\nKeep it in a migration, so that every copy of the database has it:\n');
      print(statement);
    }
    return ExitCode.ok;
  });
}

/** The same declaration as SQL. */
export function statementFor({ table, target, columns, minInterval, join }: WatchDeclaration): string {
  const literal = pg.escapeLiteral;
  const named = [
    columns === undefined ? null : `columns => array[${columns.map(literal).join(', ')}]`,
    minInterval === undefined ? null : `min_interval => ${literal(minInterval)}`,
    join === undefined ? null : `"join" => ${literal(join)}`,
  ];
  const parameters = [literal(table), literal(target), ...named.filter((text) => text !== null)];
  return `select cache_invalidation.watch(${parameters.join(', ')});`;
}

/** What Postgres said, with its hint, if the declaration is at fault; anything else is for the caller to explain. */
function refusal(error: unknown): unknown {
  const code = errorCode(error);
  if (!DECLARATION_AT_FAULT.test(code) || !(error instanceof pg.DatabaseError)) return error;
  // The schema or the function is missing: the database is not set up, whatever is declared.
  if (/^(3F000|42883)$/.test(code) && error.message.includes('cache_invalidation')) return error;
  const message = describe(error).replace(/\.$/, '');
  const detail = error.detail === undefined ? '' : ` ${error.detail}`;
  const hint = error.hint === undefined ? '' : ` ${error.hint}`;
  const exitCode =
    code === PRIVILEGE ? ExitCode.denied : code === LOCK_TIMEOUT ? ExitCode.unavailable : ExitCode.usage;
  const remedy =
    code === PRIVILEGE && hint === ''
      ? ' Connect as the owner of the table: DATABASE_URL=… npx fencepost watch …'
      : hint;
  return new WorkerError('WATCH_REFUSED', `This cannot be watched: ${message}.${detail}${remedy}`, {
    exitCode,
    cause: error,
  });
}
