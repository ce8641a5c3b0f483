/**
 * Records how many commands this worker sends, beside what the readers record, so that `fencepost cost` can add up what all of
 * them cost.
 *
 * It writes once in 250 commands: the record costs less than one command in a hundred, and an idle worker's next to nothing.
 * What was sent since the last write is lost when the worker ends.
 */
import { randomUUID } from 'node:crypto';
import {
  KEPT_SECONDS,
  statisticsKey,
  WORKER_COMMANDS,
} from '../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import type { CacheServer } from '../redis/upstash.ts';

/** What Upstash bills, by its price list of November 2026. Plans with a fixed price bill differently. */
const DOLLARS_PER_COMMAND = 0.2 / 100_000;

/** The free plan bills nothing up to here, and refuses everything above. */
export const FREE_COMMANDS_A_MONTH = 500_000;

/** Upstash's month, for projections: 30 days. */
export const SECONDS_A_MONTH = 30 * 86_400;

/** What these commands cost when each is billed. */
export function dollars(commands: number): number {
  return commands * DOLLARS_PER_COMMAND;
}

/** An idle worker sends 135 in an hour, so it writes 389 times in 30 days: 778 commands. */
const FLUSH_COMMANDS = 250;

export class CommandRecord {
  readonly #cache: Pick<CacheServer, 'record'>;
  readonly #sent: () => number;
  readonly #field = randomUUID();
  #recorded = 0;
  /** The number of sent commands at which the next write is due. */
  #due = FLUSH_COMMANDS;
  /** What this worker has written for the current hour. */
  #hour = { key: '', commands: 0 };
  #writing = false;

  /** @param sent how many commands this worker has sent since its start */
  constructor(cache: Pick<CacheServer, 'record'>, sent: () => number) {
    this.#cache = cache;
    this.#sent = sent;
  }

  /** Never rejects, never waits. After a failed write the next one counts its commands too. */
  writeIfDue(now: number = Date.now()): void {
    if (this.#writing || this.#sent() < this.#due) return;
    this.#writing = true;
    void this.#write(now).finally(() => {
      this.#writing = false;
    });
  }

  async #write(now: number): Promise<void> {
    const key = statisticsKey(now);
    // Counts the record's own two commands.
    const sent = this.#sent() + 2;
    this.#due = sent + FLUSH_COMMANDS;
    const before = this.#hour.key === key ? this.#hour.commands : 0;
    const commands = before + sent - this.#recorded;
    try {
      await this.#cache.record(
        key,
        this.#field,
        JSON.stringify({ [WORKER_COMMANDS]: commands }),
        KEPT_SECONDS,
      );
      this.#hour = { key, commands };
      this.#recorded = sent;
    } catch {
      // The token lacks the right, or Redis is away, which delivery reports. Nothing depends on the count.
    }
  }
}
