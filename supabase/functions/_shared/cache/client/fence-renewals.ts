/**
 * Which fences a store has to keep alive. Most stores renew none: a fence lives eight times as long as its entries, and its value says
 * when it was made (protocol/fence-value.ts).
 *
 * A fence is renewed when half of its life is over, when what is left is shorter than the entry, or when its times cannot be read or lie
 * in the future. Its value stays as it is, so this isolate remembers what it has renewed. A forgotten note costs one command.
 */
import { fenceSeconds, fenceTimes } from '../protocol/fence-value.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Write } from '../redis/writes.ts';

const MOST_FENCES = 10_000;

interface Renewed {
  readonly value: string;
  /** Seconds since 1970. */
  readonly madeAt: number;
  readonly seconds: number;
}

export class FenceRenewals {
  readonly #runtime: Runtime;
  readonly #renewed = new Map<string, Renewed>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /**
   * The renewals that entries need which are about to be stored.
   * @param fences each fence's name, its value, and the milliseconds that the longest-lived entry under it may live
   */
  due(fences: Iterable<readonly [name: string, value: string, longestMs: number]>): Write[] {
    const now = Math.floor(this.#runtime.now() / 1_000);
    const seconds = new Map<string, number>();
    for (const [name, value, longestMs] of fences) {
      const known = this.#renewed.get(name);
      const times = known?.value === value ? known : fenceTimes(value);
      if (times !== null && isLongEnough(times.madeAt, times.seconds, longestMs / 1_000, now)) continue;
      const lives = Math.max(fenceSeconds(longestMs), times?.seconds ?? 0, seconds.get(name) ?? 0);
      seconds.set(name, lives);
      this.#remember(name, { value, madeAt: now, seconds: lives });
    }
    return [...seconds].map(([key, lives]) => ({ op: 'renew', key, seconds: lives }));
  }

  #remember(name: string, renewed: Renewed): void {
    this.#renewed.delete(name);
    this.#renewed.set(name, renewed);
    if (this.#renewed.size <= MOST_FENCES) return;
    for (const oldest of this.#renewed.keys()) {
      this.#renewed.delete(oldest);
      break;
    }
  }
}

function isLongEnough(madeAt: number, seconds: number | null, entrySeconds: number, now: number): boolean {
  if (seconds === null) return true;
  const age = now - madeAt;
  return age >= 0 && age <= seconds / 2 && seconds - age >= entrySeconds;
}
