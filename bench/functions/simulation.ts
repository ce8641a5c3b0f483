/** Parts of a simulation: a schedule in virtual time, seeded random numbers, and a database that authorises everybody. */
import type { Database } from '../../supabase/functions/_shared/auth/database.ts';

/** Runs events in the order of their times; each is over before the next begins. */
export class Schedule {
  #events: { readonly at: number; readonly run: () => unknown }[] = [];
  #next = 0;
  #isRunning = false;

  /** Adds an event, also while the schedule runs. */
  at(at: number, run: () => unknown): void {
    if (!this.#isRunning) {
      this.#events.push({ at, run });
      return;
    }
    let index = this.#next;
    while ((this.#events[index]?.at ?? Number.POSITIVE_INFINITY) <= at) index += 1;
    this.#events.splice(index, 0, { at, run });
  }

  /** @param setTime is told the time before each event */
  async run(setTime: (at: number) => void): Promise<void> {
    this.#events.sort((a, b) => a.at - b.at);
    this.#isRunning = true;
    for (let event = this.#events[this.#next]; event !== undefined; event = this.#events[this.#next]) {
      this.#next += 1;
      setTime(event.at);
      await event.run();
    }
  }
}

/** Mulberry32: one seed gives the same numbers on every machine. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const member = { role: 'member' };
const row = {
  quotas: {
    provider: null,
    model: null,
    limit: 1_000_000,
    used: 1,
    period: 'month',
    resets_at: '2999-01-01T00:00:00.000Z',
  },
  usage: { totals: {}, by_model: [], by_day: [] },
  model_prices: { currency: 'USD', input_per_mtok: '1', cached_input_per_mtok: null, output_per_mtok: '2' },
};

/** A database in which everyone is a member and every row exists. */
export function answersOf(): Database {
  return {
    async query(caller, build) {
      let asked = '';
      const chain: Record<string, unknown> = {};
      for (const step of ['select', 'eq', 'maybeSingle']) chain[step] = () => chain;
      build({
        rpc: (name: string) => {
          asked = name;
          return chain;
        },
        from: (table: string) => {
          asked = table;
          return chain;
        },
      } as unknown as Parameters<typeof build>[0]);
      const own = { user_id: caller.kind === 'user' ? caller.userId : null };
      switch (asked) {
        case 'quota_answer':
          return { authorised: true, member, value: row.quotas };
        case 'usage_answer':
          return { authorised: true, member, value: row.usage };
        case 'model_prices':
          return row.model_prices;
        default:
          return own;
      }
    },
    queryPublic: () => Promise.resolve(null),
  };
}
