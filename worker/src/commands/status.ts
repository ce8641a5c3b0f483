/**
 * `fencepost status`: which worker delivers, how far behind it is, what waits, how well each key type is served, what failed.
 */
import { explainDatabaseError } from '../db/errors.ts';
import { ALIVE_MS } from '../db/lock-holders.ts';
import { Pending } from '../db/pending.ts';
import { checkQueueTables } from '../diagnostics/doctor/queue-checks.ts';
import { type HitRate, meetsTarget } from '../diagnostics/status/hit-rates.ts';
import { RecordedDay } from '../diagnostics/status/recorded-day.ts';
import {
  type CacheState,
  type DatabaseState,
  readCacheState,
  readDatabaseState,
} from '../diagnostics/status/status.ts';
import { ExitCode } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { withPending } from '../queue/pending-work.ts';
import type { QueueCounts } from '../queue/work-queue.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson, table } from './output.ts';

const COUNT_TO = 1_000_000;

export interface Status extends DatabaseState, CacheState {
  readonly queue: QueueCounts | null;
  readonly problems: readonly string[];
}

export function status(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ pool, cache, queue, configuration }) => {
    const databaseState = await readDatabaseState(pool, COUNT_TO);
    const cacheState = await readCacheState(cache, new RecordedDay(cache));
    const problems = [...databaseState.problems, ...cacheState.problems];
    const countQueue = async (): Promise<QueueCounts | null> => {
      try {
        const broken = (await checkQueueTables(pool, configuration)).filter(
          ({ verdict }) => verdict === 'fail',
        );
        problems.push(...broken.map(({ detail, remedy }) => `The queue: ${detail}. ${remedy}`));
        if (broken.length > 0) return null;
        return withPending(await queue().counts(), await new Pending(pool).counts());
      } catch (error) {
        problems.push(explainDatabaseError(error, configuration.databaseUrl).message);
        return null;
      }
    };
    const result: Status = { ...databaseState, ...cacheState, queue: await countQueue(), problems };
    if (json) printJson(result);
    else show(result);
    return ExitCode.ok;
  });
}

function show(state: Status): void {
  const { leader, outbox, throttled, queue, consistency } = state;
  const rows: string[][] = [
    [
      'worker',
      leader === null && !state.contested
        ? paint('fail', 'none delivers: start one with "fencepost run"')
        : `${leadership(state)}, ${state.workers} running${
            state.unfit === 0
              ? ''
              : `, ${paint('fail', `${state.unfit} of them could not take over`)}: see its /readyz or log`
          }`,
    ],
    [
      'outbox',
      outbox.rows === 0 ? 'empty' : `${outbox.rows} rows, the oldest ${duration(outbox.oldestMs)} old`,
    ],
    [
      'throttled',
      throttled.waiting === 0
        ? 'none waits'
        : `${throttled.waiting} wait${throttled.dueInMs === null ? '' : `, the next is due in ${duration(throttled.dueInMs)}`}`,
    ],
    [
      'heartbeat',
      state.heartbeat === 'alive'
        ? paint('ok', 'alive')
        : paint('warn', state.heartbeat ?? 'unknown: Redis did not say'),
    ],
    [
      'queue',
      queue === null
        ? 'unknown'
        : `${queue.waiting} waiting, ${queue.active} active, ${queue.delayed} delayed, ${
            queue.failed === 0
              ? 'no dead letters'
              : paint('warn', `${queue.failed} dead letters: "fencepost retry"`)
          }`,
    ],
    [
      'consistency',
      consistency === null
        ? state.heartbeat === null
          ? 'unknown: Redis did not say'
          : 'not audited in the last week: "fencepost audit"'
        : consistency.stale.length === 0
          ? `${consistency.compared} entries compared ${duration(Date.now() - Date.parse(consistency.at))} ago, none stale`
          : paint('fail', `${consistency.stale.length} of ${consistency.compared} entries stale`),
    ],
  ];
  print(table(rows));
  if (state.hitRates !== null && state.hitRates.length > 0) {
    print();
    print(table([['TYPE', 'READS', 'HIT RATE', 'TARGET'], ...state.hitRates.map(hitRateRow)]));
  }
  for (const problem of state.problems) print(`\n${paint('fail', 'problem')}  ${problem}`);
}

function leadership({ leader }: Status): string {
  if (leader === null) return paint('warn', 'delivering without the leader lock');
  return leader.silentMs > ALIVE_MS ? paint('warn', 'silent') : paint('ok', 'leading');
}

function hitRateRow({ type, reads, hitRate, target }: HitRate): string[] {
  const percent = (share: number | null) => (share === null ? '-' : `${(share * 100).toFixed(1)} %`);
  const shown = meetsTarget({ hitRate, target }) ? percent(hitRate) : paint('warn', percent(hitRate));
  return [type, String(reads), shown, percent(target)];
}
