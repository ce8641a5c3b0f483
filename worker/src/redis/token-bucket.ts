/**
 * Token bucket for bisecting refused targets: burst 256, refill 50/s.
 *
 * The burst finds a few refused targets within their batch. The refill bounds what bisecting costs in the long run: every
 * request is billed, and takes the place of another one.
 */

const BURST = 256;
const REFILL_PER_SECOND = 50;

export class TokenBucket {
  readonly #burst: number;
  readonly #refillPerSecond: number;
  readonly #now: () => number;
  #tokens: number;
  #filledAt: number;

  /** @param now milliseconds of a monotonic clock */
  constructor(
    burst = BURST,
    refillPerSecond = REFILL_PER_SECOND,
    now: () => number = () => performance.now(),
  ) {
    this.#burst = burst;
    this.#refillPerSecond = refillPerSecond;
    this.#now = now;
    this.#tokens = burst;
    this.#filledAt = now();
  }

  /** Takes a token. @returns false when there is none */
  take(): boolean {
    const now = this.#now();
    const refill = ((now - this.#filledAt) / 1_000) * this.#refillPerSecond;
    this.#tokens = Math.min(this.#burst, this.#tokens + refill);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
