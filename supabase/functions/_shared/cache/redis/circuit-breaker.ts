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
 * changes nothing once it is open. The pause returns to its start only after a real call of the kind that failed has succeeded,
 * so a Redis that answers probes and reads, and keeps writes waiting, is left alone for longer and longer.
 */
import type { Runtime } from './runtime.ts';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/** Probes are reads, so only a write shows that writes are answered again. */
export type Purpose = 'read' | 'write';

type State = { name: 'closed' } | { name: 'open'; until: number } | { name: 'probing' };

export class Circuit {
  readonly #runtime: Runtime;
  readonly #probe: () => Promise<unknown>;
  #state: State = { name: 'closed' };
  #pause = FIRST_PAUSE_MS;
  /** What failed last; null once that has succeeded again. */
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
    // Jitter keeps many isolates from probing a recovering Redis at one moment.
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
