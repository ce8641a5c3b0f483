/**
 * Whether a stranger keeps lock K, the doorbell, from this worker. Invalidations flow all the same: the worker polls and
 * writers stay as they are. But it never sleeps, so somebody should know, once, who it is and what to do.
 *
 * Looked at only while this worker leads and has not slept between two looks: one query every few seconds then, none otherwise.
 * Only who is seen at two looks in a row counts: a writer in the instant of its commit resembles a stranger.
 */

import { type Holder, seenAgain } from '../../db/lock-holders.ts';
import type { Role } from '../../wakeup/leader-election.ts';
import type { DoorbellState } from '../../wakeup/sleep-protocol.ts';

export interface BellLockParts {
  holders(): Promise<readonly Holder[]>;
  /** Another stranger than before; null: none any more. */
  onChange(holder: Holder | null): void;
}

export class BellLock {
  readonly #parts: BellLockParts;
  #stranger: Holder | null = null;
  #wasAwake = false;
  /** What the look before saw. */
  #seen: readonly Holder[] = [];

  constructor(parts: BellLockParts) {
    this.#parts = parts;
  }

  /** Who holds K and is no worker. */
  get stranger(): Holder | null {
    return this.#stranger;
  }

  /** Called every few seconds. Never rejects. */
  async look(role: Role, state: DoorbellState | null): Promise<void> {
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
      // The database is away; the drain says so.
    }
  }

  #settle(stranger: Holder | null): void {
    if (stranger?.pid === this.#stranger?.pid) return;
    this.#stranger = stranger;
    this.#parts.onChange(stranger);
  }
}
