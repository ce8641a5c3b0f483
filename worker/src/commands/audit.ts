/** `fencepost audit`: compares a sample of the cache with the database. Exit code 1 when an answer is stale. */
import { audit } from '../diagnostics/audit/audit.ts';
import { ExitCode } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson } from './output.ts';

export function auditCommand(variables: NodeJS.ProcessEnv, sample: number, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ cache, pool }) => {
    const result = await audit({ cache, pool }, sample);
    if (json) printJson(result);
    else {
      for (const key of result.stale) print(`${paint('fail', 'stale')}  ${key}`);
      for (const [type, reason] of Object.entries(result.skipped))
        print(`${paint('warn', 'skipped')}  ${type}: ${reason}`);
      const verdict =
        result.stale.length === 0 ? paint('ok', 'consistent') : paint('fail', `${result.stale.length} stale`);
      print(`${verdict}: ${result.compared} entries compared with the database.`);
      if (result.stale.length > 0) {
        print(
          'Is each table that these answers read watched? "fencepost doctor" and "fencepost explain" tell.',
        );
      }
    }
    return result.stale.length === 0 ? ExitCode.ok : ExitCode.failed;
  });
}
