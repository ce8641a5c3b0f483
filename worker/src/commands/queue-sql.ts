/**
 * `fencepost queue-sql`: prints the SQL that installs the queue's tables, for teams whose worker may create nothing. It needs
 * no environment and no connection.
 */
import { ExitCode } from '../lib/errors.ts';
import { queueSql } from '../queue/install.ts';

export async function queueSqlCommand(): Promise<ExitCode> {
  // Not through `print`, which replaces characters that a terminal would act on.
  process.stdout.write(await queueSql());
  return ExitCode.ok;
}
