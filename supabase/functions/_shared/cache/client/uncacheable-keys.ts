/**
 * Keys whose last load gave what cannot be kept: JSON would change it, it is too large, or it is an absence that the call does
 * not keep. A lease would only make loads wait for each other that have nothing to give each other, so for a minute
 * after such a load this isolate neither takes one for the key nor waits for one. It is a hint and no more: forgetting a
 * key, or remembering it wrongly, costs a wait or a load.
 */
import type { Runtime } from '../redis/runtime.ts';

const REMEMBERED_MS = 60_000;
const MOST_KEYS = 1_000;

export class UnkeptKeys {
  readonly #runtime: Runtime;
  /** Until when each is remembered, by the monotonic clock; in the order in which they were noted. */
  readonly #until = new Map<string, number>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  has(key: string): boolean {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (this.#runtime.monotonic() < until) return true;
    this.#until.delete(key);
    return false;
  }

  /** The last value of this key could be kept, or not. */
  note(key: string, kept: boolean): void {
    this.#until.delete(key);
    if (kept) return;
    this.#until.set(key, this.#runtime.monotonic() + REMEMBERED_MS);
    if (this.#until.size <= MOST_KEYS) return;
    for (const oldest of this.#until.keys()) {
      this.#until.delete(oldest);
      break;
    }
  }
}
