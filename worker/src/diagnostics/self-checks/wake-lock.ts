/**
 * Whether a foreign session holds WAKE_LOCK. Invalidations flow all the same, because the worker polls, but it never sleeps. So
 * the log names the session once, with the remedy.
 *
 * Checked only while this worker leads and has been awake at two checks in a row: one query every 2 s then, none otherwise.
 * Only a session seen twice in a row counts, because a writer in the instant of its commit looks the same.
 */

import { type Holder, seenAgain } from '../../db/lock-holders.ts';
import type { Role } from '../../wakeup/leader-election.ts';
import type { SleepState } from '../../wakeup/sleep-protocol.ts';

export interface WakeLockCheckParts {
  holders(): Promise<readonly Holder[]>;
  /** Another foreign session than before; null: none any more. */
  onChange(holder: Holder | null): void;
}

export class WakeLockCheck {
  readonly #parts: WakeLockCheckParts;
  #foreign: Holder | null = null;
  #wasAwake = false;
  /** What the last query returned. */
  #seen: readonly Holder[] = [];

  constructor(parts: WakeLockCheckParts) {
    this.#parts = parts;
  }

  /** The foreign session that holds WAKE_LOCK. */
  get foreign(): Holder | null {
    return this.#foreign;
  }

  /** Called every 2 s. Never rejects. */
  async check(role: Role, state: SleepState | null): Promise<void> {
    const awake = role === 'leading' && state === 'awake';
    const long = awake && this.#wasAwake;
    this.#wasAwake = awake;
    if (!awake) this.#settle(null);
    if (!long) {
      this.#seen = [];
      return;
    }
    try {
      const seen = await this.#parts.holders();
      const twice = seenAgain(this.#seen, seen);
      this.#seen = seen;
      this.#settle(twice.find((holder) => holder.lock === 'wake') ?? null);
    } catch {
      // The database is away, which delivery reports.
    }
  }

  #settle(foreign: Holder | null): void {
    if (foreign?.pid === this.#foreign?.pid) return;
    this.#foreign = foreign;
    this.#parts.onChange(foreign);
  }
}
