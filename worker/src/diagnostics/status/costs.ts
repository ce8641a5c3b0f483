/** What the readers and the worker cost at Upstash: the commands of the last day, and a month at that rate. */
import {
  sumCommands,
  sumStatistics,
} from '../../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import { dollars, SECONDS_A_MONTH } from '../../metrics/command-record.ts';
import type { RecordedHour } from './recorded-day.ts';

/** Commands, as Upstash bills them. */
export interface Bill {
  readonly commands: number;
  /** In 30 days at this rate; null until the record has a whole hour. */
  readonly monthly: number | null;
  readonly dollars: number | null;
}

export interface Costs {
  /** The hour with which the record begins, in UTC, at most 24 hours ago; null: nothing was recorded. */
  readonly since: string | null;
  readonly readers: Bill;
  readonly worker: Bill;
  readonly together: Bill;
  readonly reads: number;
  /** How often they asked the database. */
  readonly loads: number;
}

const HOUR_MS = 3_600_000;

/** @param now milliseconds since 1970 */
export function costs(day: readonly RecordedHour[], now: number): Costs {
  // The record begins within its first hour, so the rate counts whole hours from the second on. Hours without a record count too.
  const first = Math.min(...day.filter(({ fields }) => fields.length > 0).map(({ startedAt }) => startedAt));
  const wholeFrom = first + HOUR_MS;
  const hours = (now - wholeFrom) / HOUR_MS;
  const fields = day.flatMap((hour) => hour.fields);
  const sent = sumCommands(fields);
  const atRate = sumCommands(day.flatMap((hour) => (hour.startedAt >= wholeFrom ? hour.fields : [])));
  const bill = (commands: number, ofWholeHours: number): Bill => {
    const monthly = hours >= 1 ? Math.round((ofWholeHours / hours) * (SECONDS_A_MONTH / 3600)) : null;
    return { commands, monthly, dollars: monthly === null ? null : dollars(monthly) };
  };
  let reads = 0;
  let loads = 0;
  for (const counts of sumStatistics(fields).values()) {
    reads += counts.hits + counts.misses;
    loads += counts.loads;
  }
  return {
    since: Number.isFinite(first) ? new Date(first).toISOString() : null,
    readers: bill(sent.readers, atRate.readers),
    worker: bill(sent.worker, atRate.worker),
    together: bill(sent.readers + sent.worker, atRate.readers + atRate.worker),
    reads,
    loads,
  };
}
