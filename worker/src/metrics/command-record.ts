/**
 * Writes down how many commands this worker sends, beside what the readers' isolates send (_shared/cache/protocol/statistics.ts), so that
 * `fencepost cost` can add up what all of them together cost.
 *
 * Once in so many commands, so that the record itself costs less than one command in a hundred and an idle worker's next to nothing;
 * what was sent since the last time is lost when the worker ends.
 */
import { randomUUID } from 'node:crypto';
import {
  KEPT_SECONDS,
  statisticsKey,
  WORKER_COMMANDS,
} from '../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import type { CacheServer } from '../redis/upstash.ts';

/** An idle worker sends 132 in an hour, so it writes 380 times in 30 days: 760 commands. */
const FLUSH_COMMANDS = 250;

export class CommandRecord {
  readonly #cache: Pick<CacheServer, 'record'>;
  readonly #sent: () => number;
  readonly #field = randomUUID();
  #recorded = 0;
  /** The next attempt is made when so many were sent. */
  #due = FLUSH_COMMANDS;
  /** What the hour's hash holds of this worker. */
  #hour = { key: '', commands: 0 };
  #writing = false;

  /**
   * @param sent how many commands this worker has sent since its start
   */
  constructor(cache: Pick<CacheServer, 'record'>, sent: () => number) {
    this.#cache = cache;
    this.#sent = sent;
  }

  /** Writes if there is enough to write down. Never rejects, never waits: a count that fails is made good by the next. */
  poke(now: number = Date.now()): void {
    if (this.#writing || this.#sent() < this.#due) return;
    this.#writing = true;
    void this.#write(now).finally(() => {
      this.#writing = false;
    });
  }

  async #write(now: number): Promise<void> {
    const key = statisticsKey(now);
    // the two commands of the record among them
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
      // A token without this right, or a Redis that is away, which the drain reports: nothing depends on the count.
    }
  }
}
