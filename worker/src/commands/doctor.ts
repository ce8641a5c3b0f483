/**
 * `fencepost doctor`: every precondition, each with what to do when it fails. Exit code 1 if any does. The checks are in
 * ../diagnostics/doctor/, one file for each place that can be wrong.
 */
import { checkDatabaseSide } from '../diagnostics/doctor/database-checks.ts';
import type { Finding } from '../diagnostics/doctor/finding.ts';
import { checkQueueRedis } from '../diagnostics/doctor/queue-checks.ts';
import { checkRedisSide } from '../diagnostics/doctor/redis-checks.ts';
import { ExitCode } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson } from './output.ts';

export function doctor(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ configuration, pool, cache, queue }) => {
    const findings: Finding[] = [
      { name: 'configuration', verdict: 'ok', detail: 'complete and well-formed' },
      ...(await checkDatabaseSide(pool, configuration)),
      ...(configuration.queueRedisUrl === undefined ? [] : [await checkQueueRedis(queue)]),
      ...(await checkRedisSide(cache)),
    ];
    const failed = findings.filter((finding) => finding.verdict === 'fail').length;
    if (json) printJson({ ok: failed === 0, findings });
    else {
      for (const finding of findings) show(finding);
      print();
      print(
        failed === 0
          ? paint('ok', 'Nothing is broken.')
          : paint('fail', `${failed} of ${findings.length} checks failed.`),
      );
    }
    return failed === 0 ? ExitCode.ok : ExitCode.failed;
  });
}

function show({ name, verdict, detail, remedy }: Finding): void {
  const sign = { ok: paint('ok', 'ok  '), warn: paint('warn', 'warn'), fail: paint('fail', 'FAIL') }[verdict];
  print(`${sign}  ${name.padEnd(22)}  ${detail}`);
  if (remedy !== undefined) print(`${' '.repeat(30)}${paint('strong', '→')} ${remedy}`);
}
