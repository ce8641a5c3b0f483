/**
 * `fencepost watch TABLE TARGET`: declares a watch, and prints the statement to keep in a migration. cache_invalidation.watch()
 * decides whether a table can be watched, and its message is passed on. Only the table's owner may declare.
 */
import pg from 'pg';
import { errorCode } from '../db/errors.ts';
import { refusal } from '../db/foreign-statement.ts';
import { describe, ExitCode } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson } from './output.ts';

export interface WatchDeclaration {
  readonly table: string;
  readonly target: string;
  readonly columns?: readonly string[] | undefined;
  readonly minInterval?: string | undefined;
  readonly join?: string | undefined;
}

const REMEDIES = {
  '42501': 'Connect as the owner of the table: DATABASE_URL=… npx fencepost watch …',
  '55P03': 'A session holds a lock on the table, or on Fencepost’s: try again.',
};

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
      if (isNotMigrated(error)) throw error;
      const hasHint = error instanceof pg.DatabaseError && error.hint !== undefined;
      throw refusal(error, 'WATCH_REFUSED', 'This cannot be watched', hasHint ? {} : REMEDIES, true);
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
function statementFor({ table, target, columns, minInterval, join }: WatchDeclaration): string {
  const literal = pg.escapeLiteral;
  const named = [
    columns === undefined ? null : `columns => array[${columns.map(literal).join(', ')}]`,
    minInterval === undefined ? null : `min_interval => ${literal(minInterval)}`,
    join === undefined ? null : `"join" => ${literal(join)}`,
  ];
  const parameters = [literal(table), literal(target), ...named.filter((text) => text !== null)];
  return `select cache_invalidation.watch(${parameters.join(', ')});`;
}

/** The schema or the function is missing: then the database is not set up, whatever is declared. */
function isNotMigrated(error: unknown): boolean {
  return /^(3F000|42883)$/.test(errorCode(error)) && describe(error).includes('cache_invalidation');
}
