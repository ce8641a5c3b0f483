/**
 * Whether a stranger keeps lock K, the doorbell, from this worker. Invalidations flow all the same: the worker polls and
 * writers stay as they are. But it never sleeps, so somebody should know, once, who it is and what to do.
 *
 * Looked at only while this worker leads and has not slept between two looks: one query every few seconds then, none otherwise.
 */
import type { DoorbellState } from '../doorbell/doorbell.ts';
import type { Holder } from '../doorbell/holders.ts';
import type { Role } from '../doorbell/leadership.ts';

export interface BellLockParts {
  holders(): Promise<readonly Holder[]>;
  /** Another stranger than before; null: none any more. */
  onChange(holder: Holder | null): void;
}

export class BellLock {
  readonly #parts: BellLockParts;
  #stranger: Holder | null = null;
  #wasAwake = false;

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
    if (!long) return;
    try {
      const holders = await this.#parts.holders();
      this.#settle(holders.find((holder) => holder.lock === 'K' && holder.stranger) ?? null);
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

/** One sentence with the remedy, for the log and /readyz. */
export function describeStranger({ pid, role, application }: Holder): string {
  return `The doorbell's lock K is held by process ${pid} of role ${role} (${application || 'no name'}), which is no worker: invalidations flow, but this worker cannot sleep. End that session: select pg_terminate_backend(${pid}).`;
}
