/**
 * The circuit breaker: a Redis that is away costs one call its timeout, and nothing after that until it is back.
 *
 *            a call fails                       the pause is over and somebody asks
 *   CLOSED ───────────────▶ OPEN(until) ─────────────────────────────────▶ PROBING
 *     ▲                      ▲                                                │
 *     │                      └───────────── the probe fails, pause doubled ───┤
 *     └──────────────────────────────────── the probe succeeds ───────────────┘
 *
 * Invariant: while the circuit is not CLOSED no caller waits for Redis. The probe runs in the background, one at a time,
 * so that the way back costs no reader a timeout either. A late result of a call that began while the circuit was closed
 * changes nothing once it is open. The pause returns to its start only after a real call has succeeded, so a Redis that
 * answers probes and fails calls is left alone for longer and longer.
 */
import type { Runtime } from './runtime.ts';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

type State = { name: 'closed' } | { name: 'open'; until: number } | { name: 'probing' };

export class Circuit {
  readonly #runtime: Runtime;
  readonly #probe: () => Promise<unknown>;
  #state: State = { name: 'closed' };
  #pause = FIRST_PAUSE_MS;

  /** @param probe asks Redis for something small; rejects when that fails */
  constructor(runtime: Runtime, probe: () => Promise<unknown>) {
    this.#runtime = runtime;
    this.#probe = probe;
  }

  /** Whether a call may be made now; starts the probe when its time has come. */
  allows(): boolean {
    const state = this.#state;
    if (state.name === 'closed') return true;
    if (state.name === 'open' && this.#runtime.now() >= state.until) {
      this.#state = { name: 'probing' };
      this.#runtime.background(this.#runProbe());
    }
    return false;
  }

  /** A call succeeded. */
  succeeded(): void {
    if (this.#state.name === 'closed') this.#pause = FIRST_PAUSE_MS;
  }

  /** A call failed. True when this opened the circuit, false when it was open already. */
  failed(): boolean {
    if (this.#state.name !== 'closed') return false;
    this.#open();
    return true;
  }

  #open(): void {
    // Jitter keeps many isolates from probing a recovering Redis at one moment.
    this.#state = {
      name: 'open',
      until: this.#runtime.now() + this.#pause * (0.8 + 0.4 * this.#runtime.random()),
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
