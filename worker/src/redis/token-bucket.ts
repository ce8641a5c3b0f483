/**
 * How many requests may be spent on telling refused targets from the others: many at once, so that a few culprits in a
 * page are found within the page, and few a second in the long run, since every request is billed and takes the place of
 * somebody else's.
 */

const AT_ONCE = 256;
const A_SECOND = 50;

export class Allowance {
  readonly #atOnce: number;
  readonly #aSecond: number;
  readonly #now: () => number;
  #left: number;
  #at: number;

  /** @param now milliseconds of a monotonic clock */
  constructor(atOnce = AT_ONCE, aSecond = A_SECOND, now: () => number = () => performance.now()) {
    this.#atOnce = atOnce;
    this.#aSecond = aSecond;
    this.#now = now;
    this.#left = atOnce;
    this.#at = now();
  }

  /** Takes one request, if there is one left. */
  take(): boolean {
    const now = this.#now();
    this.#left = Math.min(this.#atOnce, this.#left + ((now - this.#at) / 1_000) * this.#aSecond);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
