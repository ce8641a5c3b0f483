/**
 * The circuit breaker: when Redis is away, one call waits for its timeout and no other call waits until Redis is back.
 *
 *            a call fails                       the pause is over and somebody asks
 *   CLOSED ───────────────▶ OPEN(until) ─────────────────────────────────▶ PROBING
 *     ▲                      ▲                                                │
 *     │                      └───────────── the probe fails, pause doubled ───┤
 *     └──────────────────────────────────── the probe succeeds ───────────────┘
 *
 * Invariant: no caller waits for Redis unless the circuit is CLOSED. One probe at a time runs in the background, so nobody waits
 * for it either. A call that began while the circuit was closed and ends later changes nothing.
 *
 * The pause starts at 1 s and doubles up to 30 s. It returns to 1 s only after a real call of the kind that failed succeeds:
 * a Redis that answers probes and reads but not writes is asked less and less often.
 */
import type { Runtime } from './runtime.ts';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/** A probe is a read, so only a write can show that writes work again. */
export type Purpose = 'read' | 'write';

type State = { name: 'closed' } | { name: 'open'; until: number } | { name: 'probing' };

export class CircuitBreaker {
  readonly #runtime: Runtime;
  readonly #probe: () => Promise<unknown>;
  #state: State = { name: 'closed' };
  #pause = FIRST_PAUSE_MS;
  /** The kind of call that failed last; null once one of that kind has succeeded. */
  #failing: Purpose | null = null;

  /** @param probe asks Redis for something small; rejects when that fails */
  constructor(runtime: Runtime, probe: () => Promise<unknown>) {
    this.#runtime = runtime;
    this.#probe = probe;
  }

  /** Whether a call may be made now; starts the probe when its time has come. */
  allows(): boolean {
    const state = this.#state;
    if (state.name === 'closed') return true;
    if (state.name === 'open' && this.#runtime.monotonic() >= state.until) {
      this.#state = { name: 'probing' };
      this.#runtime.background(this.#runProbe());
    }
    return false;
  }

  /** A call succeeded. */
  succeeded(purpose: Purpose): void {
    if (this.#state.name !== 'closed' || (this.#failing !== null && this.#failing !== purpose)) return;
    this.#failing = null;
    this.#pause = FIRST_PAUSE_MS;
  }

  /** A call failed. True when this opened the circuit, false when it was open already. */
  failed(purpose: Purpose): boolean {
    if (this.#state.name !== 'closed') return false;
    this.#failing = purpose;
    this.#open();
    return true;
  }

  #open(): void {
    // Jitter: many isolates must not probe a recovering Redis at the same moment.
    this.#state = {
      name: 'open',
      until: this.#runtime.monotonic() + this.#pause * (0.8 + 0.4 * this.#runtime.random()),
    };
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  async #runProbe(): Promise<void> {
    try {
      await this.#probe();
      this.#state = { name: 'closed' };
    } catch {
      this.#open();
    }
  }
}
